//! What a proven token claims, and whether that is enough.

use chrono::{DateTime, TimeDelta, Utc};
use domain::access::{Oidc, Role};
use serde_json::Value;

use super::Refusal;

/// By how much the provider's clock and ours may differ.
const LEEWAY: TimeDelta = TimeDelta::seconds(60);

/// Who the caller is, as the provider says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The name for the log.
    pub(crate) name: String,
    /// The best role of his groups.
    pub(crate) role: Role,
    /// When his token ends here.
    pub(crate) until: DateTime<Utc>,
}

/// Judges claims whose signature is proven.
pub(super) fn judge(
    settings: &Oidc,
    claims: &Value,
    now: DateTime<Utc>,
) -> Result<Identity, Refusal> {
    if claims.get("iss").and_then(Value::as_str) != Some(settings.issuer.as_str()) {
        return Err(Refusal::Issuer);
    }
    if !texts(claims.get("aud")).any(|it| it == settings.audience) {
        return Err(Refusal::Audience);
    }
    let until = time(claims, "exp")?.ok_or(Refusal::Expired)? + LEEWAY;
    if until <= now {
        return Err(Refusal::Expired);
    }
    for begins in ["nbf", "iat"] {
        if time(claims, begins)?.is_some_and(|it| now + LEEWAY < it) {
            return Err(Refusal::NotYet);
        }
    }
    let name = at(claims, &settings.name_claim).and_then(Value::as_str);
    let name = name.map(str::trim).filter(|it| !it.is_empty()).ok_or(Refusal::NoName)?;
    let groups: Vec<&str> = texts(at(claims, &settings.role_claim)).collect();
    let roles = settings.roles.iter().filter(|(group, _)| groups.contains(&group.as_str()));
    // Of two roles the one that may more; a publisher may less than any other.
    let role = roles.map(|(_, role)| *role).max();
    let role = role.ok_or_else(|| Refusal::NoRole { name: name.to_owned() })?;
    Ok(Identity { name: name.to_owned(), role, until })
}

/// Returns a time in seconds since 1970, whole or with a fraction.
fn time(claims: &Value, name: &str) -> Result<Option<DateTime<Utc>>, Refusal> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_i64().or_else(|| {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the cast saturates, and is looked at below"
        )]
        value.as_f64().map(|it| it as i64)
    });
    let at = seconds.and_then(|it| DateTime::from_timestamp(it, 0));
    // So far ahead that adding the leeway would leave the calendar: no time that is meant.
    at.filter(|it| it.checked_add_signed(LEEWAY).is_some()).map(Some).ok_or(Refusal::Malformed)
}

/// Returns a claim by its name, or by the way to it.
fn at<'a>(claims: &'a Value, path: &str) -> Option<&'a Value> {
    claims.get(path).or_else(|| path.split('.').try_fold(claims, |value, part| value.get(part)))
}

/// Returns one text or a list of texts.
fn texts(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let one = value.and_then(Value::as_str);
    let many = value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    one.into_iter().chain(many)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings() -> Oidc {
        serde_json::from_value(json!({
            "issuer": "https://id.example", "audience": "selfheal",
            "roles": {"staff": "viewer", "on-call": "approver", "bots": "publisher"},
        }))
        .unwrap()
    }

    fn judged(change: impl Fn(&mut Value)) -> Result<Identity, Refusal> {
        let mut claims = json!({
            "iss": "https://id.example", "aud": "selfheal", "sub": "ann", "exp": 1000, "groups": ["staff"],
        });
        change(&mut claims);
        judge(&settings(), &claims, DateTime::from_timestamp(900, 0).unwrap())
    }

    #[test]
    fn the_best_role_of_the_groups_counts() {
        let until = DateTime::from_timestamp(1060, 0).unwrap();
        let role = |role| Ok(Identity { name: "ann".to_owned(), role, until });
        assert_eq!(judged(|_| {}), role(Role::Viewer));
        assert_eq!(judged(|it| it["groups"] = json!("on-call")), role(Role::Approver));
        assert_eq!(
            judged(|it| it["groups"] = json!(["x", "on-call", "staff"])),
            role(Role::Approver)
        );
        assert_eq!(judged(|it| it["groups"] = json!(["bots"])), role(Role::Publisher));
        let none = Err(Refusal::NoRole { name: "ann".to_owned() });
        for groups in
            [json!(["x"]), json!([]), json!(null), json!({"staff": true}), json!([["staff"]])]
        {
            assert_eq!(judged(|it| it["groups"] = groups.clone()), none, "{groups}");
        }
    }

    #[test]
    fn another_issuer_and_another_audience_are_refused() {
        for issuer in [
            json!("https://id.example/"),
            json!("http://id.example"),
            json!(null),
            json!(["https://id.example"]),
        ] {
            assert_eq!(judged(|it| it["iss"] = issuer.clone()), Err(Refusal::Issuer), "{issuer}");
        }
        assert!(judged(|it| it["aud"] = json!(["other", "selfheal"])).is_ok());
        for audience in
            [json!("other"), json!(["other"]), json!([]), json!(null), json!("selfheal2")]
        {
            assert_eq!(
                judged(|it| it["aud"] = audience.clone()),
                Err(Refusal::Audience),
                "{audience}"
            );
        }
    }

    #[test]
    fn a_token_counts_in_its_time_give_or_take_the_clocks() {
        assert!(judged(|it| it["exp"] = json!(841)).is_ok());
        assert_eq!(judged(|it| it["exp"] = json!(840)), Err(Refusal::Expired));
        assert_eq!(
            judged(|it| drop(it.as_object_mut().unwrap().remove("exp"))),
            Err(Refusal::Expired)
        );
        for exp in [json!("1000"), json!(null), json!(u64::MAX), json!(8_210_266_876_799_i64)] {
            assert_eq!(judged(|it| it["exp"] = exp.clone()), Err(Refusal::Malformed), "{exp}");
        }
        assert!(judged(|it| it["exp"] = json!(1000.5)).is_ok());
        assert!(judged(|it| it["nbf"] = json!(960)).is_ok());
        assert_eq!(judged(|it| it["nbf"] = json!(961)), Err(Refusal::NotYet));
        assert_eq!(judged(|it| it["iat"] = json!(2000)), Err(Refusal::NotYet));
    }

    #[test]
    fn groups_and_names_are_found_inside_of_objects_too() {
        let mut settings = settings();
        settings.role_claim = "realm_access.roles".to_owned();
        settings.name_claim = "email".to_owned();
        let now = DateTime::from_timestamp(900, 0).unwrap();
        let mut claims = json!({
            "iss": "https://id.example", "aud": "selfheal", "sub": "1", "email": "ann@example.org",
            "exp": 1000, "realm_access": {"roles": ["on-call"]},
        });
        let identity = judge(&settings, &claims, now).unwrap();
        assert_eq!((identity.name.as_str(), identity.role), ("ann@example.org", Role::Approver));
        claims["email"] = json!("");
        assert_eq!(judge(&settings, &claims, now), Err(Refusal::NoName));
    }
}
