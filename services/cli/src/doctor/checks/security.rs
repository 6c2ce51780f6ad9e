//! Could somebody use the installation who should not? Looked at with `--security` alone: what is
//! found is no fault of what runs.

use chrono::TimeDelta;
use domain::{
    access::{Role, TokenState},
    redact,
};

use super::super::{
    checks::Check,
    facts::{Facts, OpenFile, Security},
    finding::{Finding, Looked, NotSeen, Severity},
};

pub(super) const CHECK: Check =
    Check { name: "security", asks: "could somebody use it who should not?", look };

/// A token that lives longer than this is worth a look.
const LONG: TimeDelta = TimeDelta::days(366);

fn look(facts: &Facts) -> Looked {
    let seen = facts.security.as_ref().ok_or_else(|| NotSeen("ask with --security".to_owned()))?;
    let mut found = broker(facts, seen);
    found.extend(seen.open_files.iter().map(open_file));
    found.extend(tokens(facts));
    found.extend(literals(facts));
    Ok(found)
}

/// Who may enter the broker, over which wire, and whether it is believed blindly.
fn broker(facts: &Facts, seen: &Security) -> Vec<Finding> {
    let mut found = Vec::new();
    let (user, all) = match &facts.user {
        Ok(it) => (it.user.as_deref(), it.publish.is_none()),
        Err(_) => (Some(""), false),
    };
    match user {
        None => found.push(Finding::new(
            Severity::Error,
            "the broker lets everybody in",
            "whoever reaches its port can publish events, read the configuration and take work",
            "give it the users of `deploy/nats.conf`, each agent its own; `selfheal up` does it by itself",
        )),
        Some(name) if all => found.push(Finding::new(
            Severity::Warning,
            format!("the broker's user `{name}` may publish to every subject"),
            "whoever has its password can write wherever only supervisors should",
            "give each role the permissions of `deploy/nats.conf`",
        )),
        Some(_) => {}
    }
    if !seen.is_broker_here && !seen.is_broker_tls {
        found.push(Finding::new(
            Severity::Warning,
            "the broker is on another host, and reached without TLS",
            "passwords and everything else can be read and changed on the way",
            "give the broker a certificate, name it as tls://…, and its authority with --nats-ca",
        ));
    }
    if !seen.is_signed {
        found.push(Finding::new(
            Severity::Warning,
            "no trusted keys are known here, so signatures of supervisors are not asked for",
            "whoever may write where they write can decide in their place",
            "make keys with `selfheal key new`, and give all agents and this command --trusted-keys",
        ));
    }
    found
}

fn open_file(file: &OpenFile) -> Finding {
    let OpenFile { path, mode } = file;
    let path = path.display();
    Finding::new(
        Severity::Warning,
        format!("{path} may be read or written by other users (mode {mode:04o})"),
        "it holds what only the owner of the installation should see or change",
        format!("chmod go= {path}"),
    )
}

fn tokens(facts: &Facts) -> Vec<Finding> {
    let Ok(tokens) = &facts.tokens else { return Vec::new() };
    let valid =
        tokens.values().map(|it| &it.1).filter(|it| it.state(facts.now) == TokenState::Valid);
    let endless = valid.clone().filter(|it| it.expires_at.is_none_or(|end| facts.now + LONG < end));
    let endless = endless.map(|it| {
        let severity = if it.role < Role::Operator { Severity::Note } else { Severity::Warning };
        let name = &it.name;
        Finding::new(
            severity,
            format!("token `{name}` of the role {} has no end within a year", it.role),
            "if it is lost, whoever finds it may use it for as long",
            format!("make another with `selfheal token create --expires 90d`, and end it with `selfheal token revoke {name}`"),
        )
    });
    endless.collect()
}

fn literals(facts: &Facts) -> Vec<Finding> {
    let Ok(config) = &facts.config else { return Vec::new() };
    let places: Vec<String> = redact::literals(config).into_iter().map(|it| it.path).collect();
    if places.is_empty() {
        return Vec::new();
    }
    vec![Finding::new(
        Severity::Warning,
        format!("the configuration holds what looks like credentials: {}", places.join(", ")),
        "a configuration is stored and logged whole",
        "name where they are instead: {env: SECRET_NAME} or {file: PATH}",
    )]
}

#[cfg(test)]
mod tests {
    use bus::inspect::Allowed;

    use super::{super::super::facts::well, *};

    fn closed() -> Security {
        Security {
            is_broker_here: true,
            is_broker_tls: false,
            is_signed: true,
            open_files: Vec::new(),
        }
    }

    fn found(change: impl FnOnce(&mut Facts)) -> Vec<String> {
        let mut facts = well::facts();
        facts.security = Some(closed());
        let user = facts.user.as_mut().unwrap();
        (user.user, user.publish) = (Some("cli".to_owned()), Some(Allowed::default()));
        change(&mut facts);
        look(&facts).unwrap().into_iter().map(|it| it.what).collect()
    }

    #[test]
    fn each_open_door_is_named_and_a_closed_house_has_none() {
        assert_eq!(found(|_| {}), Vec::<String>::new());
        let says = |what: &[String], text: &str| what.iter().any(|it| it.contains(text));
        assert!(says(&found(|it| it.user.as_mut().unwrap().user = None), "lets everybody in"));
        let all = found(|it| it.user.as_mut().unwrap().publish = None);
        assert!(says(&all, "may publish to every subject"));
        let far = found(|it| it.security = Some(Security { is_broker_here: false, ..closed() }));
        assert!(says(&far, "without TLS"));
        let unsigned = found(|it| it.security = Some(Security { is_signed: false, ..closed() }));
        assert!(says(&unsigned, "no trusted keys"));
        let file = OpenFile { path: "data/run".into(), mode: 0o755 };
        let open = found(|it| {
            it.security = Some(Security { open_files: vec![file], ..closed() });
        });
        assert!(says(&open, "data/run may be read"), "{open:?}");
    }

    #[test]
    fn it_is_looked_at_only_when_asked_for() {
        assert!(look(&well::facts()).is_err());
    }
}
