use netloom_api::types::OrphanView;

use super::{
    Render,
    table::{Column, table},
};

impl Render for [OrphanView] {
    fn render(&self, wide: bool) -> String {
        if self.is_empty() {
            return "Everything under Netloom's names has a record.".to_owned();
        }
        let columns =
            [Column::new("WHAT", |o: &OrphanView| o.what.clone()), Column::prose("WHY", |o| o.why.clone())];
        table(self, wide, &columns)
    }
}
