//! What takes longer than it should is told while it does: where the kernel or a plugin never answers, nothing else
//! would show what waits for it.

use std::{
    fmt,
    pin::pin,
    time::{Duration, Instant},
};

/// Hardly anything on a node takes that long.
const LONG: Duration = Duration::from_secs(10);

/// Waits for something, and tells each time that as long again has passed.
pub(crate) async fn told<T>(what: impl fmt::Display, it: impl Future<Output = T>) -> T {
    each(LONG, it, |passed| tracing::warn!("{what} has taken {} s, and goes on", passed.as_secs())).await
}

async fn each<T>(period: Duration, it: impl Future<Output = T>, tell: impl Fn(Duration)) -> T {
    let started = Instant::now();
    let mut it = pin!(it);
    loop {
        match tokio::time::timeout(period, &mut it).await {
            Ok(ended) => return ended,
            Err(_) => tell(started.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn what_is_slow_is_told_again_and_again_and_ends_as_it_would() {
        let (enough, told) = (Notify::new(), RefCell::new(Vec::new()));
        let slow = async {
            enough.notified().await;
            7
        };
        let ended = each(Duration::from_millis(1), slow, |passed| {
            told.borrow_mut().push(passed);
            if told.borrow().len() == 3 {
                enough.notify_one();
            }
        });
        assert_eq!(ended.await, 7);
        assert!(told.borrow().len() >= 3 && told.borrow().is_sorted());
    }
}
