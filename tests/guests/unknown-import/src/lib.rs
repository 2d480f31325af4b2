//! Orders chains, and asks an interface that no host offers.

use netloom_sdk::prelude::*;

mod cloud {
    wit_bindgen::generate!({
        inline: r#"
            package acme:cloud@1.0.0;

            interface metadata {
                zone: func() -> string;
            }

            world client {
                import metadata;
            }
        "#,
    });
}

#[plugin(attach_order)]
#[derive(Default)]
struct AsksTheCloud;

impl AttachOrder for AsksTheCloud {
    fn place(&mut self, _node: &Node, _chain: &Chain, _candidate: &Candidate) -> PlaceDecision {
        match cloud::acme::cloud::metadata::zone().as_str() {
            "" => PlaceDecision::Abstain,
            _ => Placement::Head.into(),
        }
    }
}
