use std::{env, fs, path::Path, process::Command};

use crate::{Output, command::output};

/// A page of the book, for tests that do what it says.
#[derive(Debug)]
pub struct Page {
    commands: Vec<Typed>,
}

/// A command of a page.
#[derive(Debug)]
struct Typed {
    section: String,
    line: String,
}

impl Page {
    /// The commands in the `console` blocks of a page.
    ///
    /// # Panics
    /// If it cannot be read or has no command.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
        let page = Self::parse(&text);
        assert!(!page.commands.is_empty(), "{} has no command", path.display());
        page
    }

    fn parse(text: &str) -> Self {
        let (mut section, mut console, mut commands) = (String::new(), false, Vec::<Typed>::new());
        let mut goes_on = false;
        for line in text.lines() {
            match line {
                "```console" => console = true,
                _ if line.starts_with("```") => console = false,
                _ if console && goes_on => {
                    if let Some(typed) = commands.last_mut() {
                        typed.line = format!("{}\n{line}", typed.line);
                    }
                    goes_on = line.ends_with('\\');
                }
                _ if console => {
                    if let Some(command) = line.strip_prefix("$ ") {
                        commands.push(Typed { section: section.clone(), line: command.to_owned() });
                        goes_on = line.ends_with('\\');
                    }
                }
                _ => {
                    if let Some(heading) = line.strip_prefix("## ") {
                        heading.clone_into(&mut section);
                    }
                }
            }
        }
        Self { commands }
    }

    /// The commands below a heading.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn section(&self, heading: &str) -> Vec<String> {
        let below = self.commands.iter().filter(|typed| typed.section == heading);
        let commands: Vec<_> = below.map(|typed| typed.line.clone()).collect();
        assert!(!commands.is_empty(), "the page has no commands below {heading:?}");
        commands
    }

    /// Every command of the page.
    pub fn commands(&self) -> impl Iterator<Item = &str> {
        self.commands.iter().map(|typed| typed.line.as_str())
    }

    /// The headings that have commands, in order.
    #[must_use]
    pub fn sections(&self) -> Vec<&str> {
        let mut sections: Vec<_> = self.commands.iter().map(|typed| typed.section.as_str()).collect();
        sections.dedup();
        sections
    }
}

/// The arguments of a command on a page, from the program on; without what the shell does with its output.
#[must_use]
pub fn words(command: &str) -> Vec<String> {
    let joined = command.replace("\\\n", " ");
    let words = joined.split_whitespace().take_while(|word| !word.starts_with(['#', '>', '|', '&', ';']));
    words.map(|word| word.trim_matches(['"', '\'']).to_owned()).collect()
}

/// Runs commands as somebody types them, one after the other in one shell, up to the first that fails. Programs are
/// looked for in `programs` first. The output has each command in front of what it wrote.
///
/// # Panics
/// If there is no `bash`.
#[must_use]
pub fn typed(commands: &[String], folder: &Path, programs: &Path, env: &[(&str, &str)]) -> Output {
    let mut script = String::from("exec 2>&1\nset -e\n");
    for command in commands {
        let shown = command.replace('\'', r"'\''");
        script += &format!("printf '%s\\n' '$ {shown}'\n{command}\n");
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([programs.to_owned()].into_iter().chain(env::split_paths(&path)))
        .expect("the folder of programs has no colon in its name");
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]).current_dir(folder).env("PATH", path).envs(env.iter().copied());
    output(&mut bash)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Page\n\n```console\n$ one\nwhat it wrote\n```\n\n## More\n\n```toml\n$ none\n```\n\n```console\n$ two \\\n  --long\n$ three\n```\n";

    #[test]
    fn commands_are_those_behind_a_prompt_in_console_blocks() {
        let page = Page::parse(PAGE);
        assert_eq!(page.sections(), ["", "More"]);
        assert_eq!(page.section(""), ["one"]);
        assert_eq!(page.section("More"), ["two \\\n  --long", "three"]);
    }

    #[test]
    fn the_words_of_a_command_end_where_the_shell_goes_on() {
        assert_eq!(
            words("netloom plugin record --name \"x\" > file.json"),
            ["netloom", "plugin", "record", "--name", "x"]
        );
        assert_eq!(words("one \\\n  --two  # why"), ["one", "--two"]);
    }

    #[test]
    fn what_is_typed_runs_in_one_shell_until_something_fails() {
        let commands = ["x=\"it's\"", "echo $x there >&2", "false", "echo never"].map(str::to_owned);
        let said = typed(&commands, Path::new("/"), Path::new("/bin"), &[]);
        assert!(!said.ok());
        assert!(said.stdout.ends_with("it's there\n$ false\n"), "{}", said.stdout);
    }
}
