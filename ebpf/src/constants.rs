//! The datapath's programs for one endpoint.

use object::{Object, ObjectSection, ObjectSymbol};

use crate::{DATAPATH, layout::Config};

/// The symbol of the constants in the object.
const SYMBOL: &str = "nl_config";

/// The constants are not where they should be: the object was not built from this crate's source.
#[derive(Debug, thiserror::Error)]
#[error("the datapath's object has no place for {size} bytes of constants named {SYMBOL}: build netloom-ebpf anew", size = Config::SIZE)]
pub struct NoConstants;

/// The object [`DATAPATH`] with an endpoint's constants in it, ready to be loaded.
///
/// They are written into the object, instead of being handed to the loader each time, so that one loader can serve
/// all endpoints: making one means reading the kernel's whole type information.
///
/// # Errors
/// [`NoConstants`].
pub fn datapath_with(config: Config) -> Result<Vec<u8>, NoConstants> {
    let mut bytes = DATAPATH.to_vec();
    let offset = offset(&bytes).ok_or(NoConstants)?;
    let place = bytes.get_mut(offset..offset + Config::SIZE).ok_or(NoConstants)?;
    place.copy_from_slice(&config.to_bytes());
    Ok(bytes)
}

/// Where the constants are in the object.
fn offset(bytes: &[u8]) -> Option<usize> {
    let file = object::File::parse(bytes).ok()?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(SYMBOL))?;
    let section = file.section_by_index(symbol.section_index()?).ok()?;
    let (start, length) = section.file_range()?;
    let fits = symbol.size() == Config::SIZE as u64 && symbol.address() + symbol.size() <= length;
    fits.then(|| usize::try_from(start + symbol.address()).ok())?
}
