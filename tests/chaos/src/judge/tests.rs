//! Doctored histories: each verdict was seen to fall.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::history::{Accepted, delivery};

fn at(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_700_000_000_000 + ms).unwrap()
}

/// The life of one incident on `svc`, as the ledger has it.
fn decisions() -> Vec<serde_json::Value> {
    let proof = json!({"passed": true, "samples_from": at(2000), "n_samples": 3});
    let facts = [
        json!({"kind": "opened", "target": "svc", "event": {"source": "s", "id": "1"}}),
        json!({"kind": "repeated", "deliveries": [sent("2"), sent("3")], "event": {"source": "s", "id": "2"}}),
        json!({"kind": "diagnosed", "report": {}}),
        json!({"kind": "fix_started", "attempt": 1}),
        json!({"kind": "fix_ended", "report": {}}),
        json!({"kind": "verified", "report": proof}),
        json!({"kind": "resolved"}),
    ];
    let decision = |(idx, fact): (usize, &serde_json::Value)| {
        let ms = i64::try_from(idx).unwrap() * 500;
        json!({"seq": idx + 1, "at": at(ms), "incident": "i1", "fact": fact, "reason": "so"})
    };
    facts.iter().enumerate().map(decision).collect()
}

fn line(decision: &serde_json::Value, status: &str) -> Line {
    let line = json!({"seq": decision["seq"], "incident_id": "i1", "incident_type": "t",
        "timestamp": decision["at"], "analysis": null, "resolution": null, "status": status,
        "detail": decision});
    Line::read(&line.to_string()).unwrap()
}

fn entry(what: What, ms: i64, pid: u32) -> Entry {
    Entry { what, at: at(ms), pid, fix: None }
}

/// A history in which all was kept.
fn good() -> History {
    let decisions = decisions();
    let statuses =
        ["open", "diagnosing", "proposed", "fixing", "verifying", "verifying", "resolved"];
    let lines: Vec<_> = decisions.iter().zip(statuses).map(|(it, to)| line(it, to)).collect();
    let mut record = vec![Entry { fix: Some(("i1".to_owned(), 1)), ..entry(What::Start, 1800, 7) }];
    record.extend((0..10).map(|n| entry(What::Well, 1900 + n * 100, 7)));
    let accepted = ["1", "2", "3"].map(|id| Accepted {
        id: id.to_owned(),
        delivery: sent(id),
        incident: Some("i1".to_owned()),
    });
    History {
        accepted: accepted.into(),
        facts: decisions.iter().map(|it| Fact::read(it).unwrap()).collect(),
        logs: [("a".to_owned(), lines.clone()), ("b".to_owned(), lines)].into(),
        targets: [("svc".to_owned(), record)].into(),
        soak: Duration::from_millis(500),
        ..History::default()
    }
}

/// Judges a history after it was doctored, and returns the names of the verdicts that fell.
fn fallen(doctor: impl FnOnce(&mut History)) -> Vec<&'static str> {
    let mut history = good();
    doctor(&mut history);
    let verdict = judge(&history);
    let lists = verdict.lists().into_iter();
    lists.filter(|(_, list)| !list.is_empty()).map(|(name, _)| name).collect()
}

fn svc(history: &mut History) -> &mut Vec<Entry> {
    history.targets.get_mut("svc").unwrap()
}

fn rename(history: &mut History, idx: usize, status: &str) {
    for lines in history.logs.values_mut() {
        lines[idx].status = Some(status.to_owned());
    }
}

/// Cuts ledger and logs after so many decisions.
fn cut(history: &mut History, n: usize) {
    history.facts.truncate(n);
    history.logs.values_mut().for_each(|it| it.truncate(n));
}

/// Returns the delivery of an event.
fn sent(id: &str) -> String {
    delivery(&json!({"source": "s", "id": id}))
}

#[test]
fn a_history_in_which_all_was_kept_is_good() {
    assert_eq!(judge(&good()), Verdict::default());
    assert!(judge(&good()).is_good());
}

#[test]
fn an_accepted_event_without_a_decision_is_lost() {
    let lost = Accepted { id: "4".to_owned(), delivery: sent("4"), incident: None };
    assert_eq!(fallen(|it| it.accepted.push(lost)), ["lost"]);
}

#[test]
fn an_event_that_counts_in_two_decisions_is_doubled() {
    assert_eq!(fallen(|it| it.facts[1].deliveries.push(sent("1"))), ["doubled"]);
    assert_eq!(fallen(|it| it.facts[1].deliveries.push(sent("2"))), ["doubled"]);
}

#[test]
fn an_attempt_that_was_carried_out_or_decided_twice_is_doubled() {
    let again = Entry { fix: Some(("i1".to_owned(), 1)), ..entry(What::Mend, 1850, 9) };
    assert_eq!(fallen(|it| svc(it).push(again)), ["doubled"]);
    let twice = |it: &mut History| {
        it.facts[4].kind = "fix_started".to_owned();
        it.facts[4].attempt = Some(1);
    };
    assert_eq!(fallen(twice), ["doubled"]);
}

#[test]
fn a_fix_that_is_not_in_the_ledger_is_unauthorized() {
    let more = Entry { fix: Some(("i1".to_owned(), 2)), ..entry(What::Mend, 1850, 9) };
    assert_eq!(fallen(|it| svc(it).push(more)), ["unauthorized"]);
}

#[test]
fn an_incident_that_stands_still_is_unended_and_one_with_a_person_is_not() {
    for status in ["open", "diagnosing", "proposed", "fixing", "verifying", "merged"] {
        let stands = |it: &mut History| {
            cut(it, 4);
            rename(it, 3, status);
        };
        assert_eq!(fallen(stands), ["unended"], "{status}");
    }
    for status in ["escalated", "awaiting_approval", "closed", "suppressed"] {
        let ended = |it: &mut History| {
            cut(it, 4);
            rename(it, 3, status);
        };
        assert!(fallen(ended).is_empty(), "{status}");
    }
}

#[test]
fn a_symptom_waits_with_a_person_only_if_its_cause_does() {
    for (status, wanted) in [("escalated", vec![]), ("resolved", vec!["unended"])] {
        let symptom = |it: &mut History| {
            cut(it, 4);
            rename(it, 3, "merged");
            it.facts[3] = Fact {
                kind: "became_symptom".to_owned(),
                cause: Some("i2".to_owned()),
                attempt: None,
                ..it.facts[3].clone()
            };
            it.targets.clear();
            let cause = Line {
                seq: 5,
                incident: "i2".to_owned(),
                status: Some(status.to_owned()),
                ..Line::default()
            };
            it.logs.values_mut().for_each(|lines| lines.push(cause.clone()));
            it.facts.push(Fact { seq: 5, incident: Some("i2".to_owned()), ..Fact::default() });
        };
        assert_eq!(fallen(symptom), wanted, "{status}");
    }
}

#[test]
fn a_sick_target_without_an_open_incident_is_unnoticed() {
    assert_eq!(fallen(|it| it.sick.push("svc".to_owned())), ["unnoticed"]);
    let noticed = |it: &mut History| {
        it.sick.push("svc".to_owned());
        cut(it, 4);
        rename(it, 3, "escalated");
    };
    assert!(fallen(noticed).is_empty());
}

#[test]
fn resolved_while_the_target_was_down_is_false() {
    let down = |it: &mut History| svc(it).truncate(2);
    assert_eq!(fallen(down), ["false_resolved"], "it did not answer");
    let sick = |it: &mut History| svc(it)[5].what = What::Sick;
    assert_eq!(fallen(sick), ["false_resolved"], "it said that it was sick");
    let died = |it: &mut History| svc(it).insert(5, entry(What::Start, 2350, 8));
    assert_eq!(fallen(died), ["false_resolved"], "it was started anew in between");
    let early = |it: &mut History| svc(it).iter_mut().for_each(|it| it.at -= TimeDelta::seconds(2));
    assert_eq!(fallen(early), ["false_resolved"], "the samples are from before");
    let failed = |it: &mut History| {
        it.facts[5].proof.as_mut().unwrap().passed = false;
    };
    assert_eq!(fallen(failed), ["false_resolved"], "the proof says that it was sick");
}

#[test]
fn resolved_without_a_proof_is_false() {
    let unproven = |it: &mut History| it.facts[5].kind = "fix_ended".to_owned();
    assert_eq!(fallen(unproven), ["false_resolved"]);
}

#[test]
fn gaps_duplicates_and_differences_of_a_log_are_faults() {
    let doctored: [fn(&mut Vec<Line>); 5] = [
        |it| drop(it.remove(3)),
        |it| it.insert(3, it[3].clone()),
        |it| drop(it.pop()),
        |it| it[2].hash ^= 1,
        |it| it.swap(1, 2),
    ];
    for doctor in doctored {
        let fallen = fallen(|it| doctor(it.logs.get_mut("b").unwrap()));
        assert_eq!(fallen, ["log_faults"]);
    }
}

#[test]
fn a_gap_in_the_ledger_is_a_fault() {
    let gap = |it: &mut History| {
        it.facts.remove(2);
        it.logs = BTreeMap::new();
    };
    assert_eq!(fallen(gap), ["log_faults"]);
}

#[test]
fn an_answer_that_names_another_incident_is_wrong() {
    let wrong = |it: &mut History| it.accepted[0].incident = Some("i9".to_owned());
    assert_eq!(fallen(wrong), ["wrong_answers"]);
}

#[test]
fn what_clients_could_not_get_done_counts() {
    assert_eq!(fallen(|it| it.unanswered.push("an event".to_owned())), ["unanswered"]);
}

#[test]
fn a_torn_line_cannot_be_read() {
    assert!(Line::read("{\"seq\": 1, \"inci").is_err());
    assert!(Line::read("{\"seq\": 1}").is_err());
}
