//! Makes a component of a core module.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use wit_component::{ComponentEncoder, DecodedWasm};
use wit_parser::{Resolve, WorldItem, WorldKey};

use crate::{BuildError, Component, cargo::Module, file::write_if_changed, schema::with_config_schema};

/// Why a core module is not a plugin.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// It was not built with bindings to any WIT world.
    #[error(
        "the module has no component type: nothing in the crate says which hooks it exports. Is there a type \
         with #[plugin(…)]?"
    )]
    NoComponentType,

    /// It imports what no plugin may have.
    #[error(
        "the component imports {0}, which no plugin may have: netloom offers no WASI. A dependency brought it in"
    )]
    Wasi(String),

    /// The encoder or the decoder refused.
    #[error("{attempt}: {message}")]
    Refused {
        /// What was attempted.
        attempt: &'static str,
        /// The whole chain of causes.
        message: String,
    },
}

/// What a component takes and gives, as full names such as `netloom:kernel/log@0.1.0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// What it imports, sorted.
    pub imports: Vec<String>,
    /// What it exports, sorted.
    pub exports: Vec<String>,
}

/// Makes a component of a core module that wit-bindgen's glue is linked into.
///
/// # Errors
/// [`EncodeError`] if it has no component type, or the component would import WASI.
pub fn encode(module: &[u8]) -> Result<Vec<u8>, EncodeError> {
    encode_with(module, None)
}

/// The same, of a module that imports functions under a name of another module, which is linked in: its adapter.
///
/// # Errors
/// [`EncodeError`] if it has no component type, or the adapter lacks a function.
pub fn encode_adapted(module: &[u8], name: &str, adapter: &[u8]) -> Result<Vec<u8>, EncodeError> {
    encode_with(module, Some((name, adapter)))
}

fn encode_with(module: &[u8], adapter: Option<(&str, &[u8])>) -> Result<Vec<u8>, EncodeError> {
    validate("reading the module", module)?;
    let (stripped, _) = wit_component::metadata::decode(module).map_err(refused("reading the module"))?;
    if stripped.is_none() {
        return Err(EncodeError::NoComponentType);
    }
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(module).map_err(refused("reading the module's component type"))?;
    if let Some((name, adapter)) = adapter {
        encoder.adapter(name, adapter).map_err(refused("linking the adapter"))?;
    } else if let Some(import) = wasi(module)? {
        return Err(EncodeError::Wasi(import));
    }
    let component = encoder.encode().map_err(refused("encoding the component"))?;
    match interfaces(&component)?.imports.into_iter().find(|name| name.starts_with("wasi:")) {
        Some(wasi) => Err(EncodeError::Wasi(wasi)),
        None => Ok(component),
    }
}

/// A function of WASI that the module imports: the encoder knows them as little as the host does.
fn wasi(module: &[u8]) -> Result<Option<String>, EncodeError> {
    for payload in wasmparser::Parser::new(0).parse_all(module) {
        let refused = || refused("reading the module's imports");
        if let wasmparser::Payload::ImportSection(imports) = payload.map_err(refused())? {
            for import in imports.into_imports() {
                let import = import.map_err(refused())?;
                if import.module.starts_with("wasi_") {
                    return Ok(Some(format!("{}::{}", import.module, import.name)));
                }
            }
        }
    }
    Ok(None)
}

/// What a component imports and exports.
///
/// # Errors
/// [`EncodeError::Refused`] if it is not a component.
pub fn interfaces(component: &[u8]) -> Result<Interfaces, EncodeError> {
    validate("reading the component", component)?;
    if !wasmparser::Parser::is_component(component) {
        return Err(EncodeError::Refused {
            attempt: "reading the component",
            message: "it is a core module: encode it as a component first".to_owned(),
        });
    }
    let decoded = wit_component::decode(component).map_err(refused("reading the component"))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err(EncodeError::Refused {
            attempt: "reading the component",
            message: "it is a WIT package and holds no code".to_owned(),
        });
    };
    let Some(world) = resolve.worlds.get(world) else { return Ok(Interfaces::default()) };
    let names = |items: &mut dyn Iterator<Item = (&WorldKey, &WorldItem)>| {
        let mut names: Vec<String> = items.map(|(key, _)| name(&resolve, key)).collect();
        names.sort();
        names
    };
    Ok(Interfaces { imports: names(&mut world.imports.iter()), exports: names(&mut world.exports.iter()) })
}

/// The decoders take sections at their word, and panic if one claims more than there is.
fn validate(attempt: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
    wasmparser::validate(bytes).map(drop).map_err(refused(attempt))
}

fn name(resolve: &Resolve, key: &WorldKey) -> String {
    resolve.name_world_key(key)
}

fn refused<E: std::fmt::Display>(attempt: &'static str) -> impl Fn(E) -> EncodeError {
    // anyhow's errors show their chain of causes in the alternate form alone.
    move |error| EncodeError::Refused { attempt, message: format!("{error:#}") }
}

/// Encodes a module into the target directory.
pub(crate) fn write(module: &Module, target_dir: &Path) -> Result<Component, BuildError> {
    let file = |action, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| BuildError::File { action, path, source }
    };
    let bytes = fs::read(&module.path).map_err(file("reading", &module.path))?;
    let component =
        encode(&bytes).map_err(|source| BuildError::Encode { module: module.path.clone(), source })?;
    let component = with_config_schema(component, &module.folder)?;

    let dir = target_dir.join("components");
    fs::create_dir_all(&dir).map_err(file("creating", &dir))?;
    let path: PathBuf = dir.join(format!("{}.wasm", module.name));
    write_if_changed(&path, &component).map_err(file("writing", &path))?;
    Ok(Component { name: module.name.clone(), path })
}
