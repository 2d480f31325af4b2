use netloom_api::types::{AttachAnswer, Chain, Rebalanced};
use netloom_core::model::ChainEntry;

use super::{
    Render,
    table::{Column, Tone, table},
    text::{labels, or_none},
};

impl Render for [Chain] {
    fn render(&self, wide: bool) -> String {
        if self.is_empty() {
            return "No programs.".to_owned();
        }
        self.iter().map(|chain| chain.render(wide)).collect::<Vec<_>>().join("\n\n")
    }
}

impl Render for Chain {
    fn render(&self, wide: bool) -> String {
        let title = if self.hook.point.is_legacy() {
            format!("{}", self.hook)
        } else {
            format!("{}, revision {}", self.hook, self.revision)
        };
        if self.entries.is_empty() {
            return format!("{title}\n(no programs)");
        }
        let numbered: Vec<(usize, &ChainEntry)> = (1..).zip(&self.entries).collect();
        let entries = table(
            &numbered,
            wide,
            &[
                Column::number("ORDER", |(order, _)| order.to_string()),
                Column::new("PROGRAM", |(_, entry)| entry.name.clone()),
                Column::number("ID", |(_, entry)| entry.program.to_string()),
                Column::number("LINK", |(_, entry)| or_none(entry.link)),
                Column::new("TAG", |(_, entry)| entry.tag.clone()),
                Column::toned(Column::new("OWNER", |(_, entry)| owner(entry)), |(_, entry)| {
                    match entry.owner {
                        Some(_) => Tone::Plain,
                        None => Tone::Poor,
                    }
                }),
                Column::number("PRIORITY", |(_, entry)| or_none(entry.priority)),
                Column::new("LABELS", |(_, entry)| labels(&entry.labels)),
                Column::wide(Column::new("ATTACHMENT", |(_, entry)| {
                    entry.attachment.clone().unwrap_or_default()
                })),
                Column::wide(Column::new("FILTER", |(_, entry)| filter(entry.filter))),
            ],
        );
        format!("{title}\n{entries}")
    }
}

impl Render for AttachAnswer {
    fn render(&self, wide: bool) -> String {
        let id = &self.attachment.id;
        let place = self
            .chain
            .entries
            .iter()
            .zip(1_usize..)
            .find(|(entry, _)| entry.attachment.as_ref() == Some(id))
            .map(|(_, order)| format!(" as number {order} of {}", self.chain.entries.len()))
            .unwrap_or_default();
        let more: String = self
            .more
            .iter()
            .map(|more| format!("\nAttached {} as well: `netloom detach {}`.", more.candidate.name, more.id))
            .collect();
        format!(
            "Attached {} of {}{place}; {} decided the place. Detach it with `netloom detach {id}`.{more}\n\n{}",
            self.attachment.candidate.name,
            self.attachment.candidate.owner,
            self.decided_by,
            self.chain.render(wide)
        )
    }
}

impl Render for [Rebalanced] {
    fn render(&self, wide: bool) -> String {
        if self.is_empty() {
            return "No programs of Netloom's to bring into order.".to_owned();
        }
        self.iter().map(|rebalanced| rebalanced.render(wide)).collect::<Vec<_>>().join("\n\n")
    }
}

impl Render for Rebalanced {
    fn render(&self, wide: bool) -> String {
        let what = match (&self.decided_by, self.moved.as_slice()) {
            (None, _) => "No plugin decides about the order: nothing is moved.".to_owned(),
            (Some(by), []) => format!("In the order that {by} wants: nothing to move."),
            (Some(by), moved) => format!("{by} decided the order; to move: {}.", moved.join(", ")),
        };
        format!("{what}\n{}", self.chain.render(wide))
    }
}

fn owner(entry: &ChainEntry) -> String {
    entry.owner.as_ref().map_or_else(|| "foreign".to_owned(), ToString::to_string)
}

/// Legacy tc: priority and handle, as `tc filter show` writes them.
pub(super) fn filter(filter: Option<(u16, u32)>) -> String {
    filter.map(|(priority, handle)| format!("pref {priority} handle {handle:#x}")).unwrap_or_default()
}
