//! Reads a Cargo workspace, and compiles plugins of it.

use std::{
    env,
    ffi::OsString,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use serde::{Deserialize, de::DeserializeOwned};

use crate::{BuildError, Options, Toolchain, file::write_if_changed, toolchain::TARGET};

/// The profile of plugins, whatever the manifest says of releases: fast (a decision takes an eighth longer in one made
/// to be small), whole-program optimised, and a panic is a trap, for which the host is prepared.
const PROFILE: [(&str, &str); 7] = [
    ("OPT_LEVEL", "3"),
    ("LTO", "fat"),
    ("CODEGEN_UNITS", "1"),
    ("PANIC", "abort"),
    ("STRIP", "symbols"),
    ("DEBUG", "false"),
    ("INCREMENTAL", "false"),
];

/// A Cargo workspace, as `cargo metadata` describes it.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
    /// None for a package in a folder of this machine.
    source: Option<String>,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    crate_types: Vec<String>,
}

impl Package {
    fn library(&self) -> Option<&Target> {
        self.targets.iter().find(|target| target.crate_types.iter().any(|kind| kind == "cdylib"))
    }

    fn dir(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }
}

/// A package to build.
#[derive(Debug)]
pub(crate) struct Plugin<'a>(&'a Package);

/// A compiled core module.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Where its package lies.
    pub(crate) folder: PathBuf,
}

/// What Cargo prints about each thing it compiled.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    package_id: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

impl Workspace {
    /// Reads the workspace that the package in a folder belongs to.
    pub(crate) fn read(toolchain: &Toolchain, dir: &Path) -> Result<Self, BuildError> {
        let manifest = dir.join("Cargo.toml");
        let manifest = manifest.canonicalize().map_err(|_| BuildError::NoPackage { manifest })?;
        let mut command = toolchain.cargo();
        command.args(["metadata", "--format-version=1", "--filter-platform", TARGET, "--manifest-path"]);
        command.arg(&manifest).current_dir(dir);
        let output = command
            .output()
            .map_err(|source| BuildError::Start { program: toolchain.cargo.clone(), source })?;
        let failed = |message: String| BuildError::Metadata { manifest, message };
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        parse(&output.stdout).map_err(|error| failed(error.to_string()))
    }

    /// The plugin in a folder.
    pub(crate) fn plugin(&self, dir: &Path) -> Result<Plugin<'_>, BuildError> {
        let manifest = dir.join("Cargo.toml");
        let canonical = manifest.canonicalize().unwrap_or_else(|_| manifest.clone());
        let Some(package) = self.packages.iter().find(|package| package.manifest_path == canonical) else {
            return Err(BuildError::NoPackage { manifest });
        };
        match package.library() {
            Some(_) => Ok(Plugin(package)),
            None => Err(BuildError::NoLibrary { manifest }),
        }
    }

    /// The folders of all plugins in it.
    pub(crate) fn plugin_dirs(&self) -> Vec<PathBuf> {
        let members = self.packages.iter().filter(|package| self.workspace_members.contains(&package.id));
        members
            .filter(|package| package.library().is_some())
            .map(|package| package.dir().to_owned())
            .collect()
    }

    /// `guests` in the target directory of the Cargo that runs us, else of the workspace.
    pub(crate) fn default_target_dir(&self) -> PathBuf {
        let of_build_script = env::var_os("OUT_DIR").and_then(|out| {
            Path::new(&out).ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists()).map(Path::to_owned)
        });
        let configured = || env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        of_build_script.or_else(configured).unwrap_or_else(|| self.target_directory.clone()).join("guests")
    }

    /// Compiles plugins with one run of Cargo, and gives their modules in the same order.
    pub(crate) fn compile(
        &self,
        toolchain: &Toolchain,
        plugins: &[Plugin<'_>],
        target_dir: &Path,
        options: &Options,
    ) -> Result<Vec<Module>, BuildError> {
        let mut command = toolchain.cargo();
        command.current_dir(&self.workspace_root);
        command.args(["build", "--lib", "--release", "--message-format=json-render-diagnostics"]);
        command.args(["--target", TARGET]).arg("--target-dir").arg(target_dir);
        if toolchain.build_std.is_some() {
            command.arg("-Zbuild-std=std,panic_abort");
        }
        for Plugin(package) in plugins {
            command.arg("--package").arg(&package.id);
        }
        for (key, value) in PROFILE {
            command.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
        }
        if options.names {
            command.env("CARGO_PROFILE_RELEASE_STRIP", "none");
        }
        command.env("CARGO_ENCODED_RUSTFLAGS", self.rustflags(toolchain, target_dir)?);

        let messages = self.run(command, toolchain, options.progress)?;
        plugins
            .iter()
            .map(|Plugin(package)| {
                let of_package = messages.iter().filter(|message| message.package_id == package.id);
                let mut files = of_package.flat_map(|message| &message.filenames);
                let path = files.find(|file| file.extension().is_some_and(|extension| extension == "wasm"));
                let no_library = || BuildError::NoLibrary { manifest: package.manifest_path.clone() };
                let library = package.library().ok_or_else(no_library)?;
                let path = path.ok_or_else(no_library)?.clone();
                let name = library.name.replace('_', "-");
                Ok(Module { name, path, folder: package.dir().to_owned() })
            })
            .collect()
    }

    fn run(
        &self,
        mut command: Command,
        toolchain: &Toolchain,
        progress: bool,
    ) -> Result<Vec<Message>, BuildError> {
        let start = |source| BuildError::Start { program: toolchain.cargo.clone(), source };
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(if progress { Stdio::inherit() } else { Stdio::piped() });
        let mut child = command.spawn().map_err(start)?;

        // Both pipes are read at once: Cargo would block on the one that is full.
        let stderr = child.stderr.take().map(|mut pipe| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = pipe.read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            })
        });
        let lines = child.stdout.take().into_iter().flat_map(|pipe| BufReader::new(pipe).lines());
        let messages: Vec<Message> = lines
            .map_while(Result::ok)
            .filter_map(|line| parse::<Message>(line.as_bytes()).ok())
            .filter(|message| message.reason == "compiler-artifact")
            .collect();
        let status = child.wait().map_err(start)?;
        let message = stderr.and_then(|reader| reader.join().ok()).unwrap_or_default();
        if status.success() {
            Ok(messages)
        } else {
            Err(BuildError::Compile { workspace: self.workspace_root.clone(), message })
        }
    }

    /// Flags that keep the paths of this machine out of the bytes, separated as Cargo wants them.
    ///
    /// The paths of the plugin's own packages stand in a file of arguments, whose name is always the same: Cargo
    /// compiles everything anew for other flags, the standard library too, which several workspaces share here.
    /// These flags do not concern it.
    fn rustflags(&self, toolchain: &Toolchain, target_dir: &Path) -> Result<OsString, BuildError> {
        let arguments = target_dir.join("remap-packages");
        let mut packages = OsString::new();
        for package in self.packages.iter().filter(|package| package.source.is_none()) {
            packages.push(remap(package.dir(), &format!("/packages/{}", package.name)));
            packages.push("\n");
        }
        write_if_changed(&arguments, packages.as_encoded_bytes()).map_err(|source| BuildError::File {
            action: "writing",
            path: arguments.clone(),
            source,
        })?;

        let mut flags = OsString::from("@");
        flags.push(arguments);
        for (folder, name) in [
            (cargo_home(), "/cargo"),
            (toolchain.build_std.as_ref().map(|build_std| build_std.sources.clone()), "/rust"),
        ] {
            // Links are followed by some of the tools and not by others.
            let canonical = folder.as_ref().and_then(|folder| folder.canonicalize().ok());
            for folder in [folder, canonical].into_iter().flatten() {
                flags.push("\x1f");
                flags.push(remap(&folder, name));
            }
        }
        Ok(flags)
    }
}

fn remap(folder: &Path, name: &str) -> OsString {
    let mut flag = OsString::from("--remap-path-prefix=");
    flag.push(folder);
    flag.push("=");
    flag.push(name);
    flag
}

fn cargo_home() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(json)
}
