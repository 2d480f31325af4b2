//! Values of global variables, as people write them.

use object::{Object as _, ObjectSymbol as _};

use super::LoadError;

/// The bytes of a global variable of an object: an integer, decimal or with `0x`, of the variable's size, or
/// `hex:` and the bytes as they lie in memory.
///
/// # Errors
/// [`LoadError::Global`] if the object has no such variable, or the value is not one or does not fit.
pub fn global(object: &str, bytes: &[u8], name: &str, text: &str) -> Result<Vec<u8>, LoadError> {
    let wrong = |detail: String| LoadError::Global { object: object.to_owned(), detail };
    let file = object::File::parse(bytes)
        .map_err(|error| LoadError::NotBpf { object: object.to_owned(), detail: error.to_string() })?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(name) && symbol.size() > 0);
    let symbol = symbol.ok_or_else(|| {
        let variables: Vec<&str> = file
            .symbols()
            .filter(|symbol| symbol.kind() == object::SymbolKind::Data && symbol.size() > 0)
            .filter_map(|symbol| symbol.name().ok())
            .filter(|name| !["LICENSE", "_license", "license"].contains(name))
            .collect();
        let has = if variables.is_empty() { "none".to_owned() } else { variables.join(", ") };
        wrong(format!("it has no variable {name:?}; it has {has}"))
    })?;
    let size = usize::try_from(symbol.size()).unwrap_or(usize::MAX);
    let value = match text.strip_prefix("hex:") {
        Some(digits) => from_hex(digits).ok_or_else(|| {
            wrong(format!("{digits:?} for {name} is not an even number of hexadecimal digits"))
        }),
        None => integer(text, size).ok_or_else(|| {
            wrong(format!(
                "{text:?} for {name} is not an integer of {size} bytes; other values are given as hex:BYTES"
            ))
        }),
    }?;
    if value.len() == size {
        return Ok(value);
    }
    Err(wrong(format!("{name} has {size} bytes, and {text:?} is {}", value.len())))
}

fn integer(text: &str, size: usize) -> Option<Vec<u8>> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let magnitude = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    let magnitude = i128::from(magnitude.ok()?);
    let value = if negative { -magnitude } else { magnitude };
    let bits = u32::try_from(size).ok()?.checked_mul(8).filter(|bits| (8..=64).contains(bits))?;
    let fits = value < 1 << bits && value >= -(1 << (bits - 1));
    let bytes = value.to_ne_bytes();
    let bytes = if cfg!(target_endian = "little") { bytes.get(..size) } else { bytes.get(16 - size..) };
    fits.then(|| bytes.map(<[u8]>::to_vec))?
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_take_the_size_of_their_variable() {
        assert_eq!(integer("258", 4), Some(258_u32.to_ne_bytes().to_vec()));
        assert_eq!(integer("-1", 2), Some(vec![0xff, 0xff]));
        assert_eq!(integer("0xff", 1), Some(vec![0xff]));
        assert_eq!(integer("18446744073709551615", 8), Some(vec![0xff; 8]));
        for (text, size) in [("256", 1), ("-129", 1), ("x", 4), ("1", 16), ("", 4)] {
            assert_eq!(integer(text, size), None, "{text} in {size}");
        }
    }

    #[test]
    fn bytes_are_written_in_pairs() {
        assert_eq!(from_hex("0a0B"), Some(vec![10, 11]));
        assert_eq!(from_hex(""), Some(vec![]));
        assert_eq!(from_hex("0a0"), None);
        assert_eq!(from_hex("zz"), None);
    }
}
