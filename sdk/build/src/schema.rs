//! The schema of a plugin's configuration, which its component carries along.

use std::{borrow::Cow, fs, io, path::Path};

use serde::de::IgnoredAny;
use wasm_encoder::{ComponentSection as _, CustomSection};

use crate::BuildError;

/// The schema's file in the folder of a plugin.
pub const CONFIG_SCHEMA: &str = "config.schema.json";

/// The custom section of a component that holds its text.
const SECTION: &str = "netloom:config-schema";

/// Puts the schema in a plugin's folder into its component, for the host to check configurations with. Without that
/// file the component is given back as it is.
///
/// # Errors
/// [`BuildError`] if the file cannot be read, or is not JSON.
pub fn with_config_schema(mut component: Vec<u8>, folder: &Path) -> Result<Vec<u8>, BuildError> {
    let path = folder.join(CONFIG_SCHEMA);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(component),
        Err(source) => return Err(BuildError::File { action: "reading", path, source }),
    };
    serde_json::from_slice::<IgnoredAny>(&text).map_err(|source| BuildError::Schema { path, source })?;
    // As it was written: the same file gives the same bytes.
    let section = CustomSection { name: Cow::Borrowed(SECTION), data: Cow::Borrowed(&text) };
    section.append_to_component(&mut component);
    Ok(component)
}
