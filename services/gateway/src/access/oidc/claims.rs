//! What a proven token claims, and whether that is enough.

use chrono::{DateTime, TimeDelta, Utc};
use domain::access::{Oidc, Role};
use serde_json::Value;

use super::Refusal;
use crate::access::principal::plain;

/// By how much the provider's clock and ours may differ.
const LEEWAY: TimeDelta = TimeDelta::seconds(60);

/// The longest life of a token from now on: nothing takes one back before its end.
const LIFE_MAX: TimeDelta = TimeDelta::hours(24);

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
    if !is_for_access(claims) {
        return Err(Refusal::Use);
    }
    let until = time(claims, "exp")?.ok_or(Refusal::Expired)? + LEEWAY;
    if until <= now {
        return Err(Refusal::Expired);
    }
    if LIFE_MAX + LEEWAY < until.signed_duration_since(now) {
        return Err(Refusal::TooLong);
    }
    for begins in ["nbf", "iat"] {
        if time(claims, begins)?.is_some_and(|it| LEEWAY < it.signed_duration_since(now)) {
            return Err(Refusal::NotYet);
        }
    }
    let name = at(claims, &settings.name_claim).and_then(Value::as_str);
    let name = name.map(plain).filter(|it| !it.is_empty()).ok_or(Refusal::NoName)?;
    let groups: Vec<&str> = texts(at(claims, &settings.role_claim)).collect();
    let roles = settings.roles.iter().filter(|(group, _)| groups.contains(&group.as_str()));
    // Of two roles the one that may more; a publisher may less than any other.
    let role = roles.map(|(_, role)| *role).max();
    let role = role.ok_or_else(|| Refusal::NoRole { name: name.clone() })?;
    Ok(Identity { name, role, until })
}

/// Returns whether claims may be those of an access token.
///
/// A log-out token has `events` (OpenID Connect Back-Channel Logout 1.0, section 2.4). An ID token
/// has no mark that all providers set, but what a provider puts only into it: hashes of what was
/// given out beside it, and the nonce of the log-in. Keycloak names the kind in `typ`, Cognito in
/// `token_use`.
fn is_for_access(claims: &Value) -> bool {
    let has = |name: &&str| claims.get(name).is_some_and(|it| !it.is_null());
    let said = |name: &str, wanted: &str| {
        claims.get(name).map(|it| it.as_str().is_some_and(|it| it.eq_ignore_ascii_case(wanted)))
    };
    let (kind, purpose) = (said("typ", "Bearer"), said("token_use", "access"));
    if has(&"events") || kind == Some(false) || purpose == Some(false) {
        return false;
    }
    let is_said = kind == Some(true) || purpose == Some(true);
    !["at_hash", "c_hash", "s_hash"].iter().any(has) && (is_said || !has(&"nonce"))
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
    fn a_token_for_a_log_in_or_a_log_out_is_no_access_token() {
        let logout = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
        for (claim, value) in [
            ("events", logout),
            ("events", json!({})),
            ("at_hash", json!("77QmUPtjPfzWtF2AnpK9RQ")),
            ("c_hash", json!("LDktKdoQak3Pk0cnXxCltA")),
            ("s_hash", json!("LDktKdoQak3Pk0cnXxCltA")),
            ("nonce", json!("n-0S6_WzA2Mj")),
            ("typ", json!("ID")),
            ("typ", json!("Refresh")),
            ("typ", json!("Offline")),
            ("typ", json!("Logout")),
            ("typ", json!(["Bearer"])),
            ("token_use", json!("id")),
        ] {
            assert_eq!(
                judged(|it| it[claim] = value.clone()),
                Err(Refusal::Use),
                "{claim} {value}"
            );
        }
        for (claim, value) in
            [("typ", json!("Bearer")), ("token_use", json!("access")), ("azp", json!("web"))]
        {
            assert!(judged(|it| it[claim] = value.clone()).is_ok(), "{claim}");
        }
        // Keycloak before version 25 puts the nonce of the log-in into access tokens too.
        assert!(judged(|it| *it = with(it, &json!({"typ": "Bearer", "nonce": "n"}))).is_ok());
        assert!(judged(|it| *it = with(it, &json!({"typ": "Bearer", "at_hash": "h"}))).is_err());
    }

    fn with(claims: &Value, more: &Value) -> Value {
        let (mut all, more) = (claims.as_object().unwrap().clone(), more.as_object().unwrap());
        all.extend(more.clone());
        Value::Object(all)
    }

    #[test]
    fn a_token_counts_for_a_day_at_most() {
        assert!(judged(|it| it["exp"] = json!(900 + 86_400)).is_ok());
        for exp in [900 + 86_401, 900 + 10 * 365 * 86_400] {
            assert_eq!(judged(|it| it["exp"] = json!(exp)), Err(Refusal::TooLong), "{exp}");
        }
    }

    #[test]
    fn a_name_that_shows_nothing_is_none() {
        assert_eq!(judged(|it| it["sub"] = json!("a\u{202e}n\u{200b}n")).unwrap().name, "ann");
        for name in ["\u{200b}", " \u{feff}\n", "()"] {
            assert_eq!(judged(|it| it["sub"] = json!(name)), Err(Refusal::NoName), "{name:?}");
        }
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
