//! As much of a BTF reader as the layout test needs: `Documentation/bpf/btf.rst` in the kernel's tree.

use object::{Object, ObjectSection};

enum Type {
    Void,
    Sized(usize),
    Alias(u32),
    Array { of: u32, count: usize },
    Struct { size: usize, members: Vec<(String, u32, usize)> },
    Enum,
    Other,
}

/// The types of one object.
pub(crate) struct Btf(Vec<(String, Type)>);

impl Btf {
    pub(crate) fn of(object: &[u8]) -> Self {
        let file = object::File::parse(object).unwrap();
        let data = file.section_by_name(".BTF").unwrap().data().unwrap().to_vec();
        let u32_at = |at: usize| u32::from_ne_bytes(data[at..at + 4].try_into().unwrap());
        let header = u32_at(4) as usize;
        let (types, types_length) = (header + u32_at(8) as usize, u32_at(12) as usize);
        let strings = header + u32_at(16) as usize;
        let string = |offset: u32| {
            let bytes = &data[strings + offset as usize..];
            let end = bytes.iter().position(|&byte| byte == 0).unwrap();
            String::from_utf8(bytes[..end].to_vec()).unwrap()
        };

        let mut all = vec![(String::new(), Type::Void)];
        let mut at = types;
        while at < types + types_length {
            let (name, info, size_or_type) = (string(u32_at(at)), u32_at(at + 4), u32_at(at + 8));
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            at += 12;
            let (kind, length) = match kind {
                1 => (Type::Sized(size_or_type as usize), 4),
                2 => (Type::Sized(8), 0),
                3 => (Type::Array { of: u32_at(at), count: u32_at(at + 8) as usize }, 12),
                4 | 5 => {
                    let members = (at..)
                        .step_by(12)
                        .take(count)
                        .map(|at| (string(u32_at(at)), u32_at(at + 4), u32_at(at + 8) as usize / 8))
                        .collect();
                    (Type::Struct { size: size_or_type as usize, members }, 12 * count)
                }
                6 => (Type::Enum, 8 * count),
                // typedef, volatile, const, restrict
                8..=11 => (Type::Alias(size_or_type), 0),
                13 => (Type::Other, 8 * count),
                14 | 17 => (Type::Other, 4),
                15 | 19 => (Type::Other, 12 * count),
                7 | 12 | 16 | 18 => (Type::Other, 0),
                unknown => panic!("BTF kind {unknown}"),
            };
            all.push((name, kind));
            at += length;
        }
        Self(all)
    }

    /// A struct's size, and each member's name, offset and size.
    pub(crate) fn structure(&self, name: &str) -> (usize, Vec<(String, usize, usize)>) {
        let found = self.0.iter().find_map(|(of, kind)| match kind {
            Type::Struct { size, members } if of == name => Some((*size, members)),
            _ => None,
        });
        let (size, members) = found.unwrap_or_else(|| panic!("no struct {name}"));
        let fields = members.iter().map(|(name, kind, offset)| (name.clone(), *offset, self.size(*kind)));
        (size, fields.collect())
    }

    fn size(&self, id: u32) -> usize {
        match &self.0[id as usize].1 {
            Type::Sized(size) | Type::Struct { size, .. } => *size,
            Type::Alias(of) => self.size(*of),
            Type::Array { of, count } => self.size(*of) * count,
            Type::Enum => 4,
            Type::Void | Type::Other => panic!("type {id} has no size"),
        }
    }
}
