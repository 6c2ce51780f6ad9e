//! Do the tokens of the gateway's callers still count?

use chrono::TimeDelta;
use domain::access::{TokenRecord, TokenState};

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, NotSeen, Severity},
};

pub(super) const CHECK: Check =
    Check { name: "tokens", asks: "do the tokens of the gateway's callers still count?", look };

/// So long before its end a token is worth a look.
const SOON: TimeDelta = TimeDelta::days(7);

/// So long after its end nobody waits for it any more.
const FORGOTTEN: TimeDelta = TimeDelta::days(30);

fn look(facts: &Facts) -> Looked {
    let tokens = facts.tokens.as_ref().map_err(NotSeen::clone)?;
    Ok(tokens.values().filter_map(|(_, record)| finding(record, facts)).collect())
}

fn finding(record: &TokenRecord, facts: &Facts) -> Option<Finding> {
    let end = record.expires_at?;
    let now = facts.now;
    let (severity, what) = match record.state(now) {
        TokenState::Revoked => return None,
        TokenState::Valid if now + SOON <= end => return None,
        TokenState::Valid => (
            Severity::Note,
            format!("token `{}` ends at {}", record.name, end.format("%Y-%m-%d %H:%M UTC")),
        ),
        TokenState::Expired if end + FORGOTTEN <= now => return None,
        TokenState::Expired => (
            Severity::Warning,
            format!("token `{}` has ended at {}", record.name, end.format("%Y-%m-%d %H:%M UTC")),
        ),
    };
    let mend = format!(
        "if it is still needed: `selfheal token create --name NEW --role {}`, and give that to its holder; else `selfheal token revoke {}`",
        record.role, record.name
    );
    Some(Finding::new(severity, what, "clients using it receive 401 and lose their events", mend))
}

#[cfg(test)]
mod tests {
    use domain::access::{Revoked, Role};

    use super::{super::super::facts::well, *};

    #[test]
    fn a_token_is_told_before_its_end_and_after_it_until_it_is_forgotten_or_revoked() {
        let mut facts = well::facts();
        let mut record = TokenRecord {
            name: "ci".to_owned(),
            role: Role::Publisher,
            hash: String::new(),
            created_at: well::now(),
            created_by: "ann".to_owned(),
            expires_at: None,
            rate: None,
            scope: None,
            revoked: None,
        };
        let mut told = |days: i64, revoked: bool| {
            record.expires_at = Some(well::now() + TimeDelta::days(days));
            record.revoked = revoked.then(|| Revoked { at: well::now(), by: "ann".to_owned() });
            facts.tokens = Ok([("ci".to_owned(), (1, record.clone()))].into());
            look(&facts).unwrap().first().map(|it| it.severity)
        };
        assert_eq!(told(8, false), None);
        assert_eq!(told(6, false), Some(Severity::Note));
        assert_eq!(told(-1, false), Some(Severity::Warning));
        assert_eq!(told(-31, false), None);
        assert_eq!(told(-1, true), None);
    }
}
