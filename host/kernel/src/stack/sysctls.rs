//! Sysctls that change what becomes of forwarded packets.

use std::{fs, io};

use super::Say;

/// In the calling thread's namespace.
pub(super) fn look(say: &mut Say, uplinks: &[String]) -> io::Result<()> {
    for family in ["ipv4", "ipv6"] {
        let policy = read(&format!("net/{family}/fib_multipath_hash_policy"))?;
        if policy.is_some_and(|policy| policy != 0) {
            let what = format!("net.{family}.fib_multipath_hash_policy");
            Say::note(&mut say.outside, || format!("{what} looks at more than addresses"));
        }
    }
    for device in uplinks {
        // The larger of the two holds, and 2 is less strict than 1.
        if rp_filter("all")?.max(rp_filter(device)?) == Some(1) {
            Say::note(&mut say.outside, || format!("rp_filter is strict on {device}"));
        }
    }
    Ok(())
}

fn rp_filter(device: &str) -> io::Result<Option<u32>> {
    read(&format!("net/ipv4/conf/{device}/rp_filter"))
}

/// None if there is no such sysctl, or no such device any more.
fn read(path: &str) -> io::Result<Option<u32>> {
    match fs::read_to_string(format!("/proc/sys/{path}")) {
        Ok(value) => value.trim().parse().map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
