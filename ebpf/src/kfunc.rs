//! Calls of functions that the kernel lends to programs, whose numbers differ from kernel to kernel.

use object::{Object, ObjectSection, SectionKind};

use crate::SOCKDESTROY;

/// A call (0x85) of a kernel function (source register 2), its number still 0.
const CALL: [u8; 8] = [0x85, 0x20, 0, 0, 0, 0, 0, 0];

/// The calls are not where they should be: the object was not built from this crate's source.
#[derive(Debug, thiserror::Error)]
#[error("the object calls no kernel function: build netloom-ebpf anew")]
pub struct NoCall;

/// The object [`SOCKDESTROY`] for a kernel in whose type information `bpf_sock_destroy` has this number.
///
/// # Errors
/// [`NoCall`].
pub fn socket_destroyer_with(function: u32) -> Result<Vec<u8>, NoCall> {
    calling(SOCKDESTROY, function)
}

/// An object with the number of the one kernel function that its programs call, written as the instruction itself
/// (`.8byte 0x2085`).
///
/// # Errors
/// [`NoCall`] if they call none.
pub fn calling(object: &[u8], function: u32) -> Result<Vec<u8>, NoCall> {
    let mut bytes = object.to_vec();
    let mut calls = 0;
    for (start, length) in programs(object).ok_or(NoCall)? {
        let program = bytes.get_mut(start..start + length).ok_or(NoCall)?;
        for instruction in program.as_chunks_mut::<8>().0 {
            if *instruction == CALL {
                let [a, b, c, d] = function.to_le_bytes();
                *instruction = [0x85, 0x20, 0, 0, a, b, c, d];
                calls += 1;
            }
        }
    }
    if calls == 0 { Err(NoCall) } else { Ok(bytes) }
}

/// Where the programs are in an object.
fn programs(bytes: &[u8]) -> Option<Vec<(usize, usize)>> {
    let file = object::File::parse(bytes).ok()?;
    let texts = file.sections().filter(|section| section.kind() == SectionKind::Text);
    texts
        .filter_map(|section| section.file_range())
        .map(|(start, length)| Some((start.try_into().ok()?, length.try_into().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_gets_the_number_and_nothing_else_changes() {
        let object = socket_destroyer_with(0x0102_0304).unwrap();
        let changed: Vec<_> = object.iter().zip(SOCKDESTROY).filter(|(new, old)| new != old).collect();
        // Once for TCP and once for UDP.
        assert_eq!(changed.len(), 2 * 4);
        assert!(object.windows(8).any(|bytes| bytes == [0x85, 0x20, 0, 0, 4, 3, 2, 1]));
    }
}
