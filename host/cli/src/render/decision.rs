use netloom_api::types::{Decision, DecisionStep};

use super::{
    Render,
    table::{Column, table},
    text::{micros, millis, seconds},
};

/// One line of the table: a decision with one of its steps, or with none.
struct Line<'a> {
    decision: &'a Decision,
    step: Option<&'a DecisionStep>,
    first: bool,
}

impl Line<'_> {
    fn once(&self, text: impl FnOnce(&Decision) -> String) -> String {
        // A blank, not nothing: a missing value is shown as a dash.
        if self.first { text(self.decision) } else { " ".to_owned() }
    }
}

impl Render for [Decision] {
    fn render(&self, wide: bool) -> String {
        if self.is_empty() {
            return "No decisions yet.".to_owned();
        }
        let lines: Vec<Line<'_>> = self.iter().flat_map(lines).collect();
        table(
            &lines,
            wide,
            &[
                Column::number("NO", |l| l.once(|d| d.sequence.to_string())),
                Column::new("TIME", |l| l.once(|d| seconds(d.time_ms))),
                Column::new("HOOK", |l| l.once(|d| d.hook.clone())),
                Column::new("SUBJECT", |l| l.once(|d| d.subject.clone())),
                Column::new("DECIDED BY", |l| l.once(|d| d.decided_by.clone())),
                Column::prose("OUTCOME", |l| l.once(|d| d.outcome.clone())),
                Column::new("ASKED", |l| l.step.map(|s| s.plugin.to_string()).unwrap_or_default()),
                Column::prose("ANSWER", |l| l.step.map(|s| s.answer.clone()).unwrap_or_default()),
                Column::number("TOOK", |l| l.step.map(|s| micros(s.micros)).unwrap_or_default()),
                Column::wide(Column::new("EXACT TIME", |l| l.once(|d| millis(d.time_ms)))),
            ],
        )
    }
}

fn lines(decision: &Decision) -> Vec<Line<'_>> {
    if decision.steps.is_empty() {
        return vec![Line { decision, step: None, first: true }];
    }
    let steps = decision.steps.iter().enumerate();
    steps.map(|(number, step)| Line { decision, step: Some(step), first: number == 0 }).collect()
}
