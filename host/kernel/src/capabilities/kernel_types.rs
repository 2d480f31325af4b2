//! What the kernel's BPF type information names.

use std::{fs, io};

use netloom_core::model::Support;

use super::{missing, there};

const PATH: &str = "/sys/kernel/btf/vmlinux";

/// The strings of the kernel's type information: the names of its types and functions, each between two zeros.
pub(super) struct KernelTypes(io::Result<String>);

impl KernelTypes {
    pub(super) fn read() -> Self {
        Self(
            fs::read(PATH).and_then(|bytes| strings(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())),
        )
    }

    pub(super) fn support(&self) -> Support {
        match &self.0 {
            Ok(_) => there(format!("{PATH} is readable")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing(format!(
                "no {PATH}: the kernel needs CONFIG_DEBUG_INFO_BTF, and sysfs mounted on /sys"
            )),
            Err(error) => missing(format!("{PATH}: {error}")),
        }
    }

    /// Whether there is a function of a name. What the kernel lets BPF programs use or iterate over cannot be
    /// missing here, because it looks them up by their types.
    pub(super) fn has(&self, function: &str) -> Support {
        match &self.0 {
            Ok(names) if names.contains(&format!("\0{function}\0")) => {
                there(format!("{function} is in {PATH}"))
            }
            Ok(_) => missing(format!("{function} is not in {PATH}")),
            Err(_) => missing(format!("{PATH} cannot be read")),
        }
    }
}

/// `struct btf_header` of `include/uapi/linux/btf.h`: the length of the header at 4, and of the strings, after it,
/// the offset at 16 and the length at 20.
fn strings(bytes: &[u8]) -> Option<String> {
    const MAGIC: [u8; 2] = 0xeb9f_u16.to_ne_bytes();
    let number = |at: usize| {
        let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_ne_bytes(bytes)).ok()
    };
    if bytes.get(..2)? != MAGIC {
        return None;
    }
    let start = number(4)?.checked_add(number(16)?)?;
    let end = start.checked_add(number(20)?)?;
    Some(String::from_utf8_lossy(bytes.get(start..end)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_whole() {
        let mut bytes = vec![0; 24];
        bytes[..2].copy_from_slice(&0xeb9f_u16.to_ne_bytes());
        bytes[4..8].copy_from_slice(&24_u32.to_ne_bytes());
        bytes[20..24].copy_from_slice(&11_u32.to_ne_bytes());
        bytes.extend_from_slice(b"\0abc\0abcde\0tail");
        let types = KernelTypes(Ok(strings(&bytes).unwrap()));
        assert!(types.has("abc").available);
        assert!(types.has("abcde").available);
        assert!(!types.has("abcd").available);
        assert!(!types.has("tail").available, "behind the strings");
        assert_eq!(strings(&bytes[..30]), None, "cut short");
        assert_eq!(strings(b"nonsense"), None);
    }
}
