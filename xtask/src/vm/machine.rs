//! One run of QEMU.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::process::{describe, line, tail};

/// The machine to start.
pub(crate) struct Machine<'a> {
    /// The kernel.
    pub(crate) vmlinuz: &'a Path,
    /// Its first file system.
    pub(crate) initramfs: &'a Path,
    /// In MiB.
    pub(crate) memory: u32,
    /// How many.
    pub(crate) cpus: u32,
    /// Count instructions: slow, on one CPU, but the same each time.
    pub(crate) icount: bool,
    /// For what only this run needs.
    pub(crate) scratch: &'a Path,
}

/// What a command in the machine writes, as it comes.
pub(crate) enum Output {
    /// To its standard output.
    Stdout(Vec<u8>),
    /// To its standard error.
    Stderr(Vec<u8>),
}

impl Machine<'_> {
    /// Runs the machine's command to its end: its exit code. `each` gets its output, and `files` will hold a tar
    /// of what it left in /out, if anything.
    pub(crate) fn run(&self, timeout: Duration, files: &Path, mut each: impl FnMut(Output)) -> Result<i32> {
        let started = Instant::now();
        let console = self.scratch.join("console.log");
        let mut qemu = self.qemu();
        qemu.arg("-serial").arg(format!("file:{}", console.display()));
        qemu.args(["-device", "virtio-serial-pci"]);
        let (sender, output) = mpsc::channel();
        let stdout = sender.clone();
        let mut files = Some(files.to_path_buf());
        let mut ports = vec![
            self.port(&mut qemu, "stdout", move |stream| {
                forward(stream, |bytes| stdout.send(Output::Stdout(bytes)).is_ok())
            })?,
            self.port(&mut qemu, "stderr", move |stream| {
                forward(stream, |bytes| sender.send(Output::Stderr(bytes)).is_ok())
            })?,
        ];
        let files = files.take().unwrap_or_default();
        ports.push(self.port(&mut qemu, "files", move |mut stream| save(&mut stream, &files))?);
        let result = self.scratch.join("result");
        let result_file = result.clone();
        ports.push(self.port(&mut qemu, "result", move |mut stream| save(&mut stream, &result_file))?);

        let mut child = start(qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()))?;
        let ended = loop {
            match output.recv_timeout(Duration::from_millis(10)) {
                Ok(bytes) => each(bytes),
                Err(mpsc::RecvTimeoutError::Timeout | mpsc::RecvTimeoutError::Disconnected) => {
                    if let Some(status) = child.try_wait().context("waiting for QEMU")? {
                        break Some(status);
                    }
                    if started.elapsed() > timeout {
                        break None;
                    }
                }
            }
        };
        let console = || tail(&fs::read_to_string(&console).unwrap_or_default());
        let Some(status) = ended else {
            child.kill().and_then(|()| child.wait()).context("stopping QEMU")?;
            output.try_iter().for_each(each);
            bail!(
                "the machine did not come to an end within {} s and was stopped (--timeout gives it longer); its \
                 console said last:\n{}",
                timeout.as_secs(),
                console()
            );
        };
        let mut complaint = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut complaint).context("reading QEMU's messages")?;
        }
        if !status.success() {
            bail!("`{}` failed ({}):\n{}", line(&qemu), describe(status), tail(&complaint));
        }
        for port in ports {
            port.join(self.scratch)?;
        }
        output.try_iter().for_each(each);
        let code = fs::read_to_string(&result).unwrap_or_default();
        code.trim().parse().with_context(|| {
            format!("the machine stopped before its command ended; its console said last:\n{}", console())
        })
    }

    /// Gives the user a shell on the machine's console.
    pub(crate) fn interact(&self) -> Result<()> {
        let mut qemu = self.qemu();
        qemu.args(["-serial", "mon:stdio"]);
        let mut child = start(&mut qemu)?;
        let status = child.wait().context("waiting for QEMU")?;
        if !status.success() {
            bail!("`{}` failed ({})", line(&qemu), describe(status));
        }
        Ok(())
    }

    fn qemu(&self) -> Command {
        // QEMU must not outlive us, whatever ends us.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        // Nested KVM runs no ordinary kernel on many a build machine, and fails late: emulate always.
        if self.icount {
            command.args(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-smp", "1"]);
        } else {
            // One thread for all CPUs: with one each, a CPU may go on with code that another has patched, and
            // the kernel, which patches its hooks whenever the first program comes or the last goes, dies of it.
            command.args(["-accel", "tcg,thread=single", "-smp", &self.cpus.to_string()]);
        }
        // Without what is slow to emulate and no test looks at: string instructions, a page table of five levels, and
        // a guard of user memory that ends a translated block at each access.
        command.args(["-cpu", "max,-erms,-fsrm,-smap,-la57"]);
        command.args(["-m", &format!("{}M", self.memory)]);
        command.arg("-kernel").arg(self.vmlinuz);
        command.arg("-initrd").arg(self.initramfs);
        // QEMU translates a program again wherever it lies anew: programs always at the same address start four
        // times as fast.
        command.args([
            "-append",
            "console=ttyS0 quiet panic=-1 oops=panic mitigations=off nokaslr norandmaps init_on_alloc=0 \
             no_timer_check random.trust_cpu=on rdinit=/init",
        ]);
        command
    }

    /// A port of this name: what the machine writes to it goes to `sink`, on a thread of its own.
    fn port(
        &self,
        qemu: &mut Command,
        name: &'static str,
        sink: impl FnOnce(UnixStream) -> Result<()> + Send + 'static,
    ) -> Result<Port> {
        let path = self.scratch.join(name).with_extension("sock");
        let listener =
            UnixListener::bind(&path).with_context(|| format!("listening on {}", path.display()))?;
        qemu.arg("-chardev").arg(format!("socket,id={name},path={}", path.display()));
        qemu.arg("-device").arg(format!("virtserialport,chardev={name},name={name}"));
        let thread = thread::spawn(move || {
            let (stream, _) = listener.accept().with_context(|| format!("waiting for QEMU's port {name}"))?;
            sink(stream)
        });
        Ok(Port { name, path, thread })
    }
}

struct Port {
    name: &'static str,
    path: PathBuf,
    thread: JoinHandle<Result<()>>,
}

impl Port {
    fn join(self, _scratch: &Path) -> Result<()> {
        // QEMU connects before it starts the machine; should it not have, this ends the wait.
        drop(UnixStream::connect(&self.path));
        self.thread.join().map_err(|_| anyhow::anyhow!("the reader of port {} panicked", self.name))?
    }
}

fn start(qemu: &mut Command) -> Result<Child> {
    qemu.spawn().with_context(|| format!("`{}` cannot be started", line(qemu)))
}

fn forward(mut stream: UnixStream, mut send: impl FnMut(Vec<u8>) -> bool) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = stream.read(&mut buffer).context("reading the machine's output")?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        if !send(bytes.to_vec()) {
            return Ok(());
        }
    }
}

fn save(stream: &mut UnixStream, path: &Path) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    std::io::copy(stream, &mut file).with_context(|| format!("writing {}", path.display()))?;
    file.flush().with_context(|| format!("writing {}", path.display()))
}
