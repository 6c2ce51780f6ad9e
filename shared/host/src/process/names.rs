//! Whether a process may be what a command names. A name proves nothing; it only keeps
//! out what cannot be meant.

use std::path::Path;

use domain::target::ProcessHandle;

use super::Host;

/// Longest name that the kernel keeps of a process.
const SHORT_NAME_MAX: usize = 15;

/// Returns whether a process goes by the name of the handle's program: its binary, the
/// name it was called by, the script of an interpreter, or the title it has given itself
/// (`nginx: master process`, `puma 6.4 (tcp://…)`, `[celeryd: …]`).
pub(super) fn goes_by_name(host: &dyn Host, pid: i32, handle: &ProcessHandle) -> bool {
    let Some(wanted) = handle.command.first().and_then(|it| file_name(it)) else { return false };
    let arguments = host.arguments(pid);
    let program = host.program(pid);
    let called = program.iter().chain(arguments.iter().take(2));
    if called.filter_map(|it| file_name(it)).any(|it| it == wanted) {
        return true;
    }
    let short: String = wanted.chars().take(SHORT_NAME_MAX).collect();
    if host.short_name(pid).is_some_and(|it| it == short) {
        return true;
    }
    arguments.first().is_some_and(|title| has_title(title, wanted))
}

fn has_title(title: &str, wanted: &str) -> bool {
    let Some(rest) = title.trim_start_matches('[').strip_prefix(wanted) else { return false };
    // `celery` calls itself `celeryd`.
    rest.trim_start_matches('d').starts_with([':', ' ', ']'])
}

/// Returns whether arguments are those of a command, as it is or behind an interpreter.
pub(super) fn is_command(host: &dyn Host, arguments: &[String], command: &[String]) -> bool {
    let Some((program, rest)) = command.split_first() else { return false };
    let same = |at: usize| {
        arguments.get(at).is_some_and(|it| is_program(host, it, program))
            && arguments.get(at + 1..).is_some_and(|it| it == rest)
    };
    same(0) || same(1)
}

/// Returns whether a program is called by the name of another. Two whole paths must lead to the
/// same file: services that are built alike have programs of one name in directories of their own.
fn is_program(host: &dyn Host, called: &str, program: &str) -> bool {
    let is_named_alike = file_name(called).is_some_and(|it| file_name(program) == Some(it));
    let are_whole = Path::new(called).is_absolute() && Path::new(program).is_absolute();
    let is_same_file = || {
        let of = |path: &str| host.canonical(path);
        called == program || of(called).is_some_and(|it| of(program) == Some(it))
    };
    is_named_alike && (!are_whole || is_same_file())
}

/// Returns whether arguments are the end of a command: what a wrapper that the command begins with
/// has become, such as `env X=1 server --port 80` or `setpriv --reuid=shop server --port 80`.
pub(super) fn is_end_of(host: &dyn Host, arguments: &[String], command: &[String]) -> bool {
    let end = |n: usize| command.len().checked_sub(n).filter(|it| 0 < *it);
    let end = |n: usize| end(n).and_then(|it| command.get(it..)).unwrap_or_default();
    let n = arguments.len();
    // A name alone says too little.
    let is_end = 1 < n && is_command(host, arguments, end(n));
    let script = end(n.saturating_sub(1));
    let is_script = script.first().is_some_and(|it| it.contains('/'));
    is_end || (2 < n && is_script && is_command(host, arguments, script))
}

/// Returns the last part of a path.
pub(super) fn file_name(path: &str) -> Option<&str> {
    Path::new(path).file_name().and_then(|it| it.to_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ThisHost;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn titles_that_programs_give_themselves_are_known() {
        for (title, name, expected) in [
            ("nginx: master process /usr/sbin/nginx", "nginx", true),
            ("gunicorn: master [app:app]", "gunicorn", true),
            ("puma 6.4.2 (tcp://0.0.0.0:3000) [shop]", "puma", true),
            ("[celeryd: celery@host:MainProcess] -active-", "celery", true),
            ("nginxer: x", "nginx", false),
            ("redis-server", "redis", false),
        ] {
            assert_eq!(has_title(title, name), expected, "{title}");
        }
    }

    #[test]
    fn a_command_is_known_behind_its_interpreter() {
        let command = words("./serve.py --port 80");
        assert!(is_command(&ThisHost, &words("/srv/serve.py --port 80"), &command));
        assert!(is_command(&ThisHost, &words("/usr/bin/python3 ./serve.py --port 80"), &command));
        assert!(!is_command(&ThisHost, &words("python3 ./serve.py --port 81"), &command));
        assert!(!is_command(&ThisHost, &words("python3 ./serve.py"), &command));
        assert!(!is_command(&ThisHost, &[], &command));
    }

    #[test]
    fn programs_of_one_name_in_two_directories_are_two() {
        let command = words("/srv/shop/server --serve");
        assert!(is_command(&ThisHost, &words("/srv/shop/server --serve"), &command));
        assert!(!is_command(&ThisHost, &words("/srv/cart/server --serve"), &command));
        // It may have gone to its directory before.
        assert!(is_command(&ThisHost, &words("./server --serve"), &command));
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("1/server"), dir.path().join("2/server"));
        for path in [&file, &link] {
            std::fs::create_dir(path.parent().unwrap()).unwrap();
        }
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let (file, link) = (file.display().to_string(), link.display().to_string());
        assert!(is_command(&ThisHost, &[file], &[link]), "it is called by a link");
    }

    #[test]
    fn what_a_wrapper_has_become_is_the_end_of_its_command() {
        let command = words("/usr/bin/env X=1 ./serve.py --port 80");
        assert!(is_end_of(&ThisHost, &words("./serve.py --port 80"), &command));
        assert!(is_end_of(&ThisHost, &words("/usr/bin/python3 ./serve.py --port 80"), &command));
        assert!(!is_end_of(&ThisHost, &words("./serve.py --port 81"), &command));
        assert!(!is_end_of(&ThisHost, &words("./other.py --port 80"), &command));
        assert!(!is_end_of(&ThisHost, &words("80"), &command));
        assert!(!is_end_of(&ThisHost, &command, &command));
        assert!(!is_end_of(&ThisHost, &[], &command));
    }
}
