use netlink_packet_core::{NlasIterator, Parseable};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::LinkMessage,
    tc::{TcAttribute, TcBpfFlags, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption},
};
use netloom_core::model::{Hook, HookPoint, ProgramId};

use super::AnyFilter;
use crate::{links::name_and_tag, netlink::Message, programs::Program};

use std::os::fd::AsRawFd;

/// The chain whose presence says that the qdisc is ours: "nl". Nothing jumps to it.
pub(super) const MARK: u32 = 0x6e6c;

const TC_HEADER: usize = 20;
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const CHAIN: u16 = 11;
/// `ETH_P_ALL` in network byte order.
const ALL_PROTOCOLS: u16 = 3_u16.to_be();

/// A filter on a hook.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) priority: u16,
    pub(super) handle: u32,
    kind: String,
    protocol: u16,
    /// None for filters of other kinds.
    pub(super) program: Option<FilterProgram>,
    direct_action: bool,
    /// A filter of another kind that decides on every packet it is asked about.
    decides: bool,
}

/// The BPF program of a filter.
#[derive(Debug)]
pub(super) struct FilterProgram {
    pub(super) id: ProgramId,
    pub(super) name: String,
    pub(super) tag: String,
}

impl Filter {
    /// Whether a filter of ours can share its priority: the kernel wants one kind and protocol for a priority.
    pub(super) fn takes_ours(&self) -> bool {
        self.kind == "bpf" && self.protocol == ALL_PROTOCOLS
    }

    /// What it is to packets.
    pub(super) fn into_any(self) -> AnyFilter {
        let name = match &self.program {
            Some(program) => {
                // A filter is named by who made it, after a file as often as not.
                let name = name_and_tag(program.id).map_or_else(|_| program.name.clone(), |(name, _)| name);
                format!("filter of program {name} (id {}, priority {})", program.id, self.priority)
            }
            None => format!("{} filter of priority {}", self.kind, self.priority),
        };
        AnyFilter {
            name,
            program: self.program.map(|program| program.id),
            direct_action: self.direct_action && self.protocol == ALL_PROTOCOLS,
            ends_for_all: self.decides && self.protocol == ALL_PROTOCOLS,
        }
    }
}

/// A qdisc that takes filters on a device's ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Qdisc {
    Clsact,
    Ingress,
}

pub(super) fn get_device(hook: &Hook) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = hook.ifindex.0;
    RouteNetlinkMessage::GetLink(message)
}

pub(super) fn list_filters(hook: &Hook, point: HookPoint) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetTrafficFilter(message(hook, parent(point)))
}

pub(super) fn new_filter(hook: &Hook, priority: u16, handle: u32, program: &Program) -> RouteNetlinkMessage {
    let mut message = message(hook, parent(hook.point));
    message.header.handle = handle.into();
    message.header.info = u32::from(priority) << 16 | u32::from(ALL_PROTOCOLS);
    let fd = program.fd().as_raw_fd().cast_unsigned();
    let options = [
        TcFilterBpfOption::ProgFd(fd),
        TcFilterBpfOption::ProgName(program.name().to_owned()),
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    message.attributes = vec![
        TcAttribute::Kind("bpf".to_owned()),
        TcAttribute::Options(options.into_iter().map(TcOption::Bpf).collect()),
    ];
    RouteNetlinkMessage::NewTrafficFilter(message)
}

pub(super) fn delete_filter(hook: &Hook, filter: &Filter) -> RouteNetlinkMessage {
    let mut message = message(hook, parent(hook.point));
    message.header.handle = filter.handle.into();
    message.header.info = u32::from(filter.priority) << 16 | u32::from(filter.protocol);
    message.attributes = vec![TcAttribute::Kind(filter.kind.clone())];
    RouteNetlinkMessage::DelTrafficFilter(message)
}

pub(super) fn list_qdiscs(hook: &Hook) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetQueueDiscipline(message(hook, TcHandle::UNSPEC))
}

pub(super) fn new_clsact(hook: &Hook) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewQueueDiscipline(clsact(hook))
}

pub(super) fn delete_clsact(hook: &Hook) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelQueueDiscipline(clsact(hook))
}

pub(super) fn list_chains(hook: &Hook, point: HookPoint) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetTrafficChain(message(hook, parent(point)))
}

pub(super) fn new_mark(hook: &Hook) -> RouteNetlinkMessage {
    let mut message = message(hook, parent(HookPoint::TcIngress));
    message.attributes = vec![TcAttribute::Chain(MARK)];
    RouteNetlinkMessage::NewTrafficChain(message)
}

/// A filter in the first chain, the only one packets reach by themselves. The kernel lists each priority once more
/// with handle 0.
pub(super) fn filter(answer: &Message, hook: &Hook) -> Option<Filter> {
    let Parsed { header, kind, options, chain } = parse(answer, hook)?;
    let handle = u32::from(header.handle);
    if handle == 0 || chain != 0 {
        return None;
    }
    let (priority, protocol) = ((header.info >> 16) as u16, (header.info & 0xffff) as u16);
    let is_bpf = kind == "bpf";
    let program = is_bpf.then(|| program(&options)).flatten();
    let direct_action = is_bpf && direct_action(&options);
    let decides = kind == "matchall" && matchall_decides(&options);
    Some(Filter { priority, handle, kind, protocol, program, direct_action, decides })
}

pub(super) fn qdisc(answer: &Message, hook: &Hook) -> Option<Qdisc> {
    // Kernels list every device's, whichever was asked for.
    match parse(answer, hook)?.kind.as_str() {
        "clsact" => Some(Qdisc::Clsact),
        "ingress" => Some(Qdisc::Ingress),
        _ => None,
    }
}

pub(super) fn chain(answer: &Message, hook: &Hook) -> Option<u32> {
    parse(answer, hook).map(|parsed| parsed.chain)
}

struct Parsed {
    header: TcHeader,
    kind: String,
    options: Vec<u8>,
    chain: u32,
}

fn parse(answer: &Message, hook: &Hook) -> Option<Parsed> {
    let header = TcHeader::parse(&answer.payload).ok()?;
    // A shared block's filters and chains are listed for each of its devices, and name none.
    if ![hook.ifindex.0, TcHeader::TCM_IFINDEX_MAGIC_BLOCK].contains(&header.index.cast_unsigned()) {
        return None;
    }
    let mut parsed = Parsed { header, kind: String::new(), options: Vec::new(), chain: 0 };
    for attribute in NlasIterator::new(answer.payload.get(TC_HEADER..)?).flatten() {
        let value = attribute.value();
        match attribute.kind() {
            KIND => parsed.kind = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned(),
            OPTIONS => parsed.options = value.to_vec(),
            CHAIN => parsed.chain = u32::from_ne_bytes(value.try_into().ok()?),
            _ => {}
        }
    }
    Some(parsed)
}

/// None for a classic BPF filter, which has no program.
fn program(options: &[u8]) -> Option<FilterProgram> {
    let (mut id, mut program_name, mut program_tag) = (None, String::new(), String::new());
    for option in NlasIterator::new(options).flatten() {
        match TcFilterBpfOption::parse(&option) {
            Ok(TcFilterBpfOption::ProgId(program)) => id = Some(ProgramId(program)),
            Ok(TcFilterBpfOption::ProgName(name)) => program_name = name,
            Ok(TcFilterBpfOption::ProgTag(tag)) => program_tag = format!("{:016x}", u64::from_be_bytes(tag)),
            _ => {}
        }
    }
    Some(FilterProgram { id: id?, name: program_name, tag: program_tag })
}

/// `TCA_BPF_FLAGS` with `TCA_BPF_FLAG_ACT_DIRECT`.
fn direct_action(options: &[u8]) -> bool {
    const FLAGS: u16 = 8;
    const ACT_DIRECT: u32 = 1;
    let flags =
        attribute(options, FLAGS).and_then(|value| value.as_slice().try_into().ok()).map(u32::from_ne_bytes);
    flags.is_some_and(|flags| flags & ACT_DIRECT != 0)
}

/// Whether the first action of a filter that matches everything is a verdict. Without an action it accepts.
fn matchall_decides(options: &[u8]) -> bool {
    const MATCHALL_ACT: u16 = 2;
    const ACT_KIND: u16 = 1;
    const ACT_OPTIONS: u16 = 2;
    const GACT_PARMS: u16 = 2;
    /// OK, SHOT, STOLEN, REDIRECT and TRAP.
    const FINAL: [i32; 5] = [0, 2, 4, 7, 8];
    let Some(actions) = attribute(options, MATCHALL_ACT) else { return true };
    let Some(first) = NlasIterator::new(actions.as_slice()).flatten().next() else { return true };
    let action = first.value();
    let kind = attribute(action, ACT_KIND).map(|kind| String::from_utf8_lossy(&kind).into_owned());
    let parameters = attribute(action, ACT_OPTIONS).and_then(|options| attribute(&options, GACT_PARMS));
    // `struct tc_gact`: index, capabilities, action.
    let verdict = parameters.and_then(|parameters| parameters.get(8..12)?.try_into().ok());
    kind.is_some_and(|kind| kind.trim_end_matches('\0') == "gact")
        && verdict.is_some_and(|verdict| FINAL.contains(&i32::from_ne_bytes(verdict)))
}

/// The value of an attribute among others. The nesting flag is not part of its kind.
fn attribute(attributes: &[u8], kind: u16) -> Option<Vec<u8>> {
    const KIND_MASK: u16 = 0x3fff;
    let found =
        NlasIterator::new(attributes).flatten().find(|attribute| attribute.kind() & KIND_MASK == kind)?;
    Some(found.value().to_vec())
}

fn clsact(hook: &Hook) -> TcMessage {
    let mut message = message(hook, TcHandle::CLSACT);
    message.header.handle = TcHandle { major: u16::MAX, minor: 0 };
    message.attributes = vec![TcAttribute::Kind("clsact".to_owned())];
    message
}

fn message(hook: &Hook, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(hook.ifindex.0.cast_signed());
    message.header.parent = parent;
    message
}

fn parent(point: HookPoint) -> TcHandle {
    let minor = match point {
        HookPoint::TcEgress | HookPoint::TcxEgress => TcHandle::MIN_EGRESS,
        _ => TcHandle::MIN_INGRESS,
    };
    TcHandle { major: u16::MAX, minor }
}
