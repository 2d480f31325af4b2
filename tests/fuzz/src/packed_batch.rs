use netloom_core::validate;
use netloom_sdk::{Batch, Socket, Verdict, testing};

/// The same words as sockets that a plugin reads, and as judgements that the host reads.
pub(crate) fn feed(input: &[u8]) {
    let words: Vec<u64> = input.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    sockets(&words);
    judgements(&words, input.first().copied().unwrap_or_default().into());
}

fn sockets(words: &[u64]) {
    let batch = Batch::packed(words);
    assert_eq!(batch.len(), words.len() / 10);
    // As a record and back: each reads like the words it came from.
    let records: Vec<_> = batch.iter().map(record).collect();
    let again = testing::pack(&records);
    for (socket, copy) in batch.iter().zip(Batch::packed(&again).iter()) {
        assert_eq!(fields(socket), fields(copy));
    }
    let odd = |socket: Socket<'_>| Verdict::destroy_if(socket.cookie() % 2 == 1);
    let verdicts: Vec<Verdict> = batch.decide(odd).iter().collect();
    assert!(verdicts.iter().copied().eq(batch.iter().map(odd)));
    assert_eq!(verdicts.len(), batch.len());
}

fn judgements(words: &[u64], asked: usize) {
    match validate::packed_judgements(asked, words) {
        Ok(judged) => {
            assert_eq!(judged.len(), asked);
            assert_eq!(words.len(), asked.div_ceil(64));
            for (at, destroy) in judged.into_iter().enumerate() {
                let word = words.get(at / 64).copied().unwrap_or_default();
                assert_eq!(destroy, word >> (at % 64) & 1 == 1);
            }
        }
        Err(error) => assert!(words.len() != asked.div_ceil(64), "{error}"),
    }
}

fn record(socket: Socket<'_>) -> netloom_sdk::types::BoundSocket {
    netloom_sdk::types::BoundSocket {
        cookie: socket.cookie(),
        netns_cookie: socket.netns_cookie(),
        endpoint: None,
        protocol: socket.protocol(),
        state: socket.state(),
        local: socket.local().into(),
        remote: socket.remote().into(),
        backend: u16::try_from(socket.backend()).unwrap_or(u16::MAX),
        age_ns: socket.age_ns(),
        bytes_sent: socket.bytes_sent(),
        bytes_received: socket.bytes_received(),
    }
}

fn fields(socket: Socket<'_>) -> impl PartialEq + std::fmt::Debug {
    (
        (socket.cookie(), socket.netns_cookie(), socket.age_ns(), socket.local(), socket.remote()),
        (socket.state(), socket.protocol(), socket.backend()),
        (socket.bytes_sent(), socket.bytes_received()),
    )
}
