use netloom_api::{
    Client,
    types::{
        AttachAnswer, AttachRequest, Attachment, Chain, Done, MigrateRequest, RebalanceRequest, Rebalanced,
        UpdateRequest,
    },
};

use crate::{
    args::{AttachArgs, AttachmentCommand, ChainCommand, ChainRebalance, ChainShow},
    failure::Failure,
    output::Output,
    route::encoded,
};

pub(super) async fn chain(client: &Client, command: ChainCommand, output: &Output) -> Result<(), Failure> {
    let args = match command {
        ChainCommand::Show(args) => args,
        ChainCommand::Rebalance(args) => return rebalance(client, args, output).await,
    };
    let mut chains: Vec<Chain> = client.get(&chain_route(&args)).await?;
    chains.retain(|chain| args.point.is_none_or(|point| chain.hook.point == point));
    output.show(chains.as_slice())
}

async fn rebalance(client: &Client, args: ChainRebalance, output: &Output) -> Result<(), Failure> {
    let ChainRebalance { chain: ChainShow { device, endpoint, netns, point }, dry_run } = args;
    let request = RebalanceRequest { device, netns, endpoint, point, dry_run };
    let answer: Vec<Rebalanced> = client.post("/v1/chains/rebalance", &request).await?;
    output.show(answer.as_slice())
}

fn chain_route(args: &ChainShow) -> String {
    let device = args.device.as_ref().map(|device| format!("device={}", encoded(device)));
    let netns = args.netns.as_ref().map(|netns| format!("netns={}", encoded(netns.display())));
    let endpoint = args.endpoint.as_ref().map(|endpoint| format!("endpoint={}", encoded(endpoint)));
    let query: Vec<String> = [device, netns, endpoint].into_iter().flatten().collect();
    format!("/v1/chains?{}", query.join("&"))
}

pub(super) async fn attach(client: &Client, args: AttachArgs, output: &Output) -> Result<(), Failure> {
    let mut programs = args.programs.into_iter();
    let request = AttachRequest {
        device: args.device.unwrap_or_default(),
        netns: args.netns,
        endpoint: args.endpoint,
        point: args.point,
        object: args.object,
        program: programs.next(),
        more_programs: programs.collect(),
        all_programs: args.all_programs,
        owner: args.owner,
        priority: args.priority,
        labels: args.labels.into_iter().collect(),
        required: args.required,
        mode: args.mode,
        globals: args.globals.into_iter().collect(),
        shared_maps: args.share_maps,
    };
    output.show(&client.post::<AttachAnswer>("/v1/attachments", &request).await?)
}

pub(super) async fn detach(client: &Client, id: &str, output: &Output) -> Result<(), Failure> {
    done(output, &client.delete(&format!("/v1/attachments/{}", encoded(id))).await?)
}

pub(super) async fn attachment(
    client: &Client,
    command: Option<AttachmentCommand>,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        None | Some(AttachmentCommand::List) => list(client, output).await,
        Some(AttachmentCommand::Update { id, object, program, globals }) => {
            let request = UpdateRequest { object, program, globals: globals.into_iter().collect() };
            let route = format!("/v1/attachments/{}/update", encoded(&id));
            output.show(&client.post::<AttachAnswer>(&route, &request).await?)
        }
        Some(AttachmentCommand::Migrate { id, to }) => {
            let route = format!("/v1/attachments/{}/migrate", encoded(&id));
            let answer: Vec<Attachment> = client.post(&route, &MigrateRequest { to }).await?;
            output.show(answer.as_slice())
        }
    }
}

async fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    output.show(client.get::<Vec<Attachment>>("/v1/attachments").await?.as_slice())
}

/// Shows that a deletion succeeded, and what it left behind.
pub(super) fn done(output: &Output, done: &Done) -> Result<(), Failure> {
    for warning in &done.warnings {
        output.warn(warning);
    }
    output.show(done)
}
