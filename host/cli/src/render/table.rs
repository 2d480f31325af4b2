//! Tables: a header, a line an item, no lines around them, so that they read well and grep well.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table};

/// What a cell says about its item, shown as colour on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Poor,
    Bad,
}

impl Tone {
    fn color(self) -> Option<Color> {
        match self {
            Self::Plain => None,
            Self::Good => Some(Color::Green),
            Self::Poor => Some(Color::Yellow),
            Self::Bad => Some(Color::Red),
        }
    }
}

/// One column of a table of `T`s.
#[derive(Clone, Copy)]
pub(super) struct Column<T> {
    title: &'static str,
    text: fn(&T) -> String,
    tone: fn(&T) -> Tone,
    wide: bool,
    prose: bool,
    alignment: CellAlignment,
}

impl<T> Column<T> {
    /// A column that is always shown.
    pub(super) fn new(title: &'static str, text: fn(&T) -> String) -> Self {
        Self { title, text, tone: |_| Tone::Plain, wide: false, prose: false, alignment: CellAlignment::Left }
    }

    /// A column of numbers.
    pub(super) fn number(title: &'static str, text: fn(&T) -> String) -> Self {
        Self { alignment: CellAlignment::Right, ..Self::new(title, text) }
    }

    /// A column of sentences: these are wrapped on a narrow terminal, names and numbers never, so that they can be
    /// copied.
    pub(super) fn prose(title: &'static str, text: fn(&T) -> String) -> Self {
        Self { prose: true, ..Self::new(title, text) }
    }

    /// The column, with a colour on a terminal.
    pub(super) fn toned(self, tone: fn(&T) -> Tone) -> Self {
        Self { tone, ..self }
    }

    /// The column, shown only where every column is asked for.
    pub(super) fn wide(self) -> Self {
        Self { wide: true, ..self }
    }
}

/// A table with one line for each item.
pub(super) fn table<T>(items: &[T], wide: bool, columns: &[Column<T>]) -> String {
    let styled = has_colors();
    let shown: Vec<&Column<T>> = columns.iter().filter(|column| wide || !column.wide).collect();
    let mut table = bare();
    table.set_header(
        shown
            .iter()
            .map(|column| {
                let cell = Cell::new(column.title).set_alignment(column.alignment);
                if styled { cell.add_attribute(Attribute::Bold) } else { cell }
            })
            .collect::<Vec<_>>(),
    );
    for item in items {
        table.add_row(Row::from(shown.iter().map(|column| cell(column, item, styled)).collect::<Vec<_>>()));
    }
    for (laid_out, column) in table.column_iter_mut().zip(&shown) {
        if !column.prose {
            laid_out.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    finish(table)
}

fn cell<T>(column: &Column<T>, item: &T, styled: bool) -> Cell {
    let cell = Cell::new(shown(&(column.text)(item))).set_alignment(column.alignment);
    match (column.tone)(item).color() {
        Some(color) if styled => cell.fg(color),
        _ => cell,
    }
}

/// Facts about one thing: a line each, the names in a column.
pub(super) fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = bare();
    for (name, value) in facts {
        table.add_row([name.to_owned(), shown(&value)]);
    }
    finish(table)
}

/// A text as a cell: names and messages come from pods and plugins, and must not command the terminal.
fn shown(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' { clean.extend(c.escape_default()) } else { clean.push(c) }
    }
    if clean.is_empty() { "-".to_owned() } else { clean }
}

fn bare() -> Table {
    let mut table = Table::new();
    // On a terminal this wraps prose to its width; elsewhere nothing is wrapped.
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

fn finish(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// Whether the reader's terminal may be given colours: see <https://no-color.org>.
fn has_colors() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
