//! The page that lists every hook, operation and type.

use super::{Form, Interface, Item, Part, Published, World};

/// Where it is, below the workspace's root.
pub(super) const PAGE: &str = "docs/plugins/hooks.md";

const TOP: &str = "# The hooks

Every hook, everything a plugin may import, and every type in them. `cargo xtask hook-reference` writes this page from
[`wit/`](../../wit/), where it is to be changed. In Rust, `-` is `_` in functions and fields, and types are written in
`CamelCase`; the SDK has a trait for each hook.

";

/// A heading, what it is about, and which interfaces are below it.
type Chapter = (&'static str, &'static str, fn(&Interface) -> bool);

/// The parts of the page.
const CHAPTERS: [Chapter; 4] = [
    ("Hooks", "What a plugin exports: the node asks, it answers. Any of them, at least one.", is_hook),
    ("Without a grant", "What every plugin may import.", is_ambient),
    (
        "With a grant",
        "What a plugin may import that the operator [granted](grants.md) it to, object by object.",
        is_operation,
    ),
    ("Types", "What questions and answers are made of.", is_types),
];

fn is_hook(interface: &Interface) -> bool {
    interface.id.starts_with("netloom:policy/")
}

fn is_types(interface: &Interface) -> bool {
    interface.name == "types"
}

fn is_ambient(interface: &Interface) -> bool {
    ["log", "config", "kv", "metrics"].contains(&interface.name.as_str())
}

fn is_operation(interface: &Interface) -> bool {
    !is_hook(interface) && !is_types(interface) && !is_ambient(interface)
}

/// The page.
pub(super) fn page(published: &Published) -> String {
    let mut page = TOP.to_owned();
    page += "| interface | what it is |\n|---|---|\n";
    for (_, _, belongs) in CHAPTERS {
        for interface in published.interfaces.iter().filter(|interface| belongs(interface)) {
            let first = interface.docs.split("\n\n").next().unwrap_or_default();
            page += &format!("| [`{0}`](#{0}) | {1} |\n", interface.name, cell(first));
        }
    }
    for (title, about, belongs) in CHAPTERS {
        page += &format!("\n## {title}\n\n{about}\n");
        for interface in published.interfaces.iter().filter(|interface| belongs(interface)) {
            page += &chapter(interface);
        }
    }
    page += "\n## Worlds\n\nWhat `world.wit` of a plugin includes.\n\n";
    page += "| world | what it is | exports | imports |\n|---|---|---|---|\n";
    for world in &published.worlds {
        page += &row(world);
    }
    page
}

fn chapter(interface: &Interface) -> String {
    let mut text = format!("\n### {}\n\n`{}`\n\n{}\n", interface.name, interface.id, interface.docs);
    for item in &interface.items {
        text += &section(interface, item);
    }
    text
}

fn section(interface: &Interface, item: &Item) -> String {
    let docs = if item.docs.is_empty() { String::new() } else { format!("\n{}\n", item.docs) };
    match &item.form {
        Form::Function { name, signature } => {
            let links = signature.links();
            let links =
                if links.is_empty() { String::new() } else { format!("\nTypes: {}.\n", links.join(", ")) };
            let title = format!("{}.{name}", interface.name);
            let wrapped = wrap(&format!("{}: {signature};", name.rsplit('.').next().unwrap_or(name)));
            format!("\n#### {title}\n\n```wit\n{wrapped}\n```\n{docs}{links}")
        }
        Form::Alias { of } => format!("\n#### {}\n\n{}\n{docs}", item.title, of.linked()),
        Form::Resource => format!("\n#### {}\n{docs}", item.title),
        Form::Parts { keyword, parts } => {
            format!("\n#### {}\n{docs}\n{}", item.title, table(keyword, parts))
        }
    }
}

fn table(keyword: &str, parts: &[Part]) -> String {
    let what = if keyword == "record" { "field" } else { "case" };
    let documented = parts.iter().any(|part| !part.docs.is_empty());
    let typed = parts.iter().any(|part| part.of.is_some());
    if !documented && !typed {
        let names: Vec<String> = parts.iter().map(|part| format!("`{}`", part.name)).collect();
        return format!("{}.\n", names.join(", "));
    }
    let mut table = if typed {
        format!("| {what} | type | what |\n|---|---|---|\n")
    } else {
        format!("| {what} | what |\n|---|---|\n")
    };
    for part in parts {
        let of = part.of.as_ref().map(super::Text::linked).unwrap_or_default();
        let of = if typed { format!(" {} |", escaped(&of)) } else { String::new() };
        table += &format!("| `{}` |{of} {} |\n", part.name, cell(&part.docs));
    }
    table
}

fn row(world: &World) -> String {
    let names = |ids: &[String]| {
        let names = ids.iter().filter_map(|id| {
            let name = id.split(['/', '@']).nth(1)?;
            // Whatever uses a type imports its interface.
            (name != "types").then(|| format!("[`{name}`](#{name})"))
        });
        names.collect::<Vec<_>>().join(", ")
    };
    let (exports, imports) = (names(&world.exports), names(&world.imports));
    format!("| `{}` | {} | {exports} | {imports} |\n", world.id, cell(&world.docs))
}

/// A signature in lines that fit a page.
fn wrap(signature: &str) -> String {
    const WIDTH: usize = 100;
    let Some((head, rest)) = signature.split_once('(').filter(|_| signature.len() > WIDTH) else {
        return signature.to_owned();
    };
    let Some((params, result)) = rest.rsplit_once(")") else { return signature.to_owned() };
    let (mut depth, mut lines, mut line) = (0_i32, Vec::new(), String::new());
    for letter in params.chars() {
        match letter {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ => {}
        }
        if letter == ',' && depth == 0 {
            lines.push(std::mem::take(&mut line));
        } else {
            line.push(letter);
        }
    }
    lines.push(line);
    let lines: String = lines.iter().map(|line| format!("    {},\n", line.trim())).collect();
    format!("{head}(\n{lines}){result}")
}

/// Text of a table's cell.
fn cell(docs: &str) -> String {
    escaped(&docs.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::{wit, workspace};

    #[test]
    fn the_committed_page_is_what_the_interfaces_say() {
        let root = workspace::root();
        let committed = std::fs::read_to_string(root.join(super::PAGE)).unwrap_or_default();
        let page = super::page(&wit::read(&root.join("wit")).unwrap());
        let line = committed.lines().zip(page.lines()).position(|(old, new)| old != new);
        assert!(
            committed == page,
            "{} differs from wit/ (line {:?}): run `cargo xtask hook-reference` and commit what it writes",
            super::PAGE,
            line.map(|line| line + 1),
        );
    }

    #[test]
    fn every_link_on_the_page_leads_to_one_heading() {
        let page = super::page(&wit::read(&workspace::root().join("wit")).unwrap());
        let mut headings = BTreeSet::new();
        for title in page.lines().filter_map(|line| line.strip_prefix("###")) {
            let title = title.trim_start_matches('#').trim();
            assert!(headings.insert(super::super::names::anchor(title)), "two headings {title:?}");
        }
        let targets: Vec<&str> =
            page.split("](#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        assert!(targets.len() > 100, "{} links", targets.len());
        for target in targets {
            assert!(headings.contains(target), "no heading for #{target}");
        }
    }

    #[test]
    fn every_item_has_something_said_about_it() {
        let published = wit::read(&workspace::root().join("wit")).unwrap();
        for interface in &published.interfaces {
            assert!(!interface.docs.is_empty(), "{}", interface.id);
            for item in &interface.items {
                assert!(!item.docs.is_empty(), "{}: {}", interface.id, item.title);
            }
        }
    }

    #[test]
    fn a_long_signature_has_a_line_for_each_parameter() {
        let parameters: Vec<String> =
            (0..8).map(|at| format!("parameter-{at}: list<tuple<string, u32>>")).collect();
        let wrapped = super::wrap(&format!("act: func({}) -> result<_, error>;", parameters.join(", ")));
        assert_eq!(wrapped.lines().count(), 10, "{wrapped}");
        assert!(wrapped.ends_with("\n) -> result<_, error>;"), "{wrapped}");
    }
}
