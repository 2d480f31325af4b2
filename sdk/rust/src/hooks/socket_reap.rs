use crate::{
    Batch, Socket, Verdict, Verdicts,
    types::{Node, PlanDecision, ReapEvent},
};

/// Socket reaping: which sockets are cut when a backend is gone.
///
/// If it fails, nothing is reaped.
///
/// ```
/// use netloom_sdk::{prelude::*, testing};
///
/// /// Long transfers may finish: a socket that moved more than a gigabyte is spared.
/// #[plugin(socket_reap)]
/// #[derive(Default)]
/// struct SpareTransfers;
///
/// impl SocketReap for SpareTransfers {
///     fn plan(&mut self, _node: &Node, event: &ReapEvent) -> PlanDecision {
///         match event.reason {
///             ReapReason::Terminating => PlanDecision::Abstain,
///             _ => ReapPlan::connected(ReapAction::JudgePacked).into(),
///         }
///     }
///
///     fn judge(&mut self, _event: &ReapEvent, socket: &Socket<'_>) -> Verdict {
///         Verdict::destroy_if(socket.bytes_sent() + socket.bytes_received() < 1 << 30)
///     }
/// }
///
/// let event = testing::event(ReapReason::Removed, [testing::backend("10.0.0.7:443")]);
/// let idle = testing::socket("10.1.0.2:40000", "10.0.0.7:443");
/// let busy = BoundSocket { bytes_sent: 1 << 31, ..idle.clone() };
/// assert_eq!(testing::judge(&mut SpareTransfers, &event, &[idle, busy]), [Verdict::Destroy, Verdict::Spare]);
/// ```
pub trait SocketReap {
    /// What does the host look for, for this event, and what does it do with the matches? If no plugin has a
    /// plan, nothing is reaped.
    fn plan(&mut self, node: &Node, event: &ReapEvent) -> PlanDecision;

    /// Is this socket to be destroyed? Called for each match of a plan whose action is
    /// [`JudgeRecords`](crate::types::ReapAction::JudgeRecords) or, much cheaper a socket,
    /// [`JudgePacked`](crate::types::ReapAction::JudgePacked). Unless implemented: spare it.
    fn judge(&mut self, event: &ReapEvent, socket: &Socket<'_>) -> Verdict {
        let _ = (event, socket);
        Verdict::Spare
    }

    /// Judges a batch of at most 4,096 sockets. Implement it instead of [`judge`](Self::judge) where something
    /// is worth preparing once a batch; unless implemented, it judges one by one.
    fn judge_batch(&mut self, event: &ReapEvent, batch: Batch<'_>) -> Verdicts {
        batch.decide(|socket| self.judge(event, &socket))
    }
}
