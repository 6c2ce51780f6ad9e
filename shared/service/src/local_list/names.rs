//! Which variables an order may set for what it runs.

use glob::Pattern;

/// Beginnings of the names of variables by which a loader, an interpreter or a tool is made to run
/// or to use something else than its command says.
#[rustfmt::skip]
const HAZARDOUS: [&str; 46] = [
    "LD_", "DYLD_", "GLIBC_", "GCONV_", "MALLOC_", "BASH", "PYTHON", "NODE_", "NPM_", "PERL", "RUBY", "GEM_", "LUA_",
    "PHP", "JAVA_", "_JAVA_", "JDK_", "JVM_", "CLASSPATH", "MAVEN_", "GRADLE_", "GIT_", "SSH_", "DOCKER_",
    "CONTAINER_", "KUBECONFIG", "COMPOSE_", "OPENSSL_", "SSL_", "XDG_", "PS4", "SHELL", "CDPATH", "PROMPT_COMMAND",
    "EDITOR", "VISUAL", "PAGER", "LESS", "TERMINFO", "LOCPATH", "NLSPATH", "TMPDIR", "GOFLAGS", "RUSTC", "CARGO_",
    "SELFHEAL_",
];

/// Such variables by their whole names.
const HAZARDOUS_NAMES: [&str; 8] =
    ["PATH", "HOME", "IFS", "ENV", "USER", "LOGNAME", "HTTP_PROXY", "HTTPS_PROXY"];

/// Which variables an order may set for what it runs.
///
/// By patterns of names. A variable that is known to make a loader, an interpreter or a tool run
/// something else is allowed only where its whole name is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvNames(Vec<Pattern>);

impl EnvNames {
    /// Allows what fits one of these.
    #[must_use]
    pub const fn new(patterns: Vec<Pattern>) -> Self {
        Self(patterns)
    }

    /// Returns whether a variable of this name may be set.
    #[must_use]
    pub fn allow(&self, name: &str) -> bool {
        let is_hazardous = is_hazardous(name);
        self.0.iter().any(|it| it.as_str() == name || (!is_hazardous && it.matches(name)))
    }
}

fn is_hazardous(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    HAZARDOUS.iter().any(|it| upper.starts_with(it))
        || HAZARDOUS_NAMES.contains(&upper.as_str())
        // A function of a shell, or what is no name at all.
        || !name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(patterns: &[&str]) -> EnvNames {
        EnvNames::new(patterns.iter().map(|it| Pattern::new(it).unwrap()).collect())
    }

    #[test]
    fn what_makes_a_program_run_something_else_must_be_named_in_full() {
        let any = names(&["*"]);
        for name in [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "BASH_ENV",
            "BASH_FUNC_ls%%",
            "ENV",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "NODE_OPTIONS",
            "PERL5OPT",
            "PERL5LIB",
            "RUBYOPT",
            "GIT_SSH_COMMAND",
            "JAVA_TOOL_OPTIONS",
            "_JAVA_OPTIONS",
            "DOCKER_HOST",
            "HOME",
            "PATH",
            "IFS",
            "http_proxy",
        ] {
            assert!(!any.allow(name), "{name}");
            assert!(!EnvNames::default().allow(name), "{name}");
            assert!(names(&[&name.replace('%', "x")]).allow(&name.replace('%', "x")), "{name}");
        }
        for name in ["MODE", "SHOP_URL", "http", "HOMEPAGE"] {
            assert!(any.allow(name), "{name}");
            assert!(!EnvNames::default().allow(name), "{name}");
        }
    }

    #[test]
    fn patterns_are_of_whole_names() {
        let some = names(&["SHOP_*", "MODE"]);
        for (name, allowed) in [
            ("SHOP_URL", true),
            ("MODE", true),
            ("MODES", false),
            ("XSHOP_URL", false),
            ("", false),
        ] {
            assert_eq!(some.allow(name), allowed, "{name}");
        }
    }
}
