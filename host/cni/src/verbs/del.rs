use netloom_api::{
    Asked, Client, QueuedDeletion,
    types::{Done, EndpointView},
};
use netloom_core::model::Name;

use super::{if_there, label, name_of, route_of};
use crate::{config::NetworkConfig, environment, environment::Attachment, failure::Failure};

/// Deletes the endpoint if it is there. Runtimes call DEL after a failed ADD too, and more than once; few of them try
/// again after a failure, so that where netloomd is away, it finds the deletion when it starts.
pub(super) async fn run(client: &Client, config: &NetworkConfig) -> Result<(), Failure> {
    let attachment = environment::attachment()?;
    let name = name_of(&attachment)?;
    let asked = Asked::now();
    match delete(client, &name, &attachment).await {
        Err(Failure::Unavailable(error)) => {
            let deletions = config.deletions();
            let labels =
                [(label::CONTAINER, &attachment.container), (label::INTERFACE, &attachment.interface)];
            let deletion = QueuedDeletion {
                endpoint: name.clone(),
                labels: labels.map(|(key, value)| (key.to_owned(), value.clone())).into(),
                asked_ns: asked.0,
            };
            // Where no netloomd has run since the node was booted, or its files are others', this is told.
            deletions.put(&deletion).map_err(|_| Failure::Unavailable(error))?;
            // It may have begun to answer meanwhile.
            if delete(client, &name, &attachment).await.is_ok() {
                deletions.remove(&name).ok();
            }
            Ok(())
        }
        answer => answer,
    }
}

async fn delete(client: &Client, name: &Name, attachment: &Attachment) -> Result<(), Failure> {
    let route = route_of(name);
    // An ADD that failed because its name was taken must not cost the name's owner its endpoint.
    let there = if_there(client.get::<EndpointView>(&route)).await?;
    if there.is_some_and(|view| is_of(&view, attachment)) {
        if_there(client.delete::<Done>(&route)).await?;
    }
    Ok(())
}

fn is_of(view: &EndpointView, attachment: &Attachment) -> bool {
    let labels = &view.endpoint.spec.labels;
    labels.get(label::CONTAINER) == Some(&attachment.container)
        && labels.get(label::INTERFACE) == Some(&attachment.interface)
}
