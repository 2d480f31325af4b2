use netloom_api::{
    Client,
    types::{Done, EndpointView},
};

use super::{if_there, label, name_of, route_of};
use crate::{environment, environment::Attachment, failure::Failure};

/// Deletes the endpoint if it is there. Runtimes call DEL after a failed ADD too, and more than once.
pub(super) async fn run(client: &Client) -> Result<(), Failure> {
    let attachment = environment::attachment()?;
    let route = route_of(&name_of(&attachment)?);
    // An ADD that failed because its name was taken must not cost the name's owner its endpoint.
    let there = if_there(client.get::<EndpointView>(&route)).await?;
    if there.is_some_and(|view| is_of(&view, &attachment)) {
        if_there(client.delete::<Done>(&route)).await?;
    }
    Ok(())
}

fn is_of(view: &EndpointView, attachment: &Attachment) -> bool {
    let labels = &view.endpoint.spec.labels;
    labels.get(label::CONTAINER) == Some(&attachment.container)
        && labels.get(label::INTERFACE) == Some(&attachment.interface)
}
