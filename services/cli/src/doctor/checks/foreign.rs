//! Has somebody else written into the ledger?

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, Severity},
};

pub(super) const CHECK: Check =
    Check { name: "foreign", asks: "is the ledger written by supervisors only?", look };

const MEND: &str = "find out which user of the broker did it: give each the permissions of `deploy/nats.conf`, outside publishers an account of their own, and change the passwords. A message cannot be taken out of the ledger: it decides nothing, and it leaves with the next snapshots, behind which the ledger is forgotten. When the ledger is full of them, end all supervisors, delete its stream with `nats stream rm`, and write it anew from the log with `selfheal restore`";

fn look(facts: &Facts) -> Looked {
    let view = facts.view()?;
    let Some(found) = &view.ledger_foreign else { return Ok(Vec::new()) };
    let messages = if found.n == 1 { "message" } else { "messages" };
    let what = format!(
        "{} {messages} of the ledger, the newest number {} of {} under the subject {}, were written by no supervisor",
        found.n,
        found.seq,
        found.at.to_rfc3339(),
        found.subject
    );
    let why = "they are passed over and decide nothing, but somebody can make the broker write where only supervisors may, and they take room";
    Ok(vec![Finding::new(Severity::Warning, what, why, MEND)])
}

#[cfg(test)]
mod tests {
    use domain::view::ForeignInLedger;

    use super::{super::super::facts::well, *};

    #[test]
    fn what_no_supervisor_has_written_is_named() {
        let mut facts = well::facts();
        assert_eq!(look(&facts), Ok(Vec::new()));
        let subject = "$KV.selfheal_members.member.e9".to_owned();
        let found = ForeignInLedger { n: 3, seq: 42, at: well::now(), subject };
        facts.view_mut().ledger_foreign = Some(found);
        let what = &look(&facts).unwrap()[0].what;
        assert!(what.starts_with("3 messages") && what.contains("number 42"), "{what}");
        assert!(what.contains("member.e9"), "{what}");
    }
}
