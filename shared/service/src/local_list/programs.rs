//! Which programs may be run, and with which arguments.

use std::path::{Component, Path};

use glob::{Pattern, PatternError};

use super::BY_PARTS;

/// As the last word of a line: any further arguments.
const ANY_MORE: &str = "...";

/// Which programs may be run, and with which arguments.
///
/// A line is a whole command, word by word: a pattern for the program, and one for each argument.
/// Words are compared with words, never a joined text with a text, so no blank or quote in an
/// argument means anything.
///
/// * The program without `/` is one by its name, as it is found in the agent's own `PATH`; with
///   `/` it is the whole path.
/// * In a pattern, `*` stands for any characters but `/`, and `**` for any.
/// * An argument that begins with `-` is matched only by a pattern that does, and one with a part
///   `..` only by just this text: no `*` lets an option or a way out of a directory in.
/// * `...` as the last word stands for any further arguments, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs(Vec<Line>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    program: Pattern,
    arguments: Vec<Pattern>,
    is_open: bool,
}

impl Programs {
    /// Adds a line.
    ///
    /// # Errors
    ///
    /// When a word is no pattern, or there is none.
    pub fn add(&mut self, words: &[String]) -> Result<(), String> {
        let is_open = words.last().is_some_and(|it| it == ANY_MORE);
        let words = words.get(..words.len() - usize::from(is_open)).unwrap_or_default();
        let [program, arguments @ ..] = words else {
            return Err("it names no program".to_owned());
        };
        if words.iter().any(|it| it == ANY_MORE) {
            return Err(format!("`{ANY_MORE}` can only be its last word"));
        }
        let pattern = |word: &String| {
            Pattern::new(word)
                .map_err(|error: PatternError| format!("`{word}` is no pattern: {error}"))
        };
        self.0.push(Line {
            program: pattern(program)?,
            arguments: arguments.iter().map(pattern).collect::<Result<_, _>>()?,
            is_open,
        });
        Ok(())
    }

    /// Returns whether a command may be run. `found` is its program's whole path, and `by_name`
    /// says whether that is what its bare name leads to in the agent's own `PATH`.
    #[must_use]
    pub fn allow(&self, command: &[String], found: &Path, by_name: bool) -> bool {
        let Some((program, arguments)) = command.split_first() else { return false };
        let by_name = by_name && !program.contains('/');
        let is_straight = !found.components().any(|it| it == Component::ParentDir);
        self.0.iter().any(|line| {
            let is_program = if line.program.as_str().contains('/') {
                is_straight && line.program.matches_path_with(found, BY_PARTS)
            } else {
                by_name && line.program.matches_with(program, BY_PARTS)
            };
            is_program && line.takes(arguments)
        })
    }
}

impl Line {
    fn takes(&self, arguments: &[String]) -> bool {
        let (n_wanted, n_given) = (self.arguments.len(), arguments.len());
        (n_given == n_wanted || (self.is_open && n_wanted < n_given))
            && self.arguments.iter().zip(arguments).all(|(wanted, given)| is_it(wanted, given))
    }
}

fn is_it(wanted: &Pattern, given: &str) -> bool {
    if wanted.as_str() == given {
        return true;
    }
    let is_option = given.starts_with('-') && !wanted.as_str().starts_with('-');
    // Also behind a `=`, as in `--file=../x`.
    let leads_up = given.split(['/', '=', ':', ',']).any(|it| it == "..");
    !is_option && !leads_up && wanted.matches_with(given, BY_PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn commands_are_compared_word_by_word() {
        for (line, command, allowed) in [
            ("docker restart *", vec!["docker", "restart", "shop"], true),
            ("docker restart *", vec!["docker", "restart"], false),
            ("docker restart *", vec!["docker", "restart", "shop", "db"], false),
            ("docker restart *", vec!["docker", "restart shop", "db"], false),
            ("docker restart *", vec!["docker", "run", "-v", "/:/h", "x"], false),
            ("docker restart *", vec!["docker", "restart", "--time=0"], false),
            ("docker restart *", vec!["docker", "restart", "a b; c"], true),
            ("docker restart *", vec!["docker", "restart", "a/b"], false),
            ("docker restart **", vec!["docker", "restart", "a/b"], true),
            ("docker restart **", vec!["docker", "restart", "/a"], true),
            ("docker restart **", vec!["docker", "restart", "a/../b"], false),
            ("docker restart **", vec!["docker", "restart", "b"], true),
            ("docker", vec!["docker"], true),
            ("docker", vec!["docker", "ps"], false),
            ("docker ...", vec!["docker", "ps", "-a"], true),
            ("docker ...", vec!["docker"], true),
            ("docker ps ...", vec!["docker", "ps"], true),
            ("docker ps ...", vec!["docker"], false),
            ("docker ps ...", vec!["docker", "run"], false),
            ("docker logs --tail=* *", vec!["docker", "logs", "--tail=5", "db"], true),
            ("docker logs --tail=* *", vec!["docker", "logs", "--follow", "db"], false),
            ("docker logs --tail=* *", vec!["docker", "logs", "--tail=..", "db"], false),
            ("docker cp ../x *", vec!["docker", "cp", "../x", "y"], true),
            ("docker cp x?", vec!["docker", "cp", "x1"], true),
            ("docker cp [ab]", vec!["docker", "cp", "c"], false),
            ("*", vec!["docker"], true),
            ("*", vec!["docker", "x"], false),
        ] {
            let mut programs = Programs::default();
            programs.add(&words(line)).unwrap();
            let command: Vec<String> = command.into_iter().map(str::to_owned).collect();
            let found = Path::new("/usr/bin/docker");
            assert_eq!(programs.allow(&command, found, true), allowed, "{line}: {command:?}");
        }
    }

    #[test]
    fn a_program_is_known_by_its_name_or_by_its_path() {
        for (line, program, found, by_name, allowed) in [
            ("sleep", "sleep", "/usr/bin/sleep", true, true),
            ("sleep", "/usr/bin/sleep", "/usr/bin/sleep", true, false),
            ("sleep", "sleep", "/tmp/sleep", false, false),
            ("/usr/bin/sleep", "sleep", "/usr/bin/sleep", true, true),
            ("/usr/bin/*", "sleep", "/usr/bin/sleep", true, true),
            ("/usr/*", "sleep", "/usr/bin/sleep", true, false),
            ("/usr/**", "sleep", "/usr/bin/sleep", true, true),
            ("/usr/**", "x", "/usr/../tmp/x", true, false),
            ("/opt/*/bin/*", "x", "/opt/shop/bin/x", true, true),
        ] {
            let mut programs = Programs::default();
            programs.add(&words(line)).unwrap();
            let command = [program.to_owned()];
            let told = format!("{line}: {program} {found}");
            assert_eq!(programs.allow(&command, Path::new(found), by_name), allowed, "{told}");
        }
        assert!(!Programs::default().allow(&["x".to_owned()], Path::new("/x"), true));
    }

    #[test]
    fn lines_that_mean_nothing_are_refused() {
        for line in ["", "...", "a ... b", "a[", "a b["] {
            assert!(Programs::default().add(&words(line)).is_err(), "{line}");
        }
    }
}
