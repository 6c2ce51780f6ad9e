use super::*;
use crate::config::parse;

const NOW: &str = "2026-03-01T00:00:00Z";

const WHOLE: &str = r#"
targets:
  - {name: a, checks: [{tcp: "127.0.0.1:1"}]}
  - {name: b, autonomy: approve, soak: 10s, checks: [{tcp: "127.0.0.1:2"}]}
  - {name: c, process: {command: [sleep, "100"], stop_timeout: 20s}}
  - {name: d, labels: {tier: web}, depends_on: [a], docker: {container: d}, checks: [{tcp: "127.0.0.1:3"}, {http: "http://127.0.0.1/", every: 5s}]}
policy:
  autonomy: approve
  runbooks:
    restart-process: {autonomy: suggest, budget: 2/h}
  budget: {per_target: "2/h, 5/d", fleet: 10/h, blast_radius: {percent: 10, count: 2}}
  attempts: 2
  backoff: 5s
  cooldown: {per_target: 10s}
  soak: 5s
  freeze:
    - {from: 2026-02-01T00:00:00Z, until: 2026-02-02T00:00:00Z, reason: over}
    - {from: 2026-02-20T00:00:00Z, until: 2026-04-01T00:00:00Z, reason: quarter end}
  breaker: {failures: 3, within: 10m, reset_after: 20m}
  storm: {percent: 30, count: 5}
  notify: [{log: true}]
maintenance:
  - {name: nightly, match: ["target=a"], cron: "0 2 * * *", lasts: 2h}
  - {name: past, match: ["target=b"], from: 2026-01-01T00:00:00Z, until: 2026-01-02T00:00:00Z}
inhibit: [{when: ["type=x"], mute: ["type=y"]}]
flapping: {opens: 5, within: 10m, quiet: 30m}
watchdog: {url: "https://example.org/x"}
runbooks:
  - {name: mine, title: Mine, risk: high, when: {causes: [process_exited]}, steps: [{action: process.restart}]}
"#;

fn config(text: &str) -> Config {
    parse(text).unwrap_or_else(|mistakes| panic!("{mistakes:?}\n{text}"))
}

fn edited(from: &str, to: &str) -> String {
    assert!(WHOLE.contains(from), "{from}");
    WHOLE.replacen(from, to, 1)
}

fn asked(text: &str) -> Vec<String> {
    config(WHOLE).to_confirm(&config(text), NOW.parse().unwrap())
}

/// What ends a text, from the line that begins with this on.
fn without_line(begin: &str) -> String {
    let kept: Vec<_> = WHOLE.lines().filter(|it| !it.trim_start().starts_with(begin)).collect();
    assert_ne!(kept.len(), WHOLE.lines().count(), "{begin}");
    format!("{}\n", kept.join("\n"))
}

#[test]
fn an_ordinary_edit_is_not_asked() {
    for (from, to) in [
        ("policy:\n", "  - {name: e, checks: [{tcp: \"127.0.0.1:9\"}]}\npolicy:\n"),
        ("tcp: \"127.0.0.1:1\"", "tcp: \"127.0.0.1:11\""),
        ("every: 5s", "every: 9s"),
        ("name: c,", "name: c2,"),
        ("container: d}", "container: web}"),
        ("autonomy: approve\n", "autonomy: suggest\n"),
        ("autonomy: suggest,", "autonomy: observe,"),
        ("budget: 2/h}", "budget: 1/h}"),
        ("2/h, 5/d", "1/h, 3/d"),
        ("percent: 10, count: 2", "percent: 5, count: 1"),
        ("attempts: 2", "attempts: 1"),
        ("backoff: 5s", "backoff: 10s"),
        ("  soak: 5s", "  soak: 7s"),
        ("failures: 3", "failures: 2"),
        ("until: 2026-04-01T00:00:00Z", "until: 2026-05-01T00:00:00Z"),
        ("lasts: 2h", "lasts: 3h"),
        ("opens: 5", "opens: 4"),
        ("https://example.org/x", "https://example.org/y"),
        ("title: Mine", "title: My own"),
    ] {
        assert_eq!(asked(&edited(from, to)), [""; 0], "{from} -> {to}");
    }
    assert_eq!(asked(&without_line("- {name: past")), [""; 0], "what is over can go");
    assert_eq!(asked(&without_line("- {from: 2026-02-01")), [""; 0], "what is over can go");
    assert_eq!(asked(&without_line("- {name: b")), [""; 0], "one target of four");
}

#[test]
fn what_loosens_the_policy_is_asked() {
    for (from, to, about) in [
        ("autonomy: approve\n", "autonomy: auto\n", "policy.autonomy: approve -> auto"),
        ("autonomy: suggest,", "autonomy: auto,", "`restart-process`: suggest -> auto"),
        ("{autonomy: suggest, ", "{", "`restart-process`: suggest -> approve"),
        ("risk: high", "risk: low", "runbook `mine`: suggest -> approve"),
        ("name: b, autonomy: approve", "name: b", "target `b`: autonomy: approve -> none"),
        ("soak: 10s, ", "", "target `b`: soak: 10s -> 5s"),
        ("budget: 2/h}", "budget: 3/h}", "policy.runbooks.restart-process.budget: 2/h -> 3/h"),
        (", budget: 2/h}", "}", "policy.runbooks.restart-process.budget: 2/h -> none"),
        ("2/h, 5/d", "2/h", "policy.budget.per_target: 2/h, 5/d -> 2/h"),
        ("fleet: 10/h", "fleet: 11/h", "policy.budget.fleet"),
        ("fleet: 10/h", "fleet: 10/m", "policy.budget.fleet"),
        ("percent: 10", "percent: 11", "policy.budget.blast_radius.percent: 10 -> 11"),
        ("count: 2}", "count: 3}", "policy.budget.blast_radius.count: 2 -> 3"),
        ("attempts: 2", "attempts: 9", "policy.attempts: 2 -> 9"),
        ("backoff: 5s", "backoff: 1s", "policy.backoff: 5s -> 1s"),
        ("per_target: 10s", "per_target: 1s", "policy.cooldown.per_target: 10s -> 1s"),
        ("  soak: 5s", "  soak: 1s", "policy.soak: 5s -> 1s"),
        ("  soak: 5s", "  soak: 5s\n  event_max_age: 1d", "policy.event_max_age: 15m -> 1d"),
        ("  soak: 5s", "  soak: 5s\n  plan_max_age: 1h", "policy.plan_max_age: 1m -> 1h"),
        ("  soak: 5s", "  soak: 5s\n  approval_timeout: 1d", "policy.approval_timeout"),
        ("  soak: 5s", "  soak: 5s\n  retry: {for: 1d}", "policy.retry.for: 5m -> 1d"),
        ("reason: quarter end", "reason: quarter end ", ""),
        ("until: 2026-04-01", "until: 2026-03-31", "policy.freeze"),
        ("from: 2026-02-20", "from: 2026-03-20", "policy.freeze"),
        ("failures: 3", "failures: 4", "policy.breaker.failures: 3 -> 4"),
        ("within: 10m, reset_after", "within: 1m, reset_after", "policy.breaker.within"),
        ("reset_after: 20m", "reset_after: 1m", "policy.breaker.reset_after: 20m -> 1m"),
        ("percent: 30", "percent: 31", "policy.storm.percent"),
        ("count: 5}", "count: 6}", "policy.storm.count"),
        ("  notify: [{log: true}]\n", "", "`policy.notify` is removed"),
        ("name: nightly, match: [\"target=a\"]", "name: nightly, match: [\"target=b\"]", "nightly"),
        ("lasts: 2h", "lasts: 1h", "maintenance: `nightly`"),
        ("type=y", "type=z", "inhibit: 1 of 1 rules"),
        ("opens: 5", "opens: 6", "flapping.opens: 5 -> 6"),
        ("quiet: 30m", "quiet: 3m", "flapping.quiet: 30m -> 3m"),
    ] {
        let asked = asked(&edited(from, to));
        if about.is_empty() {
            assert_eq!(asked, [""; 0], "{from} -> {to}");
        } else {
            assert_eq!(asked.len(), 1, "{from} -> {to}: {asked:?}");
            assert!(asked[0].contains(about), "{from} -> {to}: {asked:?}");
        }
    }
    for (line, about) in [
        ("- {from: 2026-02-20", "quarter end"),
        ("- {name: nightly", "`nightly`"),
        ("inhibit:", "inhibit"),
        ("flapping:", "`flapping` is removed"),
        ("watchdog:", "`watchdog` is removed"),
    ] {
        let asked = asked(&without_line(line));
        assert!(asked.len() == 1 && asked[0].contains(about), "{line}: {asked:?}");
    }
}

#[test]
fn the_removal_of_all_or_most_targets_or_of_a_section_is_asked() {
    assert_eq!(asked("")[0], "all 4 targets are removed");
    assert!(asked("").iter().any(|it| it == "the section `policy` is removed"));
    let mut most = config(WHOLE);
    most.targets.retain(|it| it.name == "a");
    let of = |new: &Config| config(WHOLE).to_confirm(new, NOW.parse().unwrap());
    assert_eq!(of(&most), ["3 of 4 targets are removed"]);
    let mut half = config(WHOLE);
    half.targets.retain(|it| it.name == "a" || it.name == "d");
    half.targets[1].depends_on.clear();
    assert_eq!(of(&half), ["target `d` has less than before, as in a text that was cut"]);
    let (before, _) = WHOLE.split_once("policy:").unwrap();
    assert!(asked(before).iter().any(|it| it == "the section `policy` is removed"));
    let many: Vec<_> = (0..NAMED_MAX + 5)
        .map(|it| format!("{{name: t{it}, soak: 9s, checks: [{{tcp: \"a:1\"}}]}}"))
        .collect();
    let many = config(&format!("targets: [{}]\n", many.join(",")));
    let mut less = many.clone();
    less.targets.iter_mut().for_each(|it| it.soak = None);
    let told = many.to_confirm(&less, NOW.parse().unwrap());
    assert_eq!((told.len(), told.last().unwrap().as_str()), (NAMED_MAX + 1, "and 6 more"));
}

/// However much of a text is there: it is no configuration, or it is the whole one, or a person
/// is asked.
#[test]
fn a_text_that_was_cut_anywhere_comes_into_force_by_itself_at_no_place() {
    let block = r"targets:
  - name: a
    checks:
      - tcp: 127.0.0.1:1
  - name: b
    zone: west
    labels:
      tier: web
      team: blue
    depends_on:
      - a
    process:
      command:
        - sleep
        - '1000'
      env:
        LEVEL: debug
      stop_timeout: 20s
    checks:
      - http: http://127.0.0.1:8080/healthy
        status:
          - 200
          - 204
        every: 30s
        timeout: 10s
        fail_after: 30
        event: web_down
";
    for text in [WHOLE, block] {
        let whole = config(text);
        let mut n_asked = 0;
        for end in 0..text.len() {
            let Some(cut) = text.get(..end) else { continue };
            let Ok(cut) = parse(cut) else { continue };
            if cut == whole {
                continue;
            }
            let asked = whole.to_confirm(&cut, NOW.parse().unwrap());
            assert!(!asked.is_empty(), "taken though it is cut after {:?}", &text[..end]);
            n_asked += 1;
        }
        assert!(10 < n_asked, "hardly any cut text was valid: {n_asked}");
    }
}
