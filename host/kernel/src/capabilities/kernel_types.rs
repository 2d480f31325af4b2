//! What the kernel's BPF type information names.

use std::{fs, io};

use netloom_core::model::Support;

use super::{missing, there};

const PATH: &str = "/sys/kernel/btf/vmlinux";

/// The kernel's type information.
pub(super) struct KernelTypes(io::Result<Sections>);

/// Its two parts.
struct Sections {
    /// `struct btf_type`s, each followed by what its kind has more.
    types: Vec<u8>,
    /// The names of types and functions, each between two zeros.
    strings: Vec<u8>,
}

/// `BTF_KIND_FUNC`, and so on, of `include/uapi/linux/btf.h`.
const FUNC: u32 = 12;
const STRUCT: u32 = 4;
const ARRAY: u32 = 3;

impl KernelTypes {
    pub(super) fn read() -> Self {
        Self(
            fs::read(PATH)
                .and_then(|bytes| sections(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())),
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
            Ok(sections) if sections.name(function).is_some() => there(format!("{function} is in {PATH}")),
            Ok(_) => missing(format!("{function} is not in {PATH}")),
            Err(_) => missing(format!("{PATH} cannot be read")),
        }
    }

    /// The id of a function, for programs that call it or are called by it.
    pub(super) fn function(&self, name: &str) -> Option<u32> {
        let sections = self.0.as_ref().ok()?;
        sections.of(FUNC, sections.name(name)?).map(|(id, _)| id)
    }

    /// How many items the array holds that a structure begins with.
    fn first_array(&self, structure: &str) -> Option<u32> {
        let sections = self.0.as_ref().ok()?;
        let (_, structure) = sections.of(STRUCT, sections.name(structure)?)?;
        // A member is its name, its type, its offset.
        let array = sections.all().nth(usize::try_from(number(structure, 12 + 4)?).ok()?.checked_sub(1)?)?;
        // An array is its items' type, its index's type, its length.
        if kind(array)? == ARRAY { number(array, 12 + 8) } else { None }
    }

    /// How many programs a hook takes: the kernel keeps them in an array, with an empty item at the end.
    pub(super) fn chain_limit(&self) -> Support {
        const CHAIN: &str = "bpf_mprog_entry";
        match self.first_array(CHAIN) {
            Some(items) => {
                there(format!("{} programs on a hook, by {CHAIN} in {PATH}", items.saturating_sub(1)))
            }
            None => Support { available: false, ..self.has(CHAIN) },
        }
    }
}

impl Sections {
    /// Where a name begins.
    fn name(&self, name: &str) -> Option<usize> {
        Some(memchr::memmem::find(&self.strings, format!("\0{name}\0").as_bytes())? + 1)
    }

    /// The types, each with all that follows it. Their ids count them from 1.
    fn all(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.types.as_slice();
        std::iter::from_fn(move || {
            let current = rest;
            let info = number(current, 4)?;
            let members = usize::try_from(info & 0xffff).ok()?;
            rest = current.get(12 + more(info >> 24 & 0x1f, members)..)?;
            Some(current)
        })
    }

    /// The type of a kind whose name begins there, and its id.
    fn of(&self, wanted: u32, name: usize) -> Option<(u32, &[u8])> {
        let name = u32::try_from(name).ok()?;
        // Of more than a hundred thousand few have the name.
        (1..).zip(self.all()).find(|(_, each)| number(each, 0) == Some(name) && kind(each) == Some(wanted))
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// What a type is: bits 24 to 28 of the second word of `struct btf_type`.
fn kind(each: &[u8]) -> Option<u32> {
    Some(number(each, 4)? >> 24 & 0x1f)
}

/// How many bytes follow a type of a kind that has so many members: `include/uapi/linux/btf.h`.
fn more(kind: u32, members: usize) -> usize {
    match kind {
        // BTF_KIND_INT, VAR, DECL_TAG
        1 | 14 | 17 => 4,
        // BTF_KIND_ARRAY
        3 => 12,
        // BTF_KIND_STRUCT, UNION, DATASEC, ENUM64
        4 | 5 | 15 | 19 => 12 * members,
        // BTF_KIND_ENUM, FUNC_PROTO
        6 | 13 => 8 * members,
        _ => 0,
    }
}

/// `struct btf_header` of `include/uapi/linux/btf.h`: the length of the header at 4, after it the offset of the types
/// at 8 and their length at 12, and of the strings at 16 and 20.
fn sections(bytes: &[u8]) -> Option<Sections> {
    const MAGIC: [u8; 2] = 0xeb9f_u16.to_ne_bytes();
    let number = |at: usize| usize::try_from(number(bytes, at)?).ok();
    if bytes.get(..2)? != MAGIC {
        return None;
    }
    let section = |offset: usize, length: usize| {
        let start = number(4)?.checked_add(number(offset)?)?;
        Some(bytes.get(start..start.checked_add(number(length)?)?)?.to_vec())
    };
    Some(Sections { types: section(8, 12)?, strings: section(16, 20)? })
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
        let types = KernelTypes(Ok(sections(&bytes).unwrap()));
        assert!(types.has("abc").available);
        assert!(types.has("abcde").available);
        assert!(!types.has("abcd").available);
        assert!(!types.has("tail").available, "behind the strings");
        assert!(sections(&bytes[..30]).is_none(), "cut short");
        assert!(sections(b"nonsense").is_none());
    }

    #[test]
    fn functions_are_counted_over_types_of_every_size() {
        let each = |name: u32, kind: u32, members: u32, more: usize| {
            let mut bytes = Vec::new();
            for number in [name, kind << 24 | members, 0] {
                bytes.extend(number.to_ne_bytes());
            }
            bytes.resize(12 + more, 0);
            bytes
        };
        // An int, a struct of two, an enum of three, a pointer, a typedef named like the function, the function.
        let mut array = each(0, ARRAY, 0, 12);
        array[20..24].copy_from_slice(&64_u32.to_ne_bytes());
        let mut structure = each(10, STRUCT, 2, 24);
        // Its first member is of type 3, the array.
        structure[16..20].copy_from_slice(&3_u32.to_ne_bytes());
        // An int, an enum of three, the array, the structure, a typedef named like the function, the function.
        let types =
            [each(1, 1, 0, 4), each(0, 6, 3, 24), array, structure, each(5, 8, 0, 0), each(5, FUNC, 0, 0)];
        let sections =
            Sections { types: types.concat(), strings: b"\0int\0call\0bpf_mprog_entry\0".to_vec() };
        let kernel = KernelTypes(Ok(sections));
        assert_eq!(kernel.function("call"), Some(6));
        assert_eq!(kernel.function("int"), None, "it is no function");
        assert_eq!(kernel.function("cal"), None);
        assert!(kernel.chain_limit().detail.starts_with("63 programs"), "{:?}", kernel.chain_limit());
    }
}
