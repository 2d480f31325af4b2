use std::{
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use netloom_netns_tests::{Endpoint, Node};

/// An address that no endpoint has.
pub(crate) const SPOOFED: &str = "10.99.99.99:4242";

/// While something is done, an endpoint sends packets that are not its to send, and that the datapath drops.
pub(crate) fn while_spoofing<T>(endpoint: &Endpoint, something: impl FnOnce() -> T) -> T {
    let from: SocketAddr = SPOOFED.parse().unwrap();
    let own = endpoint.netns.ip(&["address", "show", "dev", "lo"]);
    if !own.contains(&from.ip().to_string()) {
        endpoint.netns.add_address("lo", &format!("{}/32", from.ip()));
    }
    let socket = endpoint.netns.run(|| UdpSocket::bind(from).unwrap());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // The sender may be told that its packet was dropped.
                drop(socket.send_to(b"spoofed", (Node::ADDRESS, 53)));
                thread::sleep(Duration::from_millis(5));
            }
        });
        let ended = End(&done);
        let something = something();
        drop(ended);
        something
    })
}

/// Ends the sending, also if what it goes along with panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
