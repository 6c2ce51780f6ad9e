//! What `up` will run: which programs, with which arguments and environment.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use bus::{Subjects, roles::Role};
use domain::{config::Config, target::ZONE_DEFAULT};

use crate::{
    args::{Global, NATS_URL_DEFAULT, Up},
    config_file,
    exit::{Exit, Failure},
    up::{
        api_token,
        broker::{self, Broker, Served},
        child::Program,
        keys::{self, Signing},
        state::DataDir,
    },
};

/// Where a fixer's own list comes from.
const FIXER_LIST: [&str; 2] = ["SELFHEAL_FIXER_ALLOW", "SELFHEAL_FIXER_ALLOW_FILE"];

/// Where a monitor's own list comes from.
const MONITOR_LIST: [&str; 2] = ["SELFHEAL_MONITOR_ALLOW", "SELFHEAL_MONITOR_ALLOW_FILE"];

/// How long an agent's running work may take to end, in seconds: less than we wait before we kill it.
const AGENT_GRACE: &str = "8s";

/// A configuration that works, for the one who has none.
const CONFIG_EXAMPLE: &str = "\
targets:
  - name: web
    process: {command: [python3, -m, http.server, \"8000\"]}
    checks: [{http: \"http://127.0.0.1:8000/\", every: 1s}]
policy:
  autonomy: auto";

/// Everything that will run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Our own broker, unless a URL was given.
    pub(crate) broker: Option<Broker>,
    /// Where the broker is, for people; may hold a password when it was given.
    pub(crate) url: String,
    /// Where the gateway will listen.
    pub(crate) listen: SocketAddr,
    /// The file with the owner's token, unless another token was given.
    pub(crate) api_token: Option<PathBuf>,
    /// The agents.
    pub(crate) agents: Vec<Program>,
}

/// Refuses a configuration that the supervisor would refuse, before anything is started. Returns
/// it.
///
/// # Errors
///
/// When there is none, or it has mistakes.
pub(crate) fn check_config(path: &Path) -> Result<Config, Failure> {
    if !path.exists() {
        let message = format!("there is no configuration `{}`", path.display());
        return Err(Failure::new(Exit::Config, message).hint(format!(
            "write one, or name another with --config; for a start:\n\n{CONFIG_EXAMPLE}\n"
        )));
    }
    config_file::read(path).map(|(config, _text)| config)
}

/// Returns where this program lies.
///
/// # Errors
///
/// When the system does not tell.
pub(crate) fn our_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| {
        Failure::new(Exit::Failed, "cannot find out where this program lies").because(error)
    })
}

/// Refuses flags that contradict each other.
///
/// # Errors
///
/// When a broker was given, and a port for our own as well.
pub(crate) fn check_flags(args: &Up, global: &Global) -> Result<(), Failure> {
    if global.broker.is_given() && args.own.nats_port.is_some() {
        let message = "--nats-port is for a broker of our own, but another one was given";
        return Err(Failure::new(Exit::Usage, message)
            .hint("leave out --nats-port, or --nats-url and SELFHEAL_NATS_URL"));
    }
    if is_set("SELFHEAL_TLS_CERT") || is_set("SELFHEAL_TLS_KEY") {
        let message = "SELFHEAL_TLS_CERT and SELFHEAL_TLS_KEY are set, but the gateway of `up` speaks plain HTTP";
        return Err(Failure::new(Exit::Usage, message).hint(
            "unset them, or start the agents as processes of their own: see docs/operations.md",
        ));
    }
    Ok(())
}

impl Plan {
    /// Looks for the programs, and at the ports that they will take.
    ///
    /// # Errors
    ///
    /// When a program is missing, or a port is taken.
    pub(crate) async fn make(
        args: &Up,
        global: &Global,
        config: &Config,
        data: &DataDir,
    ) -> Result<Self, Failure> {
        let given = &global.broker;
        let broker_given = given.is_given();
        let exe = our_program()?;
        let binaries = Binaries::beside(&exe)?;
        let listen = match args.listen.port() {
            0 => broker::free_address(args.listen.ip())?,
            _ => {
                broker::check_free(
                    args.listen,
                    "the gateway",
                    "end what listens there, or take another: --listen 127.0.0.1:0 takes a free one",
                )?;
                args.listen
            }
        };
        let broker = if broker_given {
            None
        } else {
            let served = Served {
                names: Subjects::new(&given.prefix),
                zones: zones(config, std::env::var_os("SELFHEAL_ZONES")),
            };
            let mut own = broker::prepare(&args.own, data, &served).await?;
            own.program.wrapper = Some(exe.clone());
            Some(own)
        };
        let url = broker.as_ref().map_or_else(
            || given.nats_url.clone().unwrap_or_else(|| NATS_URL_DEFAULT.to_owned()),
            Broker::place,
        );
        let signing = match &broker {
            Some(_) => keys::of_own_broker(&data.root, &data.run)?,
            None => None,
        };
        let api_token = api_token::of_owner(&data.run, is_set)?;
        let common = Common {
            global,
            data,
            url: &url,
            own_broker: broker.as_ref(),
            signing: signing.as_ref(),
            api_token: api_token.as_deref(),
            wrapper: &exe,
        };
        let agents = binaries.agents(args, &common, listen);
        Ok(Self { broker, url, listen, api_token, agents })
    }
}

/// Returns the zones of an installation: those of its targets, and those that its agents serve.
fn zones(config: &Config, served: Option<OsString>) -> Vec<String> {
    let served = served.unwrap_or_default();
    let mut zones: Vec<String> = config.targets.iter().map(|it| it.zone.clone()).collect();
    zones.push(ZONE_DEFAULT.to_owned());
    let is_token = |it: &&str| {
        !it.is_empty() && it.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it))
    };
    // What is no zone is refused by the agents themselves.
    zones.extend(served.to_string_lossy().split(',').filter(is_token).map(str::to_owned));
    zones.sort();
    zones.dedup();
    zones
}

/// Our own programs, which lie beside this one.
#[derive(Debug)]
struct Binaries {
    dir: PathBuf,
}

/// What all agents are told.
struct Common<'a> {
    global: &'a Global,
    data: &'a DataDir,
    url: &'a str,
    own_broker: Option<&'a Broker>,
    signing: Option<&'a Signing>,
    api_token: Option<&'a Path>,
    wrapper: &'a Path,
}

impl Binaries {
    /// In the order in which they are started: the supervisor makes the streams that the others wait for.
    const AGENTS: [Role; 5] =
        [Role::Supervisor, Role::Gateway, Role::Monitor, Role::Fixer, Role::Analyzer];

    fn beside(exe: &Path) -> Result<Self, Failure> {
        let dir = exe.parent().unwrap_or_else(|| Path::new(".")).to_owned();
        let binaries = Self { dir };
        let missing: Vec<_> = Self::AGENTS
            .iter()
            .map(|role| binaries.path(role.as_str()))
            .filter(|path| !path.is_file())
            .map(|path| path.display().to_string())
            .collect();
        if missing.is_empty() {
            return Ok(binaries);
        }
        let message = format!("programs are missing beside `selfheal`: {}", missing.join(", "));
        Err(Failure::new(Exit::Failed, message)
            .hint("build them all with: cargo build --workspace --bins"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("selfheal-{name}"))
    }

    fn agents(&self, args: &Up, common: &Common<'_>, listen: SocketAddr) -> Vec<Program> {
        let program = |role: &Role| {
            let name = role.as_str();
            let mut command = vec![self.path(name).into_os_string()];
            let mut env = common.env(*role);
            match role {
                Role::Supervisor => {
                    let given = common.seed();
                    env.extend(given.map(|it| ("SELFHEAL_SIGNING_KEY", it)));
                    command.extend([
                        "--config".into(),
                        args.config.clone().into_os_string(),
                        "--data-dir".into(),
                        common.data.root.clone().into_os_string(),
                    ]);
                }
                Role::Gateway => {
                    command.extend(["--listen".into(), listen.to_string().into()]);
                    let told = |file| api_token::variables(file, |name| std::env::var_os(name));
                    env.extend(common.api_token.map(told).unwrap_or_default());
                }
                // Whoever starts `up` may do all of it by hand.
                Role::Fixer if !is_any_set(&FIXER_LIST) => env.push((FIXER_LIST[0], "all".into())),
                Role::Monitor if !is_any_set(&MONITOR_LIST) => {
                    env.push((MONITOR_LIST[0], "all".into()));
                }
                Role::Fixer | Role::Monitor | Role::Analyzer | Role::Cli | Role::Publisher => {}
            }
            Program {
                name,
                command,
                env,
                env_remove: common.env_remove(),
                is_private: false,
                wrapper: Some(common.wrapper.to_owned()),
            }
        };
        Self::AGENTS.iter().map(program).collect()
    }
}

impl Common<'_> {
    /// Returns the file with the seed that the supervisor signs with.
    fn seed(&self) -> Option<OsString> {
        let given = self.global.broker.signing_key.as_ref().filter(|_| self.own_broker.is_none());
        let own = self.signing.map(|it| it.seed.clone().into_os_string());
        own.or_else(|| given.map(OsString::from))
    }

    fn env(&self, role: Role) -> Vec<(&'static str, OsString)> {
        let broker = &self.global.broker;
        let mut env: Vec<(&'static str, OsString)> = vec![
            ("SELFHEAL_PREFIX", broker.prefix.clone().into()),
            ("SELFHEAL_STATE_DIR", self.data.run.clone().into()),
            // We make it readable, or pass it on as it is.
            ("SELFHEAL_LOG_FORMAT", "json".into()),
        ];
        // In the environment, not in the arguments: a URL may hold a password, and everybody can see arguments.
        let url = self.own_broker.map_or_else(|| self.url.to_owned(), |own| own.url(role));
        env.push(("SELFHEAL_NATS_URL", url.into()));
        if self.own_broker.is_none() {
            let given = broker.variables().into_iter();
            env.extend(given.filter_map(|(name, value)| Some((name, value?.clone().into()))));
        }
        if let Some(signing) = self.signing {
            env.push(("SELFHEAL_TRUSTED_KEYS", signing.public.clone().into()));
        }
        if !is_set("SELFHEAL_GRACE") {
            env.push(("SELFHEAL_GRACE", AGENT_GRACE.into()));
        }
        env
    }

    fn env_remove(&self) -> Vec<&'static str> {
        // Five agents cannot share one address.
        // Only the supervisor signs.
        let mut names = vec!["SELFHEAL_HEALTH_LISTEN", "SELFHEAL_SIGNING_KEY"];
        if self.own_broker.is_some() {
            names.extend(self.global.broker.variables().map(|(name, _)| name));
        }
        names
    }
}

fn is_any_set(names: &[&str]) -> bool {
    names.iter().any(|name| is_set(name))
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_for_the_one_who_has_none_is_a_configuration() {
        let config = domain::config::parse(CONFIG_EXAMPLE).unwrap();
        assert_eq!(config.targets.len(), 1);
        assert_eq!(config.warnings(), Vec::<String>::new());
        assert_eq!(CONFIG_EXAMPLE.lines().count(), 6);
    }

    #[test]
    fn the_broker_serves_the_zones_of_targets_and_agents() {
        let text = CONFIG_EXAMPLE.replace("  - name: web\n", "  - name: web\n    zone: berlin\n");
        let config = domain::config::parse(&text).unwrap();
        let served = Some("west,a.b,,west".into());
        assert_eq!(zones(&config, served), ["berlin", "default", "west"]);
    }

    #[test]
    fn without_a_configuration_an_example_is_shown() {
        let failure = check_config(Path::new("/nowhere/selfheal.yaml")).unwrap_err();
        assert_eq!(failure.exit(), Exit::Config);
        assert!(failure.hint_text().unwrap().contains("targets:"));
    }

    #[test]
    fn missing_programs_are_named_with_what_builds_them() {
        let failure = Binaries::beside(Path::new("/nowhere/selfheal")).unwrap_err();
        assert!(failure.to_string().contains("/nowhere/selfheal-fixer"), "{failure}");
        assert!(failure.hint_text().unwrap().contains("cargo build"));
    }
}
