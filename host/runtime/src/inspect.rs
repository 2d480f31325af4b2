//! What a component is: its hooks, its imports, and whether they can be given to it.

use wasmtime::{Engine, component::Component};

use netloom_core::grants::{Grant, Grants};

use crate::{error::Refusal, hook::Hook};

const KERNEL: &str = "netloom:kernel/";
const POLICY: &str = "netloom:policy/";
const AMBIENT: [&str; 5] = ["types", "log", "config", "kv", "metrics"];

/// What a component is, without loading it as a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The SHA-256 of the component, hexadecimal.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// The hooks it exports.
    pub hooks: Vec<Hook>,
    /// What it imports, by full name.
    pub imports: Vec<String>,
    /// What it exports, by full name.
    pub exports: Vec<String>,
    /// The grants it needs.
    pub grants: Vec<Grant>,
    /// What its configuration has to look like, in JSON Schema; none if it does not say.
    pub config_schema: Option<serde_json::Value>,
}

/// Tells what a file is by its first bytes, before a compiler sees it.
pub(crate) fn check_bytes(bytes: &[u8], limit: usize) -> Result<(), Refusal> {
    const MAGIC: &[u8] = b"\0asm";
    const CORE: &[u8] = &[1, 0, 0, 0];
    if bytes.is_empty() {
        return Err(Refusal::Empty);
    }
    if bytes.len() > limit {
        return Err(Refusal::TooLarge { size: bytes.len(), limit });
    }
    let Some(version) = bytes.strip_prefix(MAGIC) else {
        let head = bytes.get(..bytes.len().min(512)).unwrap_or_default();
        let is_text = match std::str::from_utf8(head) {
            Ok(text) => !text.contains('\0'),
            // A character cut at the end of the sample is still text.
            Err(error) => error.error_len().is_none() && !head.contains(&0),
        };
        if is_text && !MAGIC.starts_with(bytes) {
            return Err(Refusal::Text);
        }
        let start = head.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        return Err(Refusal::NotWasm(start));
    };
    if version.starts_with(CORE) { Err(Refusal::CoreModule) } else { Ok(()) }
}

pub(crate) fn inspect(engine: &Engine, component: &Component, digest: &str, size: usize) -> Inspection {
    let ty = component.component_type();
    let imports: Vec<String> = ty.imports(engine).map(|(name, _)| name.to_owned()).collect();
    let exports: Vec<String> = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
    let hooks = Hook::ALL.into_iter().filter(|hook| exports.iter().any(|name| is_hook(name, *hook)));
    let grants =
        Grant::ALL.into_iter().filter(|grant| imports.iter().any(|name| operation(name) == Some(*grant)));
    Inspection {
        digest: digest.to_owned(),
        size: size as u64,
        hooks: hooks.collect(),
        grants: grants.collect(),
        imports,
        exports,
        config_schema: None,
    }
}

/// Whether a plugin with these grants can be given everything it imports.
pub(crate) fn check(inspection: &Inspection, grants: &Grants, offered: bool) -> Result<(), Refusal> {
    for import in &inspection.imports {
        check_import(import, grants, offered)?;
    }
    if inspection.hooks.is_empty() {
        return Err(Refusal::NoHook { exports: other_exports(&inspection.exports) });
    }
    Ok(())
}

fn check_import(import: &str, grants: &Grants, offered: bool) -> Result<(), Refusal> {
    if let Some(grant) = operation(import) {
        let import = import.to_owned();
        return if !grants.has(grant) {
            Err(Refusal::MissingGrant { import, grant })
        } else if !offered && grant != Grant::Files {
            Err(Refusal::NotOffered { import })
        } else {
            Ok(())
        };
    }
    if interface(import, KERNEL).is_some_and(|name| AMBIENT.contains(&name)) {
        return Ok(());
    }
    if import.starts_with("wasi:") {
        return Err(Refusal::Wasi(import.to_owned()));
    }
    let hint = if import.starts_with(KERNEL) || import.starts_with(POLICY) {
        "it was built for another version of Netloom: this one has netloom:kernel@0.1.0"
    } else {
        "remove it: plugins import netloom:kernel@0.1.0 and nothing else"
    };
    Err(Refusal::UnknownImport { import: import.to_owned(), hint: hint.to_owned() })
}

fn operation(import: &str) -> Option<Grant> {
    let name = interface(import, KERNEL)?;
    Grant::ALL.into_iter().find(|grant| grant.as_str() == name)
}

fn is_hook(export: &str, hook: Hook) -> bool {
    interface(export, POLICY) == Some(hook.as_str())
}

/// The interface of a name in a package, at a version this host speaks: 0.1, as 0.x is compatible within x.
fn interface<'a>(name: &'a str, package: &str) -> Option<&'a str> {
    let (interface, version) = name.strip_prefix(package)?.split_once('@')?;
    let mut parts = version.split('.');
    let compatible = parts.next() == Some("0")
        && parts.next() == Some("1")
        && parts.next().is_some_and(|patch| patch.parse::<u64>().is_ok())
        && parts.next().is_none();
    compatible.then_some(interface)
}

fn other_exports(exports: &[String]) -> String {
    if exports.is_empty() {
        return " and nothing else either".to_owned();
    }
    let some: Vec<&str> = exports.iter().take(5).map(String::as_str).collect();
    format!(", only {}", some.join(", "))
}

#[cfg(test)]
mod tests {
    use netloom_core::grants::Access;

    use super::*;

    #[test]
    fn files_are_told_apart_by_their_first_bytes() {
        let check = |bytes: &[u8]| check_bytes(bytes, 100);
        assert_eq!(check(b""), Err(Refusal::Empty));
        assert_eq!(check(b"(component)"), Err(Refusal::Text));
        assert_eq!(check("ää".repeat(30).as_bytes()), Err(Refusal::TooLarge { size: 120, limit: 100 }));
        assert_eq!(check(b"\x7fELF\x02\x01\x01\0"), Err(Refusal::NotWasm("7f 45 4c 46 02 01 01 00".into())));
        assert_eq!(check(b"\0as"), Err(Refusal::NotWasm("00 61 73".into())));
        assert_eq!(check(b"\0asm\x01\0\0\0"), Err(Refusal::CoreModule));
        assert_eq!(check(b"\0asm\x0d\0\x01\0"), Ok(()));
    }

    #[test]
    fn interfaces_are_known_by_name_and_version() {
        assert_eq!(interface("netloom:kernel/log@0.1.0", KERNEL), Some("log"));
        assert_eq!(interface("netloom:kernel/log@0.1.7", KERNEL), Some("log"));
        for other in ["netloom:kernel/log@0.2.0", "netloom:kernel/log", "netloom:kernel/log@0.1.0-rc1", "log"]
        {
            assert_eq!(interface(other, KERNEL), None, "{other}");
        }
    }

    #[test]
    fn imports_are_refused_by_name() {
        let check = |import: &str, grants: &[Grant], offered: bool| {
            let each = grants.iter().map(|grant| Grants::everything(*grant, Access::Read));
            check_import(import, &each.fold(Grants::none(), Grants::and), offered)
        };
        assert_eq!(check("netloom:kernel/kv@0.1.0", &[], false), Ok(()));
        let sockets = "netloom:kernel/sockets@0.1.0";
        assert_eq!(check(sockets, &[Grant::Sockets], true), Ok(()));
        assert_eq!(
            check(sockets, &[Grant::Links], true),
            Err(Refusal::MissingGrant { import: sockets.into(), grant: Grant::Sockets })
        );
        assert_eq!(
            check(sockets, &[Grant::Sockets], false),
            Err(Refusal::NotOffered { import: sockets.into() })
        );
        assert!(matches!(check("wasi:cli/environment@0.2.0", &[], true), Err(Refusal::Wasi(_))));
        let Err(Refusal::UnknownImport { hint, .. }) = check("netloom:kernel/log@0.9.0", &[], true) else {
            panic!("accepted")
        };
        assert!(hint.contains("another version"), "{hint}");
        assert!(matches!(check("acme:thing/x", &[], true), Err(Refusal::UnknownImport { .. })));
    }
}
