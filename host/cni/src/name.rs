use netloom_core::model::{InvalidName, Name};
use sha2::{Digest, Sha256};

use crate::environment::Attachment;

/// Between the container's part of a name and the rest.
const SEPARATOR: char = '_';
/// Bytes of the container's id that are kept for people to recognise it by.
const RECOGNISABLE: usize = 12;
/// Bytes of the digest: 128 bits, which no two attachments share.
const DIGEST: usize = 16;

/// The endpoint's name for an attachment: the same for the same attachment, another for every other.
///
/// It is `CONTAINER_INTERFACE` where that is a name and can be read in one way only; else the start of the
/// container's id and a digest of both. The digest is longer than any device's name, so that the two forms
/// cannot meet.
pub(crate) fn endpoint_name(attachment: &Attachment) -> Result<Name, InvalidName> {
    let Attachment { container, interface } = attachment;
    if !container.contains(SEPARATOR)
        && let Ok(name) = Name::new(format!("{container}{SEPARATOR}{interface}"))
    {
        return Ok(name);
    }
    let mut hash = Sha256::new();
    hash.update(container);
    // Neither has a NUL, so that the two cannot be cut apart elsewhere.
    hash.update([0]);
    hash.update(interface);
    let digest: String = hash.finalize().iter().take(DIGEST).map(|byte| format!("{byte:02x}")).collect();
    let start: String = container
        .to_ascii_lowercase()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .take(RECOGNISABLE)
        .collect();
    Name::new(format!("{start}{SEPARATOR}{digest}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(container: &str, interface: &str) -> String {
        let attachment = Attachment { container: container.to_owned(), interface: interface.to_owned() };
        endpoint_name(&attachment).unwrap().to_string()
    }

    #[test]
    fn a_short_id_is_kept() {
        assert_eq!(name("default-web", "eth0"), "default-web_eth0");
    }

    #[test]
    fn a_long_id_can_still_be_recognised() {
        let id = "8fd0b2d1c4a7".repeat(6);
        let name = name(&id, "eth0");
        assert!(name.starts_with("8fd0b2d1c4a7_"), "{name}");
        assert_eq!(name.len(), RECOGNISABLE + 1 + 2 * DIGEST);
    }

    #[test]
    fn what_looks_alike_is_told_apart() {
        let names = [
            name("a", "b_c"),
            name("a_b", "c"),
            name("A", "b"),
            name("a", "b"),
            name("a.b", "c"),
            name("a", "b.c"),
            name("a", "B"),
        ];
        for (index, one) in names.iter().enumerate() {
            assert!(!names[index + 1..].contains(one), "{one} is there twice");
        }
    }

    proptest! {
        #[test]
        fn every_attachment_has_a_name_of_its_own(
            one in ("[A-Za-z0-9][A-Za-z0-9_.-]{0,80}", "[!-.0-9;-~]{1,15}"),
            other in ("[a-b][a-b_.-]{0,3}", "[a-b_.-]{1,3}"),
            another in ("[a-b][a-b_.-]{0,3}", "[a-b_.-]{1,3}"),
        ) {
            name(&one.0, &one.1);
            prop_assert_eq!(other == another, name(&other.0, &other.1) == name(&another.0, &another.1));
        }
    }
}
