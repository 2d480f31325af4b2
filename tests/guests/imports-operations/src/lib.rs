//! Plans reaps, and destroys sockets on its own: it imports an operation that has to be granted.

use netloom_sdk::{
    host::sockets::{self, Filter},
    prelude::*,
};

#[plugin(socket_reap)]
#[derive(Default)]
struct DestroysByItself;

impl SocketReap for DestroysByItself {
    fn plan(&mut self, _node: &Node, event: &ReapEvent) -> PlanDecision {
        let filter = Filter {
            protocols: Vec::new(),
            states: Vec::new(),
            backends: event.backends.iter().map(|backend| backend.address).collect(),
            netns_cookies: Vec::new(),
            min_age_ns: 0,
        };
        match sockets::iterate(&filter)
            .and_then(|found| found.next(16))
            .and_then(|found| sockets::destroy(&found))
        {
            Ok(outcomes) => info!("destroyed {}", outcomes.len()),
            Err(error) => return PlanDecision::Veto(format!("{error:?}")),
        }
        PlanDecision::Abstain
    }
}
