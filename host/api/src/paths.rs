use std::path::PathBuf;

use netloom_core::model::Name;

/// Where an instance of netloomd keeps things. A node has one instance; tests and demos run others beside it,
/// each under a name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The API's unix socket.
    pub socket: PathBuf,
    /// Gone after a boot: the socket, the lock.
    pub run: PathBuf,
    /// Survives a boot: the store, compiled plugins.
    pub state: PathBuf,
    /// The folder in bpffs: pinned maps, links and programs.
    pub bpffs: PathBuf,
    /// The configuration file.
    pub config: PathBuf,
}

impl Paths {
    /// The paths of the node's instance (`None`), or of a named one.
    #[must_use]
    pub fn of(instance: Option<&Name>) -> Self {
        let name = instance.map_or_else(|| "netloom".to_owned(), |name| format!("netloom-{name}"));
        let run = PathBuf::from("/run").join(&name);
        Self {
            socket: run.join("netloomd.sock"),
            run,
            state: PathBuf::from("/var/lib").join(&name),
            // bpffs takes no dots in names.
            bpffs: PathBuf::from("/sys/fs/bpf").join(name.replace('.', "~")),
            config: PathBuf::from("/etc").join(&name).join("netloom.toml"),
        }
    }
}
