use std::{path::PathBuf, time::Duration};

use netloom_core::{grants::Grant, model::Name};
use wasmtime::Trap;

use crate::{hook::Hook, limits::Breach};

/// The plugin host could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// wasmtime refused its configuration.
    #[error("could not set up the Wasm engine: {0}")]
    Engine(String),
    /// The ticker thread could not be started.
    #[error("could not start the thread that keeps plugins' deadlines: {0}")]
    Ticker(#[source] std::io::Error),
    /// The cache directory could not be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// The directory of compiled components cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A call on it failed.
    #[error("could not {action} the plugin cache {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Another user could write it: what lies in it is machine code that would be run.
    #[error(
        "the plugin cache {} is not safe to use: {problem}; remove it, or name another directory",
        path.display()
    )]
    Unsafe {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// A component was not accepted as a plugin. Each says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin {plugin} was not loaded: {reason}")]
pub struct LoadError {
    /// Which plugin it would have been.
    pub plugin: Name,
    /// Why.
    pub reason: Refusal,
}

/// Why a component is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No bytes.
    #[error("the file is empty; build the plugin again")]
    Empty,
    /// A text file.
    #[error("the file is text, not a component in binary form; give the .wasm file the build made")]
    Text,
    /// A core module.
    #[error(
        "the file is a core Wasm module, not a component; make one of it with `netloom plugin build` or `wasm-tools component new`"
    )]
    CoreModule,
    /// Something else altogether.
    #[error("the file is not WebAssembly: it starts with {0}; give the .wasm file the build made")]
    NotWasm(String),
    /// It ends early, or does not validate.
    #[error("the component is truncated or damaged ({0}); build or fetch it again")]
    Damaged(String),
    /// Too many bytes.
    #[error("the component has {size} bytes, the limit is {limit}; raise the plugin's component_bytes")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// It wants an operating system.
    #[error(
        "it imports {0}, and plugins have no operating system under them; build it for wasm32-unknown-unknown, or stub WASI out"
    )]
    Wasi(String),
    /// It wants something Netloom does not offer.
    #[error("it imports {import}, which this netloomd does not offer; {hint}")]
    UnknownImport {
        /// The import's name.
        import: String,
        /// What to do.
        hint: String,
    },
    /// It exports no hook.
    #[error(
        "it exports no hook (attach-order, datapath-mode, socket-reap or lifecycle of netloom:policy@0.1.0){exports}; export at least one"
    )]
    NoHook {
        /// What it exports instead, as a clause.
        exports: String,
    },
    /// It imports an operation it was not granted.
    #[error(
        "it imports {import} without the grant `{grant}`; if you trust it with that, grant it in a file and load it with `--grant FILE`"
    )]
    MissingGrant {
        /// The import's name.
        import: String,
        /// The grant.
        grant: Grant,
    },
    /// It imports an operation this host does not carry out.
    #[error(
        "it imports {import}, an operation this netloomd does not carry out for plugins; build it without, or use a netloomd that does"
    )]
    NotOffered {
        /// The import's name.
        import: String,
    },
    /// A granted directory cannot be opened.
    #[error("a directory granted to it cannot be opened: {0}; correct the grant, or make the directory")]
    Directory(String),
    /// An import or a hook has another shape than published.
    #[error("it does not fit the published interfaces ({0}); build it against netloom:policy@0.1.0")]
    Mismatch(String),
    /// It did not start.
    #[error("its first instance did not start: {0}")]
    Start(Failure),
    /// It carries a schema of its configuration that cannot be used.
    #[error(
        "the schema of its configuration cannot be used: {0}; correct its config.schema.json, and build it again"
    )]
    Schema(String),
    /// Its configuration is not as its schema says.
    #[error(
        "its configuration is wrong: {0}; correct the plugin's [config], of which `netloom plugin inspect` says what it takes"
    )]
    Config(String),
    /// It refused its configuration.
    #[error("it refused its configuration: {0}; correct the plugin's [config]")]
    Init(String),
    /// It reports itself unhealthy from the start.
    #[error("it reports itself unhealthy: {0}")]
    Unhealthy(String),
    /// The host failed.
    #[error("the host failed: {0}")]
    Host(String),
}

impl CallError {
    /// Whether the plugin was asked at all, and so failed by its own doing.
    #[must_use]
    pub const fn was_asked(&self) -> bool {
        !matches!(
            self.failure,
            Failure::NotServed(_)
                | Failure::Backoff { .. }
                | Failure::Quarantined(_)
                | Failure::Busy(_)
                | Failure::Question(_)
        )
    }
}

impl Refusal {
    pub(crate) fn of(self, plugin: &Name) -> LoadError {
        LoadError { plugin: plugin.clone(), reason: self }
    }
}

/// A call to a plugin gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin {plugin}: {function} {failure}")]
pub struct CallError {
    /// Which plugin.
    pub plugin: Name,
    /// What was asked of it.
    pub function: &'static str,
    /// What happened.
    pub failure: Failure,
}

/// What happened instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It does not export the hook.
    #[error("was not asked: the plugin does not serve {0}")]
    NotServed(Hook),
    /// It failed a moment ago.
    #[error("was not asked: in backoff for another {} ms after: {reason}", retry_in.as_millis())]
    Backoff {
        /// What happened then.
        reason: String,
        /// Until it is asked again.
        retry_in: Duration,
    },
    /// It failed too often.
    #[error("was not asked: in quarantine since: {0}; load the plugin again to end it")]
    Quarantined(String),
    /// All its instances were busy.
    #[error("was not asked: all instances were busy for {} ms", .0.as_millis())]
    Busy(Duration),
    /// It ran past its deadline.
    #[error("ran past its deadline of {} ms", .0.as_millis())]
    Deadline(Duration),
    /// It ran into a limit, and did not cope.
    #[error("{0}, and then failed: {1}")]
    Limit(Breach, String),
    /// It trapped.
    #[error("trapped: {0}")]
    Trap(String),
    /// A new instance refused the configuration an earlier one took.
    #[error("could not be asked: a new instance refused its configuration: {0}")]
    Init(String),
    /// Its answer cannot be used.
    #[error("gave a bad answer: {0}")]
    BadAnswer(String),
    /// The question cannot be asked: the host's mistake.
    #[error("was not asked: {0}")]
    Question(String),
}

impl Failure {
    /// What an error of wasmtime means, given the limit the instance ran into, if any.
    pub(crate) fn of(error: &wasmtime::Error, breach: Option<Breach>, deadline: Duration) -> Self {
        let breach = error.downcast_ref::<Breach>().copied().or(breach);
        match breach {
            Some(Breach::Deadline) => Self::Deadline(deadline),
            Some(breach) => Self::Limit(breach, cause(error)),
            None => Self::Trap(cause(error)),
        }
    }
}

/// The shortest true account of an error: the trap and the innermost named function it happened in, or the
/// chain of causes.
fn cause(error: &wasmtime::Error) -> String {
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let what = match trap {
            Trap::StackOverflow => "its call stack is exhausted (endless recursion?)".to_owned(),
            Trap::MemoryOutOfBounds => {
                "it reached outside its memory (endless recursion, or a stray pointer?)".to_owned()
            }
            Trap::UnreachableCodeReached => "it panicked or aborted (unreachable code)".to_owned(),
            other => other.to_string(),
        };
        return match innermost(error) {
            Some(function) => format!("{what}, in {function}"),
            None => what,
        };
    }
    if let Some(breach) = error.downcast_ref::<Breach>() {
        return breach.to_string();
    }
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}

/// The innermost function that has a name, and is not what Rust does when it panics.
fn innermost(error: &wasmtime::Error) -> Option<String> {
    let backtrace = error.downcast_ref::<wasmtime::WasmBacktrace>()?;
    let mut names = backtrace.frames().iter().filter_map(wasmtime::FrameInfo::func_name).map(readable);
    names.find(|name| !["__rustc::", "core::", "std::"].iter().any(|library| name.starts_with(library)))
}

/// The functions a trap happened in, innermost first, by their names as far as the component has kept them.
pub(crate) fn backtrace(error: &wasmtime::Error) -> Option<String> {
    let backtrace = error.downcast_ref::<wasmtime::WasmBacktrace>()?;
    let frames = backtrace.frames().iter().map(|frame| match frame.func_name() {
        Some(name) => readable(name),
        None => format!("function {}", frame.func_index()),
    });
    Some(frames.collect::<Vec<String>>().join(" < "))
}

/// The name of a function as its author wrote it, if they wrote it in Rust; cut where it is long.
fn readable(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name)).chars().take(120).collect()
}
