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
            Column::toned(Column::prose("FATE", |s| fate(&s.fate)), |s| match s.fate {
                Fate::Destroyed | Fate::Gone => Tone::Good,
                Fate::Failed(_) | Fate::Unjudged => Tone::Bad,
                Fate::WouldDestroy => Tone::Poor,
                Fate::Spared | Fate::Observed => Tone::Plain,
            }),
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
        Fate::Gone => "gone already".to_owned(),
        Fate::Spared => "spared".to_owned(),
        Fate::Unjudged => "not judged".to_owned(),
        Fate::WouldDestroy => "would be destroyed".to_owned(),
        Fate::Observed => "observed".to_owned(),
        Fate::Failed(reason) => format!("failed: {reason}"),
    }
}

/// One line: found, destroyed, spared, failed, in how long, decided by whom.
fn summary(report: &ReapReport) -> String {
    let dry = if report.dry_run { "Dry run. " } else { "" };
    let Some(plugin) = &report.decided_by else {
        return match &report.reason {
            Some(reason) => format!("{dry}Nothing was reaped: {reason}."),
            None => format!("{dry}There was nothing to reap."),
        };
    };
    let reason = report.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!(
        "{dry}Found {} by {} in {}: {}; {} in all. {plugin} decided{reason}.",
        count(report.sockets.len(), "socket", "sockets"),
        report.finder,
        micros(report.find_us),
        fates(report),
        micros(report.total_us),
    )
}

/// What was asked for, spared and failed is always told, the rest where there is any.
fn fates(report: &ReapReport) -> String {
    let number = |wanted: fn(&Fate) -> bool| report.sockets.iter().filter(|s| wanted(&s.fate)).count();
    let asked = if report.dry_run {
        (number(|fate| *fate == Fate::WouldDestroy), "to be destroyed")
    } else {
        (number(|fate| *fate == Fate::Destroyed), "destroyed")
    };
    let spared = (number(|fate| *fate == Fate::Spared), "spared");
    let rest = [
        (number(|fate| *fate == Fate::Unjudged), "not judged"),
        (number(|fate| *fate == Fate::Observed), "observed"),
        (number(|fate| *fate == Fate::Gone), "gone already"),
    ];
    let failed = (number(|fate| matches!(fate, Fate::Failed(_))), "failed");
    let told =
        [asked, spared].into_iter().chain(rest.into_iter().filter(|(number, _)| *number > 0)).chain([failed]);
    told.map(|(number, fate)| format!("{number} {fate}")).collect::<Vec<_>>().join(", ")
}
