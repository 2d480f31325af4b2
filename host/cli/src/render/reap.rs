use netloom_api::types::{Fate, ReapReport, ReapedSocket};

use super::{
    Render,
    table::{Column, Tone, table},
    text::{count, duration, micros, or_none},
};

impl Render for ReapReport {
    fn render(&self, wide: bool) -> String {
        let mut parts = Vec::new();
        if !self.sockets.is_empty() {
            parts.push(sockets(&self.sockets, wide));
            parts.push(String::new());
        }
        parts.push(summary(self));
        parts.join("\n")
    }
}

fn sockets(sockets: &[ReapedSocket], wide: bool) -> String {
    table(
        sockets,
        wide,
        &[
            Column::toned(
                "FATE",
                |s| fate(&s.fate),
                |s| match s.fate {
                    Fate::Destroyed | Fate::Gone => Tone::Good,
                    Fate::Failed(_) => Tone::Bad,
                    Fate::WouldDestroy => Tone::Poor,
                    Fate::Spared | Fate::Observed => Tone::Plain,
                },
            ),
            Column::new("ENDPOINT", |s| or_none(s.view.endpoint.as_ref())),
            Column::new("PROTOCOL", |s| s.view.socket.protocol.to_string()),
            Column::new("STATE", |s| s.view.socket.state.to_string()),
            Column::new("LOCAL", |s| s.view.socket.local.to_string()),
            Column::new("BACKEND", |s| s.view.socket.backend.to_string()),
            Column::number("AGE", |s| duration(s.view.socket.age)),
            Column::wide(Column::new("REMOTE", |s| s.view.socket.remote.to_string())),
            Column::wide(Column::number("COOKIE", |s| s.view.socket.cookie.to_string())),
            Column::wide(Column::number("NETNS COOKIE", |s| s.view.socket.netns_cookie.to_string())),
        ],
    )
}

fn fate(fate: &Fate) -> String {
    match fate {
        Fate::Destroyed => "destroyed".to_owned(),
        Fate::Gone => "gone by itself".to_owned(),
        Fate::Spared => "spared".to_owned(),
        Fate::WouldDestroy => "would be destroyed".to_owned(),
        Fate::Observed => "observed".to_owned(),
        Fate::Failed(reason) => format!("failed: {reason}"),
    }
}

/// One line: found, destroyed, spared, failed, in how long, decided by whom.
fn summary(report: &ReapReport) -> String {
    let of = |wanted: fn(&Fate) -> bool| report.sockets.iter().filter(|s| wanted(&s.fate)).count();
    let found = report.sockets.len();
    let fates = [
        (of(|fate| *fate == Fate::Destroyed), "destroyed"),
        (of(|fate| *fate == Fate::WouldDestroy), "to be destroyed"),
        (of(|fate| *fate == Fate::Spared), "spared"),
        (of(|fate| *fate == Fate::Observed), "observed"),
        (of(|fate| *fate == Fate::Gone), "gone by themselves"),
        (of(|fate| matches!(fate, Fate::Failed(_))), "failed"),
    ];
    // What was not asked for is left out where it is nothing: these three are always told.
    let always = ["destroyed", "spared", "failed"];
    let fates: Vec<String> = fates
        .into_iter()
        .filter(|(number, what)| match *what {
            "destroyed" => !report.dry_run,
            "to be destroyed" => report.dry_run,
            what => *number > 0 || always.contains(&what),
        })
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    let who = report.decided_by.as_deref().map_or_else(
        || {
            let reason = report.reason.as_deref().unwrap_or("no plugin decided");
            format!("Nothing was reaped: {reason}.")
        },
        |plugin| match &report.reason {
            Some(reason) => format!("{plugin} decided: {reason}."),
            None => format!("{plugin} decided."),
        },
    );
    let how = if report.finder.is_empty() { String::new() } else { format!(" by {}", report.finder) };
    let dry = if report.dry_run { "Dry run. " } else { "" };
    format!(
        "{dry}Found {}{how} in {}: {}; {} in all. {who}",
        count(found, "socket", "sockets"),
        micros(report.find_us),
        fates.join(", "),
        micros(report.total_us),
    )
}
