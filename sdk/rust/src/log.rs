//! Logging into the daemon's log, under the plugin's name.
//!
//! ```
//! use netloom_sdk::info;
//!
//! let owner = "acme/firewall";
//! info!("placed in front");
//! info!("placed in front of {} others", 3; owner = owner, device = "eth0");
//! ```
//!
//! Outside a component (in `cargo test`) entries go to stderr. The host limits the rate.

pub use crate::bindings::ambient::netloom::kernel::log::Level;

/// Writes one entry; the macros are the usual way.
pub fn write(level: Level, message: impl Into<String>, fields: &[(&str, &dyn std::fmt::Display)]) {
    let message = message.into();
    let fields: Vec<(String, String)> =
        fields.iter().map(|(key, value)| ((*key).to_owned(), value.to_string())).collect();
    emit(level, &message, &fields);
}

#[cfg(target_arch = "wasm32")]
fn emit(level: Level, message: &str, fields: &[(String, String)]) {
    crate::bindings::ambient::netloom::kernel::log::write(level, message, fields);
}

#[cfg(not(target_arch = "wasm32"))]
fn emit(level: Level, message: &str, fields: &[(String, String)]) {
    let fields: String = fields.iter().map(|(key, value)| format!(" {key}={value}")).collect();
    eprintln!("{level:?}: {message}{fields}");
}

/// Logs at a level: a format string and its arguments, then after a semicolon fields as `key = value`.
#[macro_export]
macro_rules! log {
    ($level:expr, $($format:expr),+ $(,)?) => {
        $crate::log::write($level, ::std::format!($($format),+), &[])
    };
    ($level:expr, $($format:expr),+ ; $($key:ident = $value:expr),+ $(,)?) => {
        $crate::log::write($level, ::std::format!($($format),+), &[$((::core::stringify!($key), &$value)),+])
    };
}

/// Logs something that went wrong.
#[macro_export]
macro_rules! error {
    ($($entry:tt)+) => { $crate::log!($crate::log::Level::Error, $($entry)+) };
}

/// Logs something an operator should look at.
#[macro_export]
macro_rules! warn {
    ($($entry:tt)+) => { $crate::log!($crate::log::Level::Warn, $($entry)+) };
}

/// Logs something worth knowing.
#[macro_export]
macro_rules! info {
    ($($entry:tt)+) => { $crate::log!($crate::log::Level::Info, $($entry)+) };
}

/// Logs something for whoever debugs the plugin.
#[macro_export]
macro_rules! debug {
    ($($entry:tt)+) => { $crate::log!($crate::log::Level::Debug, $($entry)+) };
}

/// Logs each step.
#[macro_export]
macro_rules! trace {
    ($($entry:tt)+) => { $crate::log!($crate::log::Level::Trace, $($entry)+) };
}
