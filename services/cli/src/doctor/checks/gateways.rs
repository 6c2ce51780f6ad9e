//! Can the gateways be reached?

use super::super::{
    checks::Check,
    facts::{Facts, Gateway},
    finding::{Finding, Looked, NotSeen, Severity},
};

pub(super) const CHECK: Check =
    Check { name: "gateways", asks: "can the gateways be reached?", look };

fn look(facts: &Facts) -> Looked {
    if facts.gateways.is_empty() {
        return Err(NotSeen(
            "none is known on this machine; name one with --gateway http://host:8080".to_owned(),
        ));
    }
    Ok(facts.gateways.iter().filter_map(finding).collect())
}

fn finding(gateway: &Gateway) -> Option<Finding> {
    let url = &gateway.url;
    let (what, mend) = match &gateway.answer {
        Ok(200..300) => return None,
        Ok(503) => (
            format!("{url} answers 503"),
            "it is there and not ready: it has no broker, starts, or stops; the body of that answer says which".to_owned(),
        ),
        Ok(status) => (
            format!("{url} answers {status}"),
            "is that our gateway? See who listens on the port".to_owned(),
        ),
        Err(why) if gateway.is_named => (
            format!("{url} cannot be reached: {why}"),
            "see whether it runs and where it listens (--listen; loopback unless a token is set), and the firewall between".to_owned(),
        ),
        Err(why) => {
            return Some(Finding::new(
                Severity::Note,
                format!("a gateway lives on this machine, but {url} cannot be reached: {why}"),
                "it may listen elsewhere",
                "name its address with --gateway http://host:port",
            ));
        }
    };
    let why = "senders cannot deliver events there; they try again for a while, then drop them";
    Some(Finding::new(Severity::Error, what, why, mend))
}

#[cfg(test)]
mod tests {
    use super::{super::super::facts::well, *};

    #[test]
    fn a_named_gateway_must_be_ready_and_a_guessed_one_may_be_elsewhere() {
        let mut facts = well::facts();
        for (is_named, answer, expected) in [
            (true, Ok(503), Severity::Error),
            (true, Err("refused".to_owned()), Severity::Error),
            (false, Err("refused".to_owned()), Severity::Note),
        ] {
            facts.gateways[0] = Gateway { url: "http://a/readyz".to_owned(), is_named, answer };
            assert_eq!(look(&facts).unwrap()[0].severity, expected);
        }
    }
}
