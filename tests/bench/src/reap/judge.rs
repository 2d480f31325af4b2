//! What it costs to have a plugin judge each socket.

use std::time::Duration;

use anyhow::Context as _;
use netloom_core::model::{
    Backend, BoundSocket, Name, NetnsCookie, Protocol, ReapEvent, ReapReason, ServiceId, SocketCookie,
    SocketState,
};
use netloom_runtime::{HostConfig, LoadRequest, PluginHost, Suspect};

use super::world::dead;
use crate::{
    measure::{in_turn, milliseconds},
    report::Report,
};

const SOCKETS: u64 = 40_960;
const ROUNDS: usize = 30;

/// Both figures, with a plugin that compares ports.
pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let host = PluginHost::new(HostConfig::default())?;
    let request = LoadRequest::new(Name::new("custom-policy")?, netloom_test_components::CUSTOM_POLICY);
    let plugin = runtime.block_on(host.load(request)).context("loading the custom policy")?;
    let backend = Backend { address: dead(), protocol: Protocol::Tcp, service: Name::new("web")? };
    let event = ReapEvent { reason: ReapReason::Removed, backends: vec![backend] };
    let sockets: Vec<BoundSocket> = (0..SOCKETS).map(socket).collect();
    let suspects: Vec<Suspect<'_>> =
        sockets.iter().map(|socket| Suspect { socket, endpoint: None }).collect();
    let judged = |packed: bool| {
        let milliseconds = milliseconds(|| {
            let judged = if packed {
                runtime.block_on(plugin.judge_packed(&event, &suspects))?
            } else {
                runtime.block_on(plugin.judge(&event, &suspects))?
            };
            anyhow::ensure!(judged.len() == suspects.len(), "every socket is judged");
            Ok(())
        })?;
        #[allow(clippy::cast_precision_loss)]
        Ok(milliseconds * 1e6 / SOCKETS as f64)
    };
    let (packed, records) = in_turn(ROUNDS, || judged(true), || judged(false))?;
    report.compare("judge_packed", "ns", &packed, &records)?;
    report.state("judge_record", "ns", &records);
    Ok(())
}

fn socket(cookie: u64) -> BoundSocket {
    BoundSocket {
        cookie: SocketCookie(cookie),
        netns_cookie: NetnsCookie(1 + cookie % 100),
        protocol: Protocol::Tcp,
        state: SocketState::Established,
        local: ([10, 0, 0, 2], 40_000).into(),
        remote: dead(),
        backend: dead(),
        service: ServiceId(1),
        age: Duration::from_secs(1),
        bytes_sent: 1_000,
        bytes_received: 1_000,
    }
}
