use std::io::{self, Write};

use serde::Serialize;

use crate::{args::Format, failure::Failure, render::Render};

/// Where answers and errors go, and in which format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Writes an answer.
    pub(crate) fn show<T: Serialize + Render + ?Sized>(&self, answer: &T) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.text(&answer.render(false)),
            Format::Wide => self.text(&answer.render(true)),
            Format::Json => self.text(&serde_json::to_string_pretty(answer)?),
        }
    }

    /// Writes text as it is, with a newline at its end.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        if !text.is_empty() && !text.ends_with('\n') {
            stdout.write_all(b"\n")?;
        }
        Ok(stdout.flush()?)
    }

    /// Writes one of many answers, in a line of its own.
    pub(crate) fn line<T: Serialize + Render>(&self, answer: &T) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.text(&serde_json::to_string(answer)?),
            Format::Table => self.text(&answer.render(false)),
            Format::Wide => self.text(&answer.render(true)),
        }
    }

    /// Tells people what was done, in front of the answer; programs know what they asked for.
    pub(crate) fn note(&self, note: &str) -> Result<(), Failure> {
        if self.format == Format::Json { Ok(()) } else { self.text(note) }
    }

    /// Tells people what went less well; programs find it in the answer.
    pub(crate) fn warn(&self, warning: &str) {
        if self.format != Format::Json {
            complain(&format!("warning: {warning}"));
        }
    }

    /// Tells why a command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        let body = failure.body();
        let json = (self.format == Format::Json).then(|| serde_json::to_string_pretty(&body).ok()).flatten();
        complain(&json.unwrap_or_else(|| match &body.hint {
            Some(hint) => format!("error: {}\nhint: {hint}", body.error),
            None => format!("error: {}", body.error),
        }));
    }
}

fn complain(text: &str) {
    // Where stderr is closed, there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{text}");
}
