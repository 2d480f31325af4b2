use netloom_api::{
    Client,
    types::{MonitorEvent, MonitorKind, MonitorQuery},
};

use crate::{
    args::MonitorArgs,
    failure::Failure,
    output::Output,
    route::{encoded, with_query},
};

/// Shows events as they come, until there were as many as were asked for, or netloomd ends.
pub(super) async fn run(client: &Client, args: &MonitorArgs, output: &Output) -> Result<(), Failure> {
    let mut lines = client.lines(&route(&args.query())).await?;
    let mut seen = 0;
    while args.count.is_none_or(|count| seen < count) {
        let Some(event) = lines.next::<MonitorEvent>().await? else { return Err(Failure::Ended) };
        output.line(&event)?;
        if !matches!(event, MonitorEvent::Lost(_)) {
            seen += 1;
        }
    }
    Ok(())
}

fn route(query: &MonitorQuery) -> String {
    let kind = query.kind.map(|kind| match kind {
        MonitorKind::Drop => "drop".to_owned(),
        MonitorKind::Connect => "connect".to_owned(),
    });
    let conditions = [
        ("endpoint", query.endpoint.as_ref().map(encoded)),
        ("service", query.service.as_ref().map(encoded)),
        ("kind", kind),
        ("reason", query.reason.as_ref().map(encoded)),
    ];
    with_query("/v1/monitor", conditions)
}
