//! All faults of a file in it at once, each switched on by a variable of the environment: one build serves them all.

use std::{collections::BTreeMap, ops::Range};

use super::mutant::{Mutant, Position, Span};

/// The variable that switches a fault on, by its number.
pub(super) const VARIABLE: &str = "NETLOOM_MUTANT";

/// A file with faults in it.
#[derive(Debug, Default)]
pub(super) struct Switched {
    /// Its text.
    pub(super) text: String,
    /// In which lines each fault is.
    faults: Vec<(u32, Range<usize>)>,
    /// In which lines each function is that has some.
    functions: Vec<(Vec<u32>, Range<usize>)>,
    /// Faults that could not be put in: they are in a function that is in another one's body.
    pub(super) left_out: Vec<u32>,
}

impl Switched {
    /// Which faults may be to blame for what the compiler says of a line: one, or all of a function.
    pub(super) fn to_blame(&self, line: usize) -> Vec<u32> {
        if let Some((number, _)) = self.faults.iter().find(|(_, lines)| lines.contains(&line)) {
            return vec![*number];
        }
        let function = self.functions.iter().find(|(_, lines)| lines.contains(&line));
        function.map(|(numbers, _)| numbers.clone()).unwrap_or_default()
    }
}

/// Puts the faults into a file: each function that has some begins by asking which one is switched on, and has a body for
/// each.
pub(super) fn switch(source: &str, mutants: &[(u32, &Mutant)]) -> Switched {
    let mut functions = BTreeMap::<usize, Vec<(u32, &Mutant)>>::new();
    for (number, mutant) in mutants {
        functions.entry(range(source, mutant.body).start).or_default().push((*number, mutant));
    }
    let mut switched = Switched::default();
    let mut done = 0;
    for faults in functions.values() {
        let Some((_, first)) = faults.first() else { continue };
        let (around, body) = (range(source, first.around), range(source, first.body));
        let numbers: Vec<_> = faults.iter().map(|(number, _)| *number).collect();
        if around.start < done {
            switched.left_out.extend(numbers);
            continue;
        }
        // What is asked of the environment is not known when a constant is.
        let head = part(source, around.start..body.start).replacen("const fn ", "fn ", 1);
        switched.text += part(source, done..around.start);
        let start = line(&switched.text);
        switched.text += &head;
        switched.bodies(source, &body, faults);
        switched.functions.push((numbers, start..line(&switched.text) + 1));
        done = body.end;
    }
    switched.text += part(source, done..source.len());
    switched
}

impl Switched {
    /// The body as it is, which says what the others have to be, then one for each fault.
    fn bodies(&mut self, source: &str, body: &Range<usize>, faults: &[(u32, &Mutant)]) {
        let numbers: Vec<_> = faults.iter().map(|(number, _)| number).collect();
        self.text += &format!(
            "match ::std::env::var({VARIABLE:?}).map_or(0, |number| number.parse::<u32>().unwrap_or(0)) {{\n\
             number if !{numbers:?}.contains(&number) => {{\n{}\n}}\n",
            part(source, body.clone())
        );
        for (number, mutant) in faults {
            let start = line(&self.text);
            let place = range(source, mutant.place);
            let (before, after) = (part(source, body.start..place.start), part(source, place.end..body.end));
            self.text += &format!("{number} => {{\n{before}{}{after}\n}}\n", mutant.replacement);
            self.faults.push((*number, start..line(&self.text)));
        }
        self.text += "_ => ::std::unreachable!(),\n}";
    }
}

/// The number of the line that a text ends in.
fn line(text: &str) -> usize {
    text.matches('\n').count() + 1
}

fn part(source: &str, range: Range<usize>) -> &str {
    source.get(range).unwrap_or_default()
}

/// A part of a file in bytes.
fn range(source: &str, span: Span) -> Range<usize> {
    offset(source, span.start)..offset(source, span.end)
}

fn offset(source: &str, position: Position) -> usize {
    let lines = source.split_inclusive('\n');
    let before: usize = lines.clone().take(position.line - 1).map(str::len).sum();
    let line = lines.clone().nth(position.line - 1).unwrap_or_default();
    let in_line = line.char_indices().nth(position.column - 1).map_or(line.len(), |(index, _)| index);
    before + in_line
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "// … und\nconst fn f(a: u8) -> bool {\n    a == 'ä' as u8\n}\n";

    fn span(start: (usize, usize), end: (usize, usize)) -> Span {
        let position = |(line, column)| Position { line, column };
        Span { start: position(start), end: position(end) }
    }

    fn mutant(place: Span, replacement: &str) -> Mutant {
        Mutant {
            file: "a.rs".into(),
            at: String::new(),
            function: "f".into(),
            mutation: String::new(),
            place,
            replacement: replacement.into(),
            around: span((2, 1), (4, 2)),
            body: span((3, 5), (3, 19)),
        }
    }

    #[test]
    fn a_function_has_a_body_for_each_fault_and_its_own_for_all_others() {
        let (whole, operator) = (mutant(span((3, 5), (3, 19)), "true"), mutant(span((3, 7), (3, 9)), "!="));
        let switched = switch(SOURCE, &[(7, &whole), (8, &operator)]);
        let lines: Vec<_> = switched.text.lines().collect();
        assert_eq!(lines[1], "fn f(a: u8) -> bool {");
        assert_eq!(lines[3], "number if ![7, 8].contains(&number) => {");
        assert_eq!(lines[4], "a == 'ä' as u8");
        assert_eq!(lines[6..12], ["7 => {", "true", "}", "8 => {", "a != 'ä' as u8", "}"]);
        assert_eq!(lines[12..], ["_ => ::std::unreachable!(),", "}", "}"]);
        assert_eq!(switched.to_blame(8), [7]);
        assert_eq!(switched.to_blame(11), [8]);
        assert_eq!(switched.to_blame(5), [7, 8]);
        assert!(switched.to_blame(1).is_empty());
    }

    #[test]
    fn a_file_without_faults_is_as_it_was() {
        assert_eq!(switch(SOURCE, &[]).text, SOURCE);
    }
}
