//! Who a caller is.

use chrono::{DateTime, Utc};
use domain::{
    access::{self, Role, TokenRecord, token_id},
    event::Origin,
    span::Rates,
    visible,
};

/// Comes before the name of a token.
const TOKEN_NAME_PREFIX: &str = "token:";

/// Longest name of a person that is kept.
const PERSON_CHARS_MAX: usize = 200;

/// Somebody whom we know, and what he may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    /// What the log calls him, such as `token:ci`.
    pub(crate) name: String,
    /// What he may do.
    pub(crate) role: Role,
    /// How often he may come, if that is said of him alone.
    pub(crate) rate: Option<Rates>,
    /// How he proved it.
    pub(crate) proof: Proof,
}

/// How somebody proved who he is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// He is on this host, where no token is asked for.
    Host,
    /// By the token of the flags.
    Flags,
    /// By a token whose record has this hash.
    Token(String),
    /// By a token of the provider.
    Provider {
        /// The provider.
        issuer: String,
        /// When the token ends.
        until: DateTime<Utc>,
    },
    /// By the secret or the signature of an integration, which opens its door and nothing else.
    Integration,
}

impl Principal {
    /// Who is on this host, which has one owner.
    pub(crate) fn of_host() -> Self {
        Self { name: "local".to_owned(), role: Role::Admin, rate: None, proof: Proof::Host }
    }

    /// Who is on this host, where only events need no token.
    pub(crate) fn of_host_sender() -> Self {
        Self { role: Role::Publisher, ..Self::of_host() }
    }

    /// Who has the token of the flags.
    pub(crate) fn of_flags() -> Self {
        Self { name: "api-token".to_owned(), role: Role::Admin, rate: None, proof: Proof::Flags }
    }

    /// Who has the token of this record.
    pub(crate) fn of_token(record: &TokenRecord) -> Self {
        Self {
            name: format!("{TOKEN_NAME_PREFIX}{}", record.name),
            role: record.role,
            rate: record.rate.clone(),
            proof: Proof::Token(record.hash.clone()),
        }
    }

    /// Who is known to the provider.
    pub(crate) fn of_provider(
        name: &str,
        role: Role,
        (issuer, until): (&str, DateTime<Utc>),
    ) -> Self {
        let proof = Proof::Provider { issuer: issuer.to_owned(), until };
        Self { name: format!("oidc:{}", plain(name)), role, rate: None, proof }
    }

    /// Returns who sends what comes from him.
    pub(crate) fn origin(&self) -> Origin {
        Origin::new(self.name.clone()).operator(self.role.covers(Role::Operator))
    }

    /// Who knows the secret of an integration.
    pub(crate) fn of_integration(name: &str) -> Self {
        let name = format!("integration:{}", plain(name));
        Self { name, role: Role::Publisher, rate: None, proof: Proof::Integration }
    }

    /// Returns how he proved who he is, for the ledger: his right is looked at again with it.
    pub(crate) fn told(&self) -> access::Proof {
        match &self.proof {
            Proof::Host => access::Proof::Host,
            Proof::Flags => access::Proof::ApiToken,
            Proof::Token(hash) => {
                let name = self.name.strip_prefix(TOKEN_NAME_PREFIX).unwrap_or(&self.name);
                access::Proof::Token { name: name.to_owned(), id: token_id(hash) }
            }
            Proof::Provider { issuer, .. } => access::Proof::Provider { issuer: issuer.clone() },
            // It gives no commands, and this is worth nothing if it did.
            Proof::Integration => access::Proof::Unknown,
        }
    }

    /// Returns who did something, for the ledger: the principal, and in brackets the person
    /// whom the request names, which proves nothing and never takes the principal's place.
    pub(crate) fn by(&self, person: Option<&str>) -> String {
        match person.map(plain) {
            Some(person) if !person.is_empty() => format!("{} ({person})", self.name),
            Some(_) | None => self.name.clone(),
        }
    }
}

/// Returns a name on one line, without the brackets that part it from the principal, and
/// without what is not seen or turns the order of what is seen.
pub(super) fn plain(text: &str) -> String {
    visible::name(text, PERSON_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_named_beside_the_principal_and_never_in_its_place() {
        let host = Principal::of_host();
        assert_eq!(host.by(None), "local");
        assert_eq!(host.by(Some("ann")), "local (ann)");
        assert_eq!(host.by(Some(" \n\u{202e}\u{200b}")), "local");
        assert_eq!(host.by(Some("x) token:ci (ann\n")), "local (x token:ci ann)");
        let until = DateTime::UNIX_EPOCH;
        assert_eq!(
            Principal::of_provider("a (b)", Role::Viewer, ("https://id", until)).name,
            "oidc:a b"
        );
    }

    #[test]
    fn a_name_holds_nothing_that_is_not_seen() {
        let until = DateTime::UNIX_EPOCH;
        for (sent, kept) in [
            ("ann", "ann"),
            ("\u{202e}nna", "nna"),
            ("a\u{200b}n\u{feff}n\u{2066}\u{2069}", "ann"),
            ("ann\u{2028}INFO forged\u{85}\u{1b}[31m", "annINFO forged[31m"),
            ("\u{e0061}ann\u{fe0f}", "ann"),
            ("Zoë 安 \u{1f980}", "Zoë 安 \u{1f980}"),
            ("\u{200d}\u{3164}", ""),
        ] {
            let of = Principal::of_provider(sent, Role::Viewer, ("https://id", until));
            assert_eq!(of.name, format!("oidc:{kept}"), "{sent:?}");
        }
    }

    #[test]
    fn what_the_ledger_keeps_of_a_proof_names_the_token_and_is_no_secret() {
        let hash = access::token_hash("sht_secret");
        let record = TokenRecord {
            name: "ann".to_owned(),
            role: Role::Approver,
            hash: hash.clone(),
            created_at: DateTime::UNIX_EPOCH,
            created_by: "local".to_owned(),
            expires_at: None,
            rate: None,
            scope: None,
            revoked: None,
        };
        let told = Principal::of_token(&record).told();
        let id = token_id(&hash);
        assert_eq!(told, access::Proof::Token { name: "ann".to_owned(), id });
        let text = serde_json::to_string(&told).unwrap();
        assert!(!text.contains("secret") && !text.contains(&hash), "{text}");
        let provider = ("https://id.example", DateTime::UNIX_EPOCH);
        let told = Principal::of_provider("ann", Role::Approver, provider).told();
        assert_eq!(told, access::Proof::Provider { issuer: "https://id.example".to_owned() });
        assert_eq!(Principal::of_host().told(), access::Proof::Host);
        assert_eq!(Principal::of_flags().told(), access::Proof::ApiToken);
    }
}
