//! A netloomd of a test's own: how it is started, and what it is asked.

mod end;
mod left;
mod log;

use std::{
    env,
    fs::File,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use netloom_api::{Client, ClientError, Lines, Paths, types::Status};
use netloom_core::model::Name;
use serde::{Serialize, de::DeserializeOwned};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::{Output, at_this_pace, cgroup, command::output};

/// How long a start or an end may take on a machine under load.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a daemon is started.
#[derive(Clone, Debug, Default)]
pub struct DaemonOptions {
    /// Its instance's name; none takes a fresh one.
    pub instance: Option<Name>,
    /// A path of the network namespace that is its node; none takes the caller's.
    pub node: Option<PathBuf>,
    /// The program; none takes the one that cargo built next to the test.
    pub binary: Option<PathBuf>,
    /// Its configuration file's text; none means none.
    pub config: Option<String>,
    /// More arguments for its command line.
    pub args: Vec<String>,
    /// Variables for its environment.
    pub env: Vec<(String, String)>,
    /// Whether the test has its system calls fail: errors in its log are no surprise then, and panics are.
    pub faulty: bool,
}

/// A real netloomd as an instance of its own, with its own socket, state and pins. It ends with this value, and
/// leaves nothing behind: a test whose daemon does not end in order, logs an error that was not
/// [expected](Self::expect_error), or leaves something in the kernel or in files after its cleanup, fails.
#[derive(Debug)]
pub struct Daemon {
    instance: Name,
    options: DaemonOptions,
    scratch: TempDir,
    child: Option<Child>,
    client: Client,
    runtime: Runtime,
    /// Texts of errors in its log that the test provokes.
    expected: Mutex<Vec<String>>,
}

impl Daemon {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// If it is not built, ends, or does not answer; shows what it wrote.
    #[must_use]
    pub fn start(options: DaemonOptions) -> Self {
        let instance = options.instance.clone().unwrap_or_else(fresh_instance);
        let scratch = tempfile::tempdir().expect("a folder can be made");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        let client = Client::new(Paths::of(Some(&instance)).socket);
        let mut daemon =
            Self { instance, options, scratch, child: None, client, runtime, expected: Mutex::default() };
        daemon.launch();
        daemon
    }

    /// Its instance's name.
    #[must_use]
    pub const fn instance(&self) -> &Name {
        &self.instance
    }

    /// Where it keeps things.
    #[must_use]
    pub fn paths(&self) -> Paths {
        Paths::of(Some(&self.instance))
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// A client of it, for code of its own runtime.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// `GET route`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn get<T: DeserializeOwned>(&self, route: &str) -> Result<T, ClientError> {
        self.runtime.block_on(self.client.get(route))
    }

    /// `GET route`, for what is no JSON.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn text(&self, route: &str) -> Result<String, ClientError> {
        self.runtime.block_on(self.client.text(route))
    }

    /// `POST route`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn post<T: DeserializeOwned>(&self, route: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.runtime.block_on(self.client.post(route, body))
    }

    /// `PUT route`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn put<T: DeserializeOwned>(&self, route: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.runtime.block_on(self.client.put(route, body))
    }

    /// `PATCH route`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn patch<T: DeserializeOwned>(&self, route: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.runtime.block_on(self.client.patch(route, body))
    }

    /// `DELETE route`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn delete<T: DeserializeOwned>(&self, route: &str) -> Result<T, ClientError> {
        self.runtime.block_on(self.client.delete(route))
    }

    /// `GET route`, whose answer is lines that come as they happen.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn listen(&self, route: &str) -> Result<Listening<'_>, ClientError> {
        let lines = self.runtime.block_on(self.client.lines(route))?;
        Ok(Listening { daemon: self, lines: Some(lines) })
    }

    /// The daemon at a glance.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn status(&self) -> Status {
        self.get("/v1/status").unwrap_or_else(|error| panic!("no status: {error}\n{}", self.log()))
    }

    /// Runs the `netloom` command on it.
    #[must_use]
    pub fn netloom(&self, args: &[&str]) -> Output {
        output(&mut self.netloom_command(args))
    }

    /// The same, to be started.
    #[must_use]
    pub fn netloom_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary("netloom"));
        command.arg("--instance").arg(self.instance.as_str()).args(args);
        command
    }

    /// Sets the text of its configuration file for the starts that follow.
    pub fn set_config(&mut self, config: &str) {
        self.options.config = Some(config.to_owned());
    }

    fn launch(&mut self) {
        self.spawn();
        self.wait_until_it_answers();
    }

    fn spawn(&mut self) {
        let log =
            File::options().create(true).append(true).open(self.log_file()).expect("a log can be opened");
        let mut command = self.netloomd();
        // Ctrl-C at a terminal is for the test alone, which ends the daemon itself.
        command.process_group(0);
        std::fs::write(self.config_file(), self.config()).expect("a configuration can be written");
        command.arg("--config").arg(self.config_file());
        command.args(&self.options.args).envs(self.options.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
        self.child = Some(child);
    }

    fn config_file(&self) -> PathBuf {
        self.scratch.path().join("netloom.toml")
    }

    /// The text of its configuration file, and what it does not say. Plugins have longer to decide: a machine that is
    /// emulated or busy with other things would have them miss their deadline now and then. Services are translated for
    /// the cgroup that the program of tests was given, if it was given one.
    fn config(&self) -> String {
        let mut config = self.options.config.clone().unwrap_or_default();
        if !config.contains("[plugins]") {
            config += "\n[plugins]\ndeadline_ms = 2000\n";
        }
        match cgroup::given() {
            Some(cgroup) if config.contains("[datapath]\n") => {
                config.replacen("[datapath]\n", &format!("[datapath]\ncgroup = {cgroup:?}\n"), 1)
            }
            Some(cgroup) => format!("{config}\n[datapath]\ncgroup = {cgroup:?}\n"),
            None => config,
        }
    }

    fn wait_until_it_answers(&mut self) {
        let started = Instant::now();
        loop {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                self.child = None;
                panic!("netloomd ended at once ({status}):\n{}", self.log());
            }
            match self.get::<Status>("/v1/status") {
                Ok(_) => return,
                Err(error) if started.elapsed() > at_this_pace(PATIENCE) => {
                    panic!("netloomd does not answer: {error}\n{}", self.log())
                }
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// netloomd's command line up to its own arguments, in the namespace that is its node.
    fn netloomd(&self) -> Command {
        let program = self.options.binary.clone().unwrap_or_else(|| binary("netloomd"));
        let mut command = match &self.options.node {
            None => Command::new(program),
            Some(node) => {
                // `ip netns exec` would hide bpffs behind a fresh /sys.
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", node.display())).arg("--").arg(program);
                command
            }
        };
        command.arg("--instance").arg(self.instance.as_str());
        // All daemons of a test run share what they compile: an emulated machine takes seconds for it.
        if let Some(folder) = env::current_exe().ok().as_deref().and_then(Path::parent) {
            command.env("NETLOOM_COMPILED", folder.join("compiled-plugins"));
        }
        command
    }
}

/// Lines of a daemon, as they come.
#[derive(Debug)]
pub struct Listening<'a> {
    daemon: &'a Daemon,
    lines: Option<Lines>,
}

impl Listening<'_> {
    /// The next line.
    ///
    /// # Panics
    /// If none comes within a while, or it is not understood.
    pub fn line<T: DeserializeOwned>(&mut self) -> T {
        let next = self.next_within(at_this_pace(PATIENCE)).expect("a line comes");
        next.expect("a line is understood").expect("the stream goes on")
    }

    fn next_within<T: DeserializeOwned>(&mut self, time: Duration) -> Option<Result<Option<T>, ClientError>> {
        let lines = self.lines.as_mut().expect("it is there until it is dropped");
        let next = async { tokio::time::timeout(time, lines.next()).await };
        self.daemon.runtime.block_on(next).ok()
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.lines = None;
        // Its connection is a task, which ends when it is run.
        self.daemon.runtime.block_on(tokio::task::yield_now());
    }
}

fn fresh_instance() -> Name {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Name::new(format!("nlt-{}-{number}", process::id())).expect("the name has no odd letter")
}

/// A program of this workspace: as the environment says (`NETLOOM_NETLOOMD` for `netloomd`), or as cargo built it
/// next to the test.
///
/// # Panics
/// If it is not built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    if let Some(path) = env::var_os(format!("NETLOOM_{}", name.to_uppercase())) {
        return path.into();
    }
    let test = env::current_exe().expect("a test knows its own path");
    // target/debug/deps/test-0123 → target/debug/netloomd
    let path = test.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| Path::is_file(path));
    path.unwrap_or_else(|| panic!("{name} is not built: run `cargo build --bins`, or `cargo xtask test`"))
}
