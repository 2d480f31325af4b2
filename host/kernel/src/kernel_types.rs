//! The kernel's type information (BTF): what it names, and the parts that aya needs of it.
//!
//! aya parses all of it, with an allocation a type, and looks for each type by walking over all. So it is read once,
//! here, and aya is given the few types that an object asks for.

use std::{collections::HashMap, fs, io, ops::Range, sync::OnceLock};

use aya::{Btf, BtfError, Endianness};
use aya_obj::btf::{BtfType, Func, FuncLinkage};

/// Where the kernel shows it.
pub(crate) const PATH: &str = "/sys/kernel/btf/vmlinux";

// `BTF_KIND_…` of `include/uapi/linux/btf.h`.
const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// `struct btf_header` and `struct btf_type`, in bytes.
const HEADER: u32 = 24;
const COMMON: usize = 12;

/// All types of the running kernel.
pub(crate) struct KernelTypes {
    /// The file.
    bytes: Vec<u8>,
    /// The names, each followed by a zero.
    strings: Range<usize>,
    /// In the order of their ids, which begin with 1.
    types: Vec<Type>,
}

/// Where a type is in the file, and what is asked of each.
struct Type {
    start: usize,
    kind: u32,
    /// Where among the strings its name begins; 0 if it has none.
    name: u32,
}

impl KernelTypes {
    /// Those of the running kernel, which are read when they are wanted first.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] on a kernel without `CONFIG_DEBUG_INFO_BTF`, or without sysfs on `/sys`;
    /// [`io::ErrorKind::InvalidData`] if they are of another form than this module knows.
    pub(crate) fn read() -> io::Result<&'static Self> {
        static TYPES: OnceLock<KernelTypes> = OnceLock::new();
        match TYPES.get() {
            Some(types) => Ok(types),
            None => {
                let types = Self::parse(fs::read(PATH)?).ok_or(io::ErrorKind::InvalidData)?;
                Ok(TYPES.get_or_init(|| types))
            }
        }
    }

    /// `struct btf_header`: its length at 4, after it the offset of the types at 8 and their length at 12, and of the
    /// strings at 16 and 20.
    fn parse(bytes: Vec<u8>) -> Option<Self> {
        const MAGIC: [u8; 2] = 0xeb9f_u16.to_ne_bytes();
        if bytes.get(..2)? != MAGIC {
            return None;
        }
        let section = |at: usize| {
            let start = length(&bytes, 4)?.checked_add(length(&bytes, at)?)?;
            let end = start.checked_add(length(&bytes, at + 4)?)?;
            (end <= bytes.len()).then_some(start..end)
        };
        let (Range { mut start, end }, strings) = (section(8)?, section(16)?);
        let mut types = Vec::new();
        while start < end {
            let (name, info) = (number(&bytes, start)?, number(&bytes, start + 4)?);
            types.push(Type { start, kind: kind(info), name });
            start += size(info);
        }
        Some(Self { bytes, strings, types })
    }

    /// The id of a function: for programs that call it or are called by it. What the kernel lets programs use or
    /// iterate over cannot be missing here, because it looks them up by their types.
    pub(crate) fn function(&self, name: &str) -> Option<u32> {
        self.of(FUNC, &[name]).next().map(|(id, _)| id)
    }

    /// How many items the array holds that a structure begins with.
    pub(crate) fn first_array(&self, structure: &str) -> Option<u32> {
        let structure = self.bytes(self.of(STRUCT, &[structure]).next()?.0)?;
        // A member is its name, its type, its offset.
        let array = self.bytes(number(structure, COMMON + 4)?)?;
        // An array is its items' type, its index's type, its length.
        if kind(number(array, 4)?) == ARRAY { number(array, COMMON + 8) } else { None }
    }

    /// Functions, each under the id that it has in the kernel, for aya to load iterators with. One that the kernel has
    /// not is missing, which aya says then.
    pub(crate) fn with_functions(&self, names: &[&str]) -> Btf {
        let mut types = Btf::new();
        let mut next = 1;
        for (id, name) in self.of(FUNC, names) {
            for _ in next..id {
                types.add_type(BtfType::Unknown);
            }
            let name = types.add_string(name);
            types.add_type(BtfType::Func(Func::new(name, 0, FuncLinkage::Global)));
            next = id + 1;
        }
        types
    }

    /// These structures and what lies in them, for aya to find out where in them their members are. The ids are others
    /// than the kernel's, and pointers point to nothing.
    ///
    /// # Errors
    /// [`BtfError`] if the kernel's types contradict each other.
    pub(crate) fn with_structures(&self, names: &[&str]) -> Result<Btf, BtfError> {
        let types = self.structures(names).ok_or(BtfError::InvalidTypeInfo)?;
        let strings = self.bytes.get(self.strings.clone()).unwrap_or_default();
        let (types_length, strings_length) = (types.len() as u32, strings.len() as u32);
        // The magic number, and version 1.
        let mut bytes = [0xeb9f_u16.to_ne_bytes(), [1, 0]].concat();
        for number in [HEADER, 0, types_length, types_length, strings_length] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        Btf::parse(&bytes, Endianness::default())
    }

    fn structures(&self, names: &[&str]) -> Option<Vec<u8>> {
        let mut kept: Vec<u32> = self.of(STRUCT, names).map(|(id, _)| id).collect();
        // Nothing (`void`) is 0 everywhere.
        let mut ids: HashMap<u32, u32> = kept.iter().copied().zip(1..).chain([(0, 0)]).collect();
        let mut types = Vec::new();
        let mut next = 0;
        while let Some(id) = kept.get(next) {
            let mut each = self.bytes(*id)?.to_vec();
            let info = number(&each, 4)?;
            for place in references(info) {
                let id = match kind(info) {
                    PTR => 0,
                    _ => number(&each, place)?,
                };
                let id = *ids.entry(id).or_insert_with(|| {
                    kept.push(id);
                    kept.len() as u32
                });
                *each.get_mut(place..)?.first_chunk_mut()? = id.to_ne_bytes();
            }
            types.extend(each);
            next += 1;
        }
        Some(types)
    }

    /// The types of a kind that have one of these names, by their ids.
    fn of<'a>(&'a self, kind: u32, names: &'a [&str]) -> impl Iterator<Item = (u32, &'a str)> {
        let strings = self.bytes.get(self.strings.clone()).unwrap_or_default();
        let name = move |each: &Type| {
            let begins = strings.get(each.name as usize..)?;
            let ends = |name: &&str| begins.strip_prefix(name.as_bytes())?.first().copied();
            names.iter().copied().find(|name| ends(name) == Some(0))
        };
        let of_kind = (1..).zip(&self.types).filter(move |(_, each)| each.kind == kind);
        of_kind.filter_map(move |(id, each)| Some((id, name(each)?)))
    }

    /// A type with all that follows it.
    fn bytes(&self, id: u32) -> Option<&[u8]> {
        let start = self.types.get(usize::try_from(id).ok()?.checked_sub(1)?)?.start;
        self.bytes.get(start..start.checked_add(size(number(&self.bytes, start + 4)?))?)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn length(bytes: &[u8], at: usize) -> Option<usize> {
    number(bytes, at)?.try_into().ok()
}

/// What a type is: bits 24 to 28 of `btf_type.info`.
const fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// How many members a type has: bits 0 to 15 of `btf_type.info`.
const fn members(info: u32) -> usize {
    (info & 0xffff) as usize
}

/// How many bytes a type takes, with what its kind has more than others.
const fn size(info: u32) -> usize {
    COMMON
        + match kind(info) {
            INT | VAR | DECL_TAG => 4,
            ARRAY => 12,
            STRUCT | UNION | DATASEC | ENUM64 => 12 * members(info),
            ENUM | FUNC_PROTO => 8 * members(info),
            _ => 0,
        }
}

/// Where in a type the ids of others are that it is made of.
fn references(info: u32) -> Vec<usize> {
    match kind(info) {
        // Its items' type, its index's type, its length.
        ARRAY => vec![COMMON, COMMON + 4],
        // Of each member its name, its type, its offset.
        STRUCT | UNION => (0..members(info)).map(|member| COMMON + 12 * member + 4).collect(),
        PTR | TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => vec![COMMON - 4],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use aya_obj::btf::BtfKind;

    use super::*;

    const STRINGS: &[u8] = b"\0int\0call\0bpf_mprog_entry\0outer\0calls\0";
    const INT_NAME: u32 = 1;
    const CALL_NAME: u32 = 5;
    const ENTRY_NAME: u32 = 10;
    const OUTER_NAME: u32 = 26;

    /// A type's numbers: its name, its kind, how many members it has, its size or type, and what follows.
    fn each(name: u32, kind: u32, members: u32, of: u32, more: &[u32]) -> Vec<u8> {
        let numbers = [name, kind << 24 | members, of].into_iter().chain(more.iter().copied());
        let bytes: Vec<u8> = numbers.flat_map(u32::to_ne_bytes).collect();
        assert_eq!(bytes.len(), size(kind << 24 | members));
        bytes
    }

    fn file(types: &[Vec<u8>]) -> Vec<u8> {
        let types = types.concat();
        let length = types.len() as u32;
        let mut bytes = [0xeb9f_u16.to_ne_bytes(), [1, 0]].concat();
        bytes.extend([HEADER, 0, length, length, STRINGS.len() as u32].map(u32::to_ne_bytes).concat());
        [bytes, types, STRINGS.to_vec()].concat()
    }

    /// An int, an enum of three, an array, the structure that begins with it, a typedef named like the function, the
    /// function, and a structure with a pointer to the function's prototype, the other structure, and a pointer to
    /// itself.
    fn kernel() -> KernelTypes {
        let types = [
            each(INT_NAME, INT, 0, 4, &[32]),
            each(0, ENUM, 3, 4, &[0; 6]),
            each(0, ARRAY, 0, 0, &[1, 1, 64]),
            each(ENTRY_NAME, STRUCT, 2, 260, &[0, 3, 0, 0, 1, 2048]),
            each(CALL_NAME, TYPEDEF, 0, 1, &[]),
            each(0, FUNC_PROTO, 1, 0, &[0, 1]),
            each(CALL_NAME, FUNC, 0, 6, &[]),
            each(0, PTR, 0, 6, &[]),
            each(OUTER_NAME, STRUCT, 3, 280, &[INT_NAME, 8, 0, ENTRY_NAME, 4, 64, 0, 10, 2176]),
            each(0, PTR, 0, 9, &[]),
        ];
        KernelTypes::parse(file(&types)).unwrap()
    }

    #[test]
    fn functions_are_found_by_their_whole_names_and_counted_over_types_of_every_size() {
        let kernel = kernel();
        assert_eq!(kernel.function("call"), Some(7));
        for none in ["int", "cal", "calls", "all", "tail"] {
            assert_eq!(kernel.function(none), None, "{none}");
        }
        assert_eq!(kernel.first_array("bpf_mprog_entry"), Some(64));
        assert_eq!(kernel.first_array("outer"), None, "it begins with a pointer");
        assert_eq!(kernel.first_array("call"), None);
    }

    #[test]
    fn what_is_no_type_information_is_refused() {
        let bytes = file(&[each(0, FUNC, 0, 0, &[])]);
        assert!(KernelTypes::parse(bytes[..bytes.len() - 1].to_vec()).is_none(), "cut short");
        assert!(KernelTypes::parse(bytes[..20].to_vec()).is_none());
        assert!(KernelTypes::parse(b"nonsense".to_vec()).is_none());
    }

    #[test]
    fn a_function_is_given_to_aya_under_its_own_id_and_a_missing_one_is_missing_there() {
        let types = kernel().with_functions(&["call", "calls", "int"]);
        let id = |name| types.id_by_type_name_kind(name, BtfKind::Func);
        assert_eq!(id("call").unwrap(), 7);
        assert!(matches!(id("calls"), Err(BtfError::UnknownBtfTypeName { .. })));
    }

    #[test]
    fn a_structure_is_given_to_aya_with_what_lies_in_it_and_nothing_behind_pointers() {
        let types = kernel().with_structures(&["outer"]).unwrap().to_bytes();
        let types = KernelTypes::parse(types).unwrap();
        let kinds: Vec<u32> = types.types.iter().map(|each| each.kind).collect();
        assert_eq!(kinds, [STRUCT, PTR, STRUCT, PTR, ARRAY, INT]);
        assert_eq!(types.first_array("bpf_mprog_entry"), Some(64));
        for pointer in [2, 4] {
            assert_eq!(number(types.bytes(pointer).unwrap(), 8), Some(0), "{pointer}");
        }
    }
}
