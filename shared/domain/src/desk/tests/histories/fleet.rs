//! Random fleets and policies.

use proptest::{collection::vec, prelude::*};

use crate::{
    desk::tests::world::{World, config, secs, t0, target},
    notify::Notify,
    policy::{Autonomy, Breaker, Cooldown, Freeze, Limit, Policy},
    span::{Rate, Rates, Span},
};

/// What a fleet and its policy are like.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// For each target, which of those before it are needed.
    needs: Vec<u8>,
    autonomy: Vec<Option<Autonomy>>,
    percent: u8,
    count: u32,
    per_target: u32,
    per_runbook: u32,
    fleet: u32,
    cooldown_s: (u64, u64, u64),
    attempts: u32,
    failures: u32,
    storm: u8,
    freeze_s: Option<(i64, i64)>,
}

fn rates(count: u32, s: u64) -> Rates {
    Rates(vec![Rate { count, per: Span::from_secs(s) }])
}

impl Setup {
    pub(super) fn world(&self) -> World {
        let name = |idx: usize| format!("t{idx}");
        let targets = self.needs.iter().enumerate().map(|(idx, needs)| {
            let needed = (0..idx).filter(|bit| (needs >> bit) & 1 == 1).map(name);
            let mut one = target(&name(idx), &[]);
            one.depends_on = needed.collect();
            one.autonomy = self.autonomy[idx];
            one
        });
        let mut policy = Policy {
            attempts: self.attempts,
            backoff: Span::from_secs(2),
            hold_timeout: Span::from_secs(180),
            storm: Limit { percent: self.storm, count: 5 },
            breaker: Breaker { failures: self.failures, ..Breaker::default() },
            ..Policy::default()
        };
        policy.budget.per_target = rates(self.per_target, 300);
        policy.budget.per_runbook = rates(self.per_runbook, 120);
        policy.budget.fleet = rates(self.fleet, 60);
        policy.budget.blast_radius = Limit { percent: self.percent, count: self.count };
        let (per_target, per_runbook, fleet) = self.cooldown_s;
        policy.cooldown = Cooldown {
            per_target: Span::from_secs(per_target),
            per_runbook: Span::from_secs(per_runbook),
            fleet: Span::from_secs(fleet),
        };
        let freeze = self.freeze_s.map(|(from, length)| Freeze {
            from: t0() + secs(from),
            until: t0() + secs(from + length),
            reason: "the end of the quarter".to_owned(),
        });
        policy.freeze.extend(freeze);
        let mut config = config(targets.collect(), policy);
        config.notify = people();
        World::new(config)
    }
}

/// Everything that can make a notice wait, and an escalation.
fn people() -> Notify {
    let text = r#"{
        "receivers": [
            {"name": "chat", "log": true, "rate": "3/m", "quiet": {"from": "00:01", "until": "00:05"}},
            {"name": "pager", "log": true, "rate": "2/10s, 5/m"}
        ],
        "escalations": [{"name": "night", "steps": [
            {"tell": ["chat"]}, {"after": "20s", "tell": ["pager"]}, {"after": "1m", "tell": ["chat", "pager"]}
        ]}],
        "routes": [{"escalation": "night"}]
    }"#;
    serde_json::from_str(text).unwrap()
}

pub(super) fn setup() -> impl Strategy<Value = Setup> {
    let autonomy = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Autonomy::Approve)),
        1 => Just(Some(Autonomy::Suggest)),
    ];
    let cooldown = || prop_oneof![2 => Just(0_u64), 1 => 1_u64..30];
    let fleet = (vec(any::<u8>(), 3..=6), vec(autonomy, 6), 10_u8..=100, 1_u32..4);
    let rates = (1_u32..5, 2_u32..7, 2_u32..9, 1_u32..4);
    let freeze = prop_oneof![3 => Just(None), 1 => (0_i64..60, 1_i64..60).prop_map(Some)];
    let cooldown_s = (cooldown(), cooldown(), cooldown());
    (fleet, rates, cooldown_s, 1_u32..5, 40_u8..=100, freeze).prop_map(
        |((needs, autonomy, percent, count), rates, cooldown_s, failures, storm, freeze_s)| Setup {
            needs,
            autonomy,
            percent,
            count,
            per_target: rates.0,
            per_runbook: rates.1,
            fleet: rates.2,
            attempts: rates.3,
            cooldown_s,
            failures,
            storm,
            freeze_s,
        },
    )
}
