use std::io;

use netloom_api::ClientError;
use serde_json::{Value, json};

/// Why a call failed. Codes below 100 are the specification's, the others ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration's version.
    #[error("CNI version {asked} is not supported: use one of {supported}")]
    Version { asked: String, supported: String },
    /// The configuration's version knows no such command.
    #[error("{command} needs a configuration of CNI version {since} or later, and this one is of {version}")]
    Command { command: &'static str, since: &'static str, version: &'static str },
    /// A part of the configuration that would be ignored.
    #[error("the configuration has {key} = {value}: {why}")]
    Unsupported { key: &'static str, value: String, why: String },
    /// Variables are missing or wrong.
    #[error("wrong environment: {}", .0.join("; "))]
    Environment(Vec<String>),
    /// stdin.
    #[error("cannot read the network's configuration from stdin: {0}")]
    Read(io::Error),
    /// No threads or files left.
    #[error("cannot prepare for talking to netloomd: {0}")]
    Runtime(io::Error),
    /// stdin is not JSON.
    #[error("the network's configuration is not JSON: {0}")]
    Decode(serde_json::Error),
    /// stdin is JSON, but no configuration.
    #[error("the network's configuration is not usable: {0}")]
    Config(String),
    /// netloomd cannot be asked at present.
    #[error("{0}")]
    Unavailable(ClientError),
    /// netloomd does not answer.
    #[error("netloomd has not answered within {0} s")]
    Timeout(u64),
    /// STATUS: ADD would fail. Existing endpoints go on: their programs do not need netloomd.
    #[error("netloomd is not ready: {0}")]
    NotReady(Box<Self>),
    /// STATUS: ADD would fail.
    #[error("netloomd cannot add endpoints: {0}")]
    Unable(String),
    /// STATUS: ADD would fail, and what is there already may not work either.
    #[error("netloomd cannot add endpoints: {why}; and of what is there already, {limits}")]
    Limited { why: String, limits: String },
    /// netloomd refused, or is not understood.
    #[error("{0}")]
    Refused(ClientError),
    /// CHECK found a difference.
    #[error("the endpoint is not as it was added: {0}")]
    Drifted(String),
    /// The plugin that gives the addresses failed, with its own code.
    #[error("the IPAM plugin {plugin} failed: {message}")]
    Delegate { plugin: String, code: u32, message: String, details: Option<String> },
    /// GC could not delete everything.
    #[error("some endpoints could not be deleted: {}", .0.join("; "))]
    Leftovers(Vec<String>),
}

impl Failure {
    /// The specification's section "Error" has the numbers.
    fn code(&self) -> u32 {
        match self {
            Self::Version { .. } | Self::Command { .. } => 1,
            Self::Unsupported { .. } => 2,
            Self::Environment(_) => 4,
            Self::Read(_) | Self::Runtime(_) => 5,
            Self::Decode(_) => 6,
            Self::Config(_) => 7,
            Self::Unavailable(_) | Self::Timeout(_) => 11,
            Self::NotReady(_) | Self::Unable(_) => 50,
            Self::Limited { .. } => 51,
            Self::Refused(_) => 100,
            Self::Drifted(_) => 101,
            Self::Leftovers(_) => 102,
            Self::Delegate { code, .. } => *code,
        }
    }

    fn details(&self) -> Option<String> {
        match self {
            Self::Unavailable(error) | Self::Refused(error) => error.hint().map(str::to_owned),
            Self::NotReady(failure) => failure.details(),
            Self::Delegate { details, .. } => details.clone(),
            Self::Timeout(_) => Some("its log says what it is at".to_owned()),
            _ => None,
        }
    }

    /// Whether netloomd may have done, or do later, what it was asked for.
    pub(crate) fn leaves_open_what_was_done(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Unavailable(ClientError::Transport { .. }))
    }

    /// The error as the specification wants it on stdout, in one of its versions.
    pub(crate) fn to_json(&self, version: &str) -> Value {
        let mut error = json!({ "cniVersion": version, "code": self.code(), "msg": self.to_string() });
        if let (Some(fields), Some(details)) = (error.as_object_mut(), self.details()) {
            fields.insert("details".to_owned(), details.into());
        }
        error
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Connect { .. } | ClientError::Transport { .. } => Self::Unavailable(error),
            ClientError::Refused { status, .. } if *status == SERVICE_UNAVAILABLE => Self::Unavailable(error),
            _ => Self::Refused(error),
        }
    }
}

/// HTTP: the daemon is there, but not ready.
const SERVICE_UNAVAILABLE: u16 = 503;
/// HTTP: there is no such thing.
const NOT_FOUND: u16 = 404;

/// Whether netloomd says that there is no such endpoint.
pub(crate) fn is_not_found(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { status, .. } if *status == NOT_FOUND)
}
