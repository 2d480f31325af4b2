//! Builds a plugin crate into a component.
//!
//! ```no_run
//! use std::path::Path;
//! use netloom_plugin_build::{Options, build};
//!
//! let component = build(Path::new("plugins/attach-order"), &Options::default())?;
//! println!("built {}", component.path.display());
//! # Ok::<(), netloom_plugin_build::BuildError>(())
//! ```
//!
//! The crate is compiled for `wasm32-unknown-unknown`, which has no system interface at all, and the module is
//! encoded as a component here, with a pinned encoder: the same sources give the same bytes, wherever they lie. If the
//! folder has a `config.schema.json`, the component carries it.
//! All plugins that share a target directory share the standard library built in it.

mod cargo;
mod component;
mod error;
mod file;
mod schema;
mod toolchain;

use std::path::{Path, PathBuf};

pub use component::{EncodeError, Interfaces, encode, encode_adapted, interfaces};
pub use error::BuildError;
pub use schema::{CONFIG_SCHEMA, with_config_schema};
pub use toolchain::{BuildStd, Toolchain};

/// How to build.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where compiled code is kept; `guests` below Cargo's target directory unless given. Builds that share it
    /// compile the standard library once, and wait for one another. Cargo takes packages of one name and version
    /// for one another there, even from different folders.
    pub target_dir: Option<PathBuf>,
    /// Show Cargo's progress and warnings on stderr. Otherwise its output is kept for the error.
    pub progress: bool,
    /// Keep the names of functions, which backtraces are made of. The component is larger, and no faster or slower.
    pub names: bool,
}

/// A component that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// The name of the library, with dashes: the package's, unless its manifest says otherwise.
    pub name: String,
    /// The file: `components/NAME.wasm` in the target directory.
    pub path: PathBuf,
}

/// Builds the plugin whose `Cargo.toml` is in a folder.
///
/// # Errors
/// [`BuildError`], which says what to do.
pub fn build(crate_dir: &Path, options: &Options) -> Result<Component, BuildError> {
    let components = build_each(&[crate_dir], options)?;
    components
        .into_iter()
        .next()
        .ok_or_else(|| BuildError::NoLibrary { manifest: crate_dir.join("Cargo.toml") })
}

/// Builds several plugins of one Cargo workspace in one go, and gives their components in the same order.
///
/// # Errors
/// As for [`build`]; none is built unless all are.
pub fn build_each(crate_dirs: &[&Path], options: &Options) -> Result<Vec<Component>, BuildError> {
    let Some(first) = crate_dirs.first() else { return Ok(Vec::new()) };
    let toolchain = Toolchain::find()?;
    let workspace = cargo::Workspace::read(&toolchain, first)?;
    let plugins = crate_dirs.iter().map(|dir| workspace.plugin(dir)).collect::<Result<Vec<_>, _>>()?;
    let target_dir = match &options.target_dir {
        Some(dir) => dir.clone(),
        None => workspace.default_target_dir(),
    };
    let _lock = file::lock(&target_dir).map_err(|source| BuildError::File {
        action: "locking",
        path: target_dir.clone(),
        source,
    })?;
    let modules = workspace.compile(&toolchain, &plugins, &target_dir, options)?;
    modules.iter().map(|module| component::write(module, &target_dir)).collect()
}

/// Builds every plugin of the Cargo workspace (or package) in a folder: the members that are a `cdylib`.
///
/// # Errors
/// As for [`build`]; none is built unless all are.
pub fn build_all(workspace_dir: &Path, options: &Options) -> Result<Vec<Component>, BuildError> {
    let dirs = cargo::Workspace::read(&Toolchain::find()?, workspace_dir)?.plugin_dirs();
    build_each(&dirs.iter().map(PathBuf::as_path).collect::<Vec<_>>(), options)
}
