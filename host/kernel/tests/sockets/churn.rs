//! Sockets that are opened and closed at full speed while others are found and destroyed.

use std::{
    collections::{HashSet, VecDeque},
    io::{self, ErrorKind},
    net::UdpSocket,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use netloom_core::model::{DestroyOutcome, Protocol, SocketCookie};
use netloom_kernel::sockets::Ways;

use crate::{
    DEAD, DEAD_VIP, LIVE, LIVE_VIP, in_each_way,
    world::{Room, bound_to, cookie, world},
};

in_each_way!(while_sockets_come_and_go_nothing_stale_is_left_and_nothing_else_is_destroyed);

/// So many sockets a thread holds at a time.
const HELD: usize = 32;

fn while_sockets_come_and_go_nothing_stale_is_left_and_nothing_else_is_destroyed(ways: Ways) {
    let mut world = world();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        world.serve(DEAD_VIP, protocol, DEAD);
        world.serve(LIVE_VIP, protocol, LIVE);
    }
    let rooms = [Room::new(), Room::new()];
    let sockets = world.with(ways);
    let stale = Mutex::new(HashSet::new());
    let (stop, mut destroyed) = (AtomicBool::new(false), HashSet::new());

    let left: Vec<VecDeque<UdpSocket>> = thread::scope(|scope| {
        let (stale, stop) = (&stale, &stop);
        let to_dead: Vec<_> =
            rooms.iter().map(|room| scope.spawn(|| room.run(|| churn_to_the_dead(stale)))).collect();
        let to_living: Vec<_> =
            rooms.iter().map(|room| scope.spawn(|| room.run(|| churn_to_the_living(stop)))).collect();
        let mut reap = || {
            let found = sockets.find(&bound_to(&[DEAD])).unwrap();
            let outcomes = sockets.destroy(&found).unwrap();
            let failed = outcomes.iter().find(|outcome| matches!(outcome, DestroyOutcome::Failed(_)));
            assert_eq!(failed, None, "{ways:?}");
            let done = found.iter().zip(outcomes).filter(|(_, done)| *done == DestroyOutcome::Destroyed);
            destroyed.extend(done.map(|(socket, _)| socket.cookie));
        };
        for _ in 0..6 {
            reap();
        }
        // The backend dies. Who reconnects all the time finds that out, and the last pass finds all of them.
        world.withdraw(DEAD_VIP, Protocol::Udp);
        let left = to_dead.into_iter().map(|thread| thread.join().unwrap()).collect();
        reap();
        stop.store(true, Ordering::Relaxed);
        for thread in to_living {
            thread.join().unwrap();
        }
        left
    });

    assert!(destroyed.is_subset(&stale.into_inner().unwrap()), "{ways:?}: something else was destroyed");
    assert!(destroyed.len() >= left.iter().map(VecDeque::len).sum());
    assert_eq!(sockets.find(&bound_to(&[DEAD])).unwrap(), [], "{ways:?}");
    for socket in left.iter().flatten() {
        assert!(destroyed.contains(&cookie(socket)), "{ways:?}");
    }
}

/// Connects to the dead backend in a tight loop, as long as the service gives it; what is open in the end.
fn churn_to_the_dead(stale: &Mutex<HashSet<SocketCookie>>) -> VecDeque<UdpSocket> {
    let mut held = VecDeque::new();
    while let Ok(socket) = connect(DEAD_VIP) {
        stale.lock().unwrap().insert(cookie(&socket));
        held.push_back(socket);
        if held.len() > HELD {
            held.pop_front();
        }
    }
    held
}

/// The same with the living one, until it is stopped and more than it holds at a time lived to their last moment.
fn churn_to_the_living(stop: &AtomicBool) {
    let (mut held, mut lived) = (VecDeque::new(), 0);
    loop {
        if !stop.load(Ordering::Relaxed) || lived <= HELD {
            held.push_back(connect(LIVE_VIP).unwrap());
            if held.len() <= HELD {
                continue;
            }
        }
        let Some(oldest) = held.pop_front() else { return };
        let end = oldest.recv(&mut [0]).unwrap_err();
        assert_eq!(end.kind(), ErrorKind::WouldBlock, "a socket of the living backend was cut: {end}");
        lived += 1;
    }
}

fn connect(vip: &str) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_nonblocking(true)?;
    socket.connect(vip)?;
    Ok(socket)
}
