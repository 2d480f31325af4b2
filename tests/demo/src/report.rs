//! What the demo saw, for people as it goes and for programs at the end.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Instant,
};

use serde::Serialize;
use serde_json::Value;

/// One step.
#[derive(Serialize)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) ok: bool,
    /// What the kernel, the daemon and the applications reported; the error if it failed.
    pub(crate) observed: Value,
    pub(crate) milliseconds: u64,
}

/// The whole.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) ok: bool,
    pub(crate) kernel: String,
    /// The device mode the endpoints got.
    pub(crate) mode: String,
    pub(crate) steps: Vec<Step>,
    #[serde(skip)]
    json: bool,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self { ok: true, kernel: release.trim().to_owned(), mode: String::new(), steps: Vec::new(), json }
    }

    /// Runs a step, and says how it went.
    pub(crate) fn step(
        &mut self,
        name: &'static str,
        what: &str,
        run: impl FnOnce() -> anyhow::Result<Value>,
    ) -> bool {
        self.say(&format!("{} {what}", self.strong(&format!("{name:>13}"))));
        let start = Instant::now();
        // What stands below fails by panicking.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("it panicked");
            Err(anyhow::anyhow!("{text}"))
        });
        let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (ok, observed) = match result {
            Ok(observed) => (true, observed),
            Err(error) => (false, serde_json::json!({ "error": format!("{error:#}") })),
        };
        if let Value::Object(observed) = &observed {
            for (key, value) in observed {
                self.say(&format!("{:>15}{key}: {}", "", plain(value)));
            }
        }
        let mark = if ok { "ok" } else { "FAILED" };
        self.say(&format!("{:>15}{mark}, {milliseconds} ms", ""));
        self.ok &= ok;
        self.steps.push(Step { name, ok, observed, milliseconds });
        ok
    }

    /// The closing word.
    pub(crate) fn finish(&self, interrupted: bool) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(self)?);
            return Ok(());
        }
        let done = self.steps.iter().filter(|step| step.ok).count();
        let took: u64 = self.steps.iter().map(|step| step.milliseconds).sum();
        let how = match (interrupted, self.ok) {
            (true, _) => "interrupted, and cleaned up",
            (false, true) => "the demo passed",
            (false, false) => "the demo FAILED",
        };
        println!(
            "\n{}: {done} of {} steps ok, in {took} ms, on Linux {} with {}",
            self.strong(how),
            self.steps.len(),
            self.kernel,
            self.mode
        );
        Ok(())
    }

    pub(crate) fn say(&self, text: &str) {
        if !self.json {
            // Whoever closed the pipe does not want to hear more.
            drop(writeln!(std::io::stdout(), "{text}"));
        }
    }

    fn strong(&self, text: &str) -> String {
        if !self.json && std::io::stdout().is_terminal() {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
