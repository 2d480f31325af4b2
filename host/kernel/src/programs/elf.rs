//! The names of an object's program sections.
//!
//! libbpf knows device programs as `tc`, `tcx/ingress`, `netkit/peer` and so on; aya only as `classifier`, and it
//! refuses the whole object for a name it does not know. All of them are one program type, so the sections are
//! renamed (`tc` to `classifier/tc`) in the bytes aya gets. A name is used twice: by the ELF section, and by the
//! line and relocation records in `.BTF.ext`, whose names are in `.BTF`. The longer names go into copies of both
//! string tables at the end of the file.

/// The sections whose programs attach to a device, for people.
pub(super) const SECTIONS: &str =
    "\"tc\", \"classifier\", \"tcx/ingress\", \"tcx/egress\", \"netkit/primary\" or \"netkit/peer\"";

const CLASSIFIER: &str = "classifier";
const ALIASES: [&str; 7] =
    ["tc", "tc/ingress", "tc/egress", "tcx/ingress", "tcx/egress", "netkit/primary", "netkit/peer"];

/// `EM_BPF`.
const MACHINE_BPF: u16 = 247;
/// `SHF_EXECINSTR`.
const EXECUTABLE: u64 = 4;
const SECTION_HEADER: usize = 64;

/// An ELF object of BPF code.
pub(super) struct Elf {
    bytes: Vec<u8>,
    names_index: usize,
    sections: Vec<Section>,
}

struct Section {
    name: String,
    /// Where its header is.
    header: usize,
    offset: usize,
    size: usize,
    executable: bool,
}

impl Elf {
    /// Reads the section table.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let word = |at| u16_at(bytes, at).ok_or_else(|| "it is cut short".to_owned());
        if bytes.get(..4) != Some(b"\x7fELF") {
            return Err("it does not begin like an ELF file".to_owned());
        }
        let order = if cfg!(target_endian = "little") { 1 } else { 2 };
        if *bytes.get(5).unwrap_or(&order) != order {
            return Err("it was built for another byte order".to_owned());
        }
        if bytes.get(4) != Some(&2) || word(18)? != MACHINE_BPF {
            return Err("it is an ELF file of another machine's code".to_owned());
        }
        Self::sections(bytes).ok_or_else(|| "it is cut short, or its section table is damaged".to_owned())
    }

    fn sections(bytes: &[u8]) -> Option<Self> {
        let table = usize_at(bytes, 40)?;
        let count = usize::from(u16_at(bytes, 60)?);
        let names_index = usize::from(u16_at(bytes, 62)?);
        let place = |index: usize| {
            let header = table.checked_add(index.checked_mul(SECTION_HEADER)?)?;
            let flags = u64_at(bytes, header.checked_add(8)?)?;
            Some((header, flags, usize_at(bytes, header + 24)?, usize_at(bytes, header + 32)?))
        };
        let (_, _, names_offset, names_size) = place(names_index)?;
        let names = slice(bytes, names_offset, names_size)?;
        let sections = (0..count)
            .map(|index| {
                let (header, flags, offset, size) = place(index)?;
                let name = string_at(names, u32_at(bytes, header)? as usize)?;
                Some(Section { name, header, offset, size, executable: flags & EXECUTABLE != 0 })
            })
            .collect::<Option<_>>()?;
        Some(Self { bytes: bytes.to_vec(), names_index, sections })
    }

    /// The name of a section.
    pub(super) fn section(&self, index: usize) -> Option<&str> {
        self.sections.get(index).map(|section| section.name.as_str())
    }

    /// The object with the names aya knows.
    pub(super) fn for_aya(&self) -> Vec<u8> {
        let aliases: Vec<_> = self
            .sections
            .iter()
            .filter(|section| section.executable && ALIASES.contains(&section.name.as_str()))
            .collect();
        if aliases.is_empty() {
            return self.bytes.clone();
        }
        // None: a table is damaged. aya says so of the original better than we could.
        self.rename(&aliases).unwrap_or_else(|| self.bytes.clone())
    }

    fn rename(&self, aliases: &[&Section]) -> Option<Vec<u8>> {
        let mut bytes = self.bytes.clone();
        let names = self.sections.get(self.names_index)?;
        let mut table = slice(&bytes, names.offset, names.size)?.to_vec();
        for section in aliases {
            put(&mut bytes, section.header, append(&mut table, &known_as(&section.name))?)?;
        }
        move_to_end(&mut bytes, names, &table)?;
        if let (Some(types), Some(records)) = (self.named(".BTF"), self.named(".BTF.ext")) {
            rename_in_btf(&mut bytes, types, records, aliases)?;
        }
        Some(bytes)
    }

    fn named(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }
}

/// `include/uapi/linux/btf.h`: struct btf_header; `tools/lib/bpf/libbpf_internal.h`: struct btf_ext_header.
fn rename_in_btf(
    bytes: &mut Vec<u8>,
    types: &Section,
    records: &Section,
    aliases: &[&Section],
) -> Option<()> {
    let mut btf = slice(bytes, types.offset, types.size)?.to_vec();
    let strings_offset = (u32_at(&btf, 4)? as usize).checked_add(u32_at(&btf, 16)? as usize)?;
    let mut strings = slice(&btf, strings_offset, u32_at(&btf, 20)? as usize)?.to_vec();

    let ext_header_len = u32_at(slice(bytes, records.offset, records.size)?, 4)? as usize;
    // Function, line and CO-RE relocation records; objects of old compilers have no place for the last.
    for kind in [8, 16, 24].into_iter().filter(|at| at + 8 <= ext_header_len) {
        let ext = slice(bytes, records.offset, records.size)?;
        let (offset, len) = (u32_at(ext, kind)? as usize, u32_at(ext, kind + 4)? as usize);
        if len == 0 {
            continue;
        }
        let start = records.offset.checked_add(ext_header_len)?.checked_add(offset)?;
        let end = start.checked_add(len)?;
        let record_size = u32_at(bytes, start)? as usize;
        let mut at = start.checked_add(4)?;
        while at < end {
            let name = string_at(&strings, u32_at(bytes, at)? as usize)?;
            let count = u32_at(bytes, at + 4)? as usize;
            if aliases.iter().any(|section| section.name == name) {
                let renamed = append(&mut strings, &known_as(&name))?;
                put(bytes, at, renamed)?;
            }
            at = at.checked_add(8)?.checked_add(count.checked_mul(record_size)?)?;
        }
    }

    // The kernel takes no gap between types and strings, so the strings must be last to be longer.
    if u32_at(&btf, 8)? > u32_at(&btf, 16)? {
        return None;
    }
    btf.truncate(strings_offset);
    put(&mut btf, 20, u32::try_from(strings.len()).ok()?)?;
    btf.extend_from_slice(&strings);
    move_to_end(bytes, types, &btf)
}

fn known_as(name: &str) -> String {
    format!("{CLASSIFIER}/{name}")
}

/// Adds a string to a string table, and says where.
fn append(table: &mut Vec<u8>, text: &str) -> Option<u32> {
    let at = u32::try_from(table.len()).ok()?;
    table.extend_from_slice(text.as_bytes());
    table.push(0);
    Some(at)
}

fn move_to_end(bytes: &mut Vec<u8>, section: &Section, content: &[u8]) -> Option<()> {
    align(bytes);
    let offset = bytes.len() as u64;
    bytes.extend_from_slice(content);
    for (at, value) in [(24, offset), (32, content.len() as u64)] {
        bytes.get_mut(section.header + at..section.header + at + 8)?.copy_from_slice(&value.to_ne_bytes());
    }
    Some(())
}

fn align(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}

fn put(bytes: &mut [u8], at: usize, value: u32) -> Option<()> {
    bytes.get_mut(at..at.checked_add(4)?)?.copy_from_slice(&value.to_ne_bytes());
    Some(())
}

fn slice(bytes: &[u8], offset: usize, len: usize) -> Option<&[u8]> {
    bytes.get(offset..offset.checked_add(len)?)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    slice(bytes, at, N)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_ne_bytes)
}

fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64_at(bytes, at)?).ok()
}

fn string_at(table: &[u8], at: usize) -> Option<String> {
    let text = table.get(at..)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}
