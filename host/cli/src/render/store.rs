use netloom_api::types::StoreCheck;

use super::{
    Render,
    table::facts,
    text::{bytes, or_none},
};

impl Render for StoreCheck {
    fn render(&self, _wide: bool) -> String {
        let records: Vec<String> =
            self.records.iter().map(|(kind, count)| format!("{count} {}", kind.replace('_', " "))).collect();
        let mut lines = vec![
            ("Store", self.path.display().to_string()),
            ("Layout", format!("{}, of netloomd {}", self.layout, self.written_by)),
            ("Size", bytes(self.bytes)),
            ("Left", or_none(self.free_bytes.map(bytes))),
            ("Records", if records.is_empty() { "none".to_owned() } else { records.join(", ") }),
        ];
        if self.problems.is_empty() {
            lines.push(("Problems", "none".to_owned()));
        }
        lines.extend(self.problems.iter().map(|problem| ("Problem", problem.clone())));
        facts(lines)
    }
}
