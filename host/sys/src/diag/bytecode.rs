//! The filter language of a dump: conditional forward jumps, `struct inet_diag_bc_op`.

use std::net::{IpAddr, SocketAddr};

const BC_JMP: u8 = 1;
const BC_D_COND: u8 = 8;
const OP_LEN: usize = 4;
const HOSTCOND_LEN: usize = 8;

/// A filter that accepts a socket whose remote address and port are one of `remotes`, none of them v4-mapped.
///
/// A program accepts by jumping to its very end, and rejects by jumping 4 bytes beyond. So each address is a
/// condition that, when it holds, falls into a jump to the end, and else skips that jump; the last one has no
/// jump to skip. The kernel matches an IPv4 condition against v4-mapped sockets by itself.
pub(super) fn remote_filter(remotes: &[SocketAddr]) -> Vec<u8> {
    let sizes: Vec<usize> = remotes.iter().map(|remote| condition_len(*remote)).collect();
    let total = sizes.iter().sum::<usize>() + OP_LEN * remotes.len().saturating_sub(1);
    let mut out = Vec::with_capacity(total);
    for (index, (remote, size)) in remotes.iter().zip(&sizes).enumerate() {
        op(&mut out, BC_D_COND, *size, size + OP_LEN);
        condition(&mut out, *remote);
        if index + 1 < remotes.len() {
            let to_end = total - out.len();
            op(&mut out, BC_JMP, OP_LEN, to_end);
        }
    }
    out
}

fn condition_len(remote: SocketAddr) -> usize {
    OP_LEN + HOSTCOND_LEN + if remote.is_ipv4() { 4 } else { 16 }
}

fn op(out: &mut Vec<u8>, code: u8, yes: usize, no: usize) {
    out.extend([code, yes as u8]);
    out.extend((no as u16).to_ne_bytes());
}

/// `struct inet_diag_hostcond`.
fn condition(out: &mut Vec<u8>, remote: SocketAddr) {
    let (family, bits) = if remote.is_ipv4() { (2u8, 32u8) } else { (10, 128) };
    out.extend([family, bits, 0, 0]);
    out.extend(i32::from(remote.port()).to_ne_bytes());
    match remote.ip() {
        IpAddr::V4(ip) => out.extend(ip.octets()),
        IpAddr::V6(ip) => out.extend(ip.octets()),
    }
}
