use netloom_api::types::Event;

use super::{
    Render,
    table::{Column, Tone, table},
    text::{millis, seconds},
};

impl Render for [Event] {
    fn render(&self, wide: bool) -> String {
        if self.is_empty() {
            return "No events since netloomd started.".to_owned();
        }
        table(
            self,
            wide,
            &[
                Column::number("NO", |e| e.sequence.to_string()),
                Column::new("TIME", |e| seconds(e.time_ms)),
                Column::toned(Column::new("KIND", |e| e.kind.as_str().to_owned()), |e| {
                    if e.kind.is_trouble() { Tone::Poor } else { Tone::Plain }
                }),
                Column::new("SUBJECT", |e| e.subject.clone()),
                Column::prose("EVENT", |e| e.message.clone()),
                Column::wide(Column::new("EXACT TIME", |e| millis(e.time_ms))),
            ],
        )
    }
}
