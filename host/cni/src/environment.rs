//! The parameters of a call, from the environment.

use std::{env, path::PathBuf};

use crate::failure::Failure;

/// What a runtime wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

/// Reads CNI_COMMAND.
pub(crate) fn command() -> Result<Command, Failure> {
    let wrong = |what: String| Failure::Environment(vec![what]);
    match variable("CNI_COMMAND").as_deref() {
        Some("ADD") => Ok(Command::Add),
        Some("DEL") => Ok(Command::Del),
        Some("CHECK") => Ok(Command::Check),
        Some("GC") => Ok(Command::Gc),
        Some("STATUS") => Ok(Command::Status),
        Some("VERSION") => Ok(Command::Version),
        Some(other) => {
            Err(wrong(format!("CNI_COMMAND is {other:?}, and not ADD, DEL, CHECK, GC, STATUS or VERSION")))
        }
        None => Err(wrong(
            "CNI_COMMAND is missing: this is a CNI plugin, which container runtimes run".to_owned(),
        )),
    }
}

/// One attachment of a container to a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// The runtime's id of the container.
    pub(crate) container: String,
    /// The device's name inside it.
    pub(crate) interface: String,
}

/// Reads what ADD and CHECK need: the attachment and the container's namespace.
pub(crate) fn attachment_in_netns() -> Result<(Attachment, PathBuf), Failure> {
    let mut wrong = Vec::new();
    let attachment = read_attachment(&mut wrong);
    let netns = required("CNI_NETNS", &mut wrong, |text| {
        text.starts_with('/').then_some(()).ok_or("is not a full path")
    });
    if wrong.is_empty() { Ok((attachment, PathBuf::from(netns))) } else { Err(Failure::Environment(wrong)) }
}

/// Reads what DEL needs: the attachment. The container's namespace may be gone.
pub(crate) fn attachment() -> Result<Attachment, Failure> {
    let mut wrong = Vec::new();
    let attachment = read_attachment(&mut wrong);
    if wrong.is_empty() { Ok(attachment) } else { Err(Failure::Environment(wrong)) }
}

/// A value of CNI_ARGS, which reads `KEY=VALUE;KEY=VALUE`.
pub(crate) fn argument(key: &str) -> Option<String> {
    let arguments = variable("CNI_ARGS")?;
    let mut pairs = arguments.split(';').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, value)| *name == key && !value.is_empty()).map(|(_, value)| value.to_owned())
}

fn read_attachment(wrong: &mut Vec<String>) -> Attachment {
    Attachment {
        container: required("CNI_CONTAINERID", wrong, container_id),
        interface: required("CNI_IFNAME", wrong, interface_name),
    }
}

/// The variable's value; what is wrong with it is collected, so that all of it is told at once.
fn required(
    name: &str,
    wrong: &mut Vec<String>,
    check: impl FnOnce(&str) -> Result<(), &'static str>,
) -> String {
    match variable(name) {
        None => wrong.push(format!("{name} is missing")),
        Some(value) => match check(&value) {
            Ok(()) => return value,
            Err(why) => wrong.push(format!("{name} {value:?} {why}")),
        },
    }
    String::new()
}

fn variable(name: &str) -> Option<String> {
    env::var_os(name).filter(|value| !value.is_empty()).map(|value| value.to_string_lossy().into_owned())
}

/// The specification: alphanumeric first, then also `_`, `.` and `-`.
pub(crate) fn container_id(id: &str) -> Result<(), &'static str> {
    let ok = id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    ok.then_some(()).ok_or("is not a letter or digit followed by letters, digits, '_', '.' and '-'")
}

/// What Linux takes for a device's name.
fn interface_name(name: &str) -> Result<(), &'static str> {
    let ok = name.len() <= 15
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    ok.then_some(()).ok_or("is not a device's name: at most 15 bytes without '/', ':' and blanks")
}
