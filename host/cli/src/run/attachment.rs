use netloom_api::{
    Client,
    types::{AttachAnswer, AttachRequest, Attachment, Chain, Done},
};

use crate::{
    args::{AttachArgs, ChainCommand, ChainShow},
    failure::Failure,
    output::Output,
    route::encoded,
};

pub(super) async fn chain(
    client: &Client,
    ChainCommand::Show(args): ChainCommand,
    output: &Output,
) -> Result<(), Failure> {
    let mut chains: Vec<Chain> = client.get(&chain_route(&args)).await?;
    chains.retain(|chain| args.point.is_none_or(|point| chain.hook.point == point));
    output.show(chains.as_slice())
}

fn chain_route(args: &ChainShow) -> String {
    let device = args.device.as_ref().map(|device| format!("device={}", encoded(device)));
    let netns = args.netns.as_ref().map(|netns| format!("netns={}", encoded(netns.display())));
    let endpoint = args.endpoint.as_ref().map(|endpoint| format!("endpoint={}", encoded(endpoint)));
    let query: Vec<String> = [device, netns, endpoint].into_iter().flatten().collect();
    format!("/v1/chains?{}", query.join("&"))
}

pub(super) async fn attach(client: &Client, args: AttachArgs, output: &Output) -> Result<(), Failure> {
    let request = AttachRequest {
        device: args.device.unwrap_or_default(),
        netns: args.netns,
        endpoint: args.endpoint,
        point: args.point,
        object: args.object,
        program: args.program,
        owner: args.owner,
        priority: args.priority,
        labels: args.labels.into_iter().collect(),
        required: args.required,
    };
    output.show(&client.post::<AttachAnswer>("/v1/attachments", &request).await?)
}

pub(super) async fn detach(client: &Client, id: &str, output: &Output) -> Result<(), Failure> {
    done(output, &client.delete(&format!("/v1/attachments/{}", encoded(id))).await?)
}

pub(super) async fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    output.show(client.get::<Vec<Attachment>>("/v1/attachments").await?.as_slice())
}

/// Shows that a deletion succeeded, and what it left behind.
pub(super) fn done(output: &Output, done: &Done) -> Result<(), Failure> {
    for warning in &done.warnings {
        output.warn(warning);
    }
    output.show(done)
}
