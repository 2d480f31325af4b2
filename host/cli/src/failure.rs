use std::{io, path::PathBuf};

use netloom_api::{ClientError, types::ErrorBody};
use netloom_core::model::Name;

/// A command did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// netloomd is not there, refused, or is not understood.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No runtime, no requests.
    #[error("cannot prepare for talking to netloomd: {0}")]
    Runtime(io::Error),
    /// The answer cannot be shown.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
    /// The answer cannot be shown as JSON.
    #[error("cannot write the answer as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A path relative to a folder that is not there.
    #[error("cannot tell the full path of {}: {source}", path.display())]
    Path {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of services.
    #[error("cannot read the services {}: {source}", path.display())]
    ReadServices {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of services.
    #[error("{} is no list of services: {reason}", path.display())]
    ParseServices {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A plugin's configuration file.
    #[error("cannot read the plugin's configuration {}: {source}", path.display())]
    ReadConfig {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A plugin's configuration file.
    #[error("the plugin's configuration {} is not an object in {format}: {reason}", path.display())]
    ParseConfig {
        /// Which.
        path: PathBuf,
        /// JSON or TOML.
        format: &'static str,
        /// Why, and where.
        reason: String,
    },
    /// A file of grants.
    #[error("cannot read the grants {}: {source}", path.display())]
    ReadGrants {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of grants.
    #[error("the grants {} are not understood: {reason}", path.display())]
    ParseGrants {
        /// Which.
        path: PathBuf,
        /// Why, and where.
        reason: String,
    },
    /// The tool of plugin authors is not there.
    #[error("cannot start {}: {source}", program.display())]
    Tool {
        /// What was to be started.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is in a registry could not be had.
    #[error("cannot fetch {reference}: {reason}")]
    Fetch {
        /// Which.
        reference: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Only what comes from a registry is verified here.
    #[error("{} is a file, and --verify-key is for what comes from a registry", path.display())]
    KeyForFile {
        /// Which.
        path: PathBuf,
    },
    /// A limit that there is not.
    #[error("the plugin's limits are not understood: {0}")]
    Limits(String),
    /// A backup.
    #[error("cannot write the backup {}: {source}", path.display())]
    WriteBackup {
        /// The new file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// netloomd itself has to do it.
    #[error("cannot run {}: {source}", program.display())]
    Netloomd {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A stream that goes on without end has ended.
    #[error("netloomd has ended, and its events with it")]
    Ended,
    /// The daemon knows no such service.
    #[error("no service is called {0}")]
    UnknownService(Name),
}

impl Failure {
    /// The error and what to do about it.
    pub(crate) fn body(&self) -> ErrorBody {
        let error = match self {
            // The client keeps the reason apart from its message.
            Self::Client(error @ ClientError::Answer { source, .. }) => format!("{error} ({source})"),
            other => other.to_string(),
        };
        let hint = match self {
            Self::Client(error) => error.hint(),
            Self::ReadConfig { .. } => {
                Some("give --config a .json or .toml file, or a value written KEY=VALUE")
            }
            Self::ParseGrants { .. } => {
                Some("every kind of object has to be named, as in: [links] interfaces = [\"*\"]")
            }
            Self::Tool { .. } => {
                Some("netloom-plugin comes with Netloom: put it beside netloom, or on the PATH")
            }
            Self::WriteBackup { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                Some("name a new file: an older backup is not overwritten")
            }
            Self::Netloomd { .. } => Some("netloomd has to be beside netloom, or on the PATH"),
            Self::ParseServices { .. } => Some("`netloom service list --output json` shows how one looks"),
            Self::KeyForFile { .. } => Some(
                "name the keys as plugins.signed_by in netloomd's configuration: it then verifies FILE.sig",
            ),
            Self::UnknownService(_) => Some("`netloom service list` shows the services there are"),
            _ => None,
        };
        ErrorBody { error, hint: hint.map(str::to_owned) }
    }

    /// Whether the reader of the answer went away, as `head` does: no failure of ours.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
