//! A system in which everything is well, for the tests of the checks.

use bus::{
    StreamState,
    inspect::Sign,
    topology::{BUCKETS, STREAMS},
};
use domain::wire::{Member, Pulse, WorkKind};

use super::*;

/// The moment of all facts.
pub(crate) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// A member of one zone with the right clock.
pub(crate) fn sign(kind: &str, zone: &str) -> Sign {
    Sign {
        member: Member {
            id: format!("{kind}-1"),
            kind: kind.to_owned(),
            zones: vec![zone.to_owned()],
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: "here".to_owned(),
            pid: 7,
            started_at: now(),
            pulse: Some(Pulse { clock: now(), violation: None }),
        },
        at: now(),
    }
}

fn stream() -> StreamLook {
    StreamLook {
        at: Some(now()),
        state: StreamState {
            first_seq: 1,
            last_seq: 5,
            messages: 5,
            bytes: 500,
            bytes_max: Some(100_000),
        },
        last_at: Some(now()),
        subjects: std::collections::BTreeMap::new(),
        n_copies: 1,
        missing_copies: Vec::new(),
        differences: Vec::new(),
    }
}

fn queue(kind: WorkKind) -> QueueLook {
    QueueLook {
        name: format!("{}-default", kind.as_str()),
        work: Some((kind, "default".to_owned())),
        n_waiting: 0,
        n_under_way: 0,
        n_again: 0,
        n_asking: 1,
        given_at: Some(now()),
        done_at: Some(now()),
    }
}

/// Everything is well.
pub(crate) fn facts() -> Facts {
    let config = domain::config::parse("targets: [{name: web, process: {command: [sleep, '9']}}]");
    let config = config.unwrap();
    let kinds = ["supervisor", "monitor", "analyzer", "fixer", "gateway"];
    let mut standby = sign("supervisor", "default");
    standby.member.id = "supervisor-2".to_owned();
    let mut signs = kinds.map(|kind| sign(kind, "default")).to_vec();
    signs.push(standby);
    let view = SystemView {
        answered_by: "supervisor-1".to_owned(),
        leader: Some("supervisor-1".to_owned()),
        n_targets: 1,
        config_hash: config.hash().chars().take(12).collect(),
        ..SystemView::default()
    };
    let streams = STREAMS.iter().map(|it| (Which::Stream(it.id), it.suffix));
    let buckets = BUCKETS.iter().map(|it| (Which::Bucket(it.id), it.suffix));
    let streams = streams.chain(buckets).map(|(which, name)| {
        let mut stream = stream();
        if which == Which::Stream(StreamId::Rejected) {
            stream.state.messages = 0;
        }
        (which, name.to_owned(), Ok(stream))
    });
    let server = ServerLook {
        name: "broker".to_owned(),
        version: "2.15.1".to_owned(),
        cluster: None,
        payload_bytes_max: 1 << 20,
    };
    Facts {
        now: now(),
        broker: Reach::There(server),
        broker_ahead: Ok(TimeDelta::milliseconds(3)),
        user: Ok(UserLook { user: None, publish: None, subscribe: None, at: Some(now()) }),
        role: (Role::Cli, Permissions::default()),
        account: Ok(AccountLook::default()),
        streams: streams.collect(),
        queues: Ok(WorkKind::ALL.map(queue).to_vec()),
        living: Ok(Living {
            leader_node: Some("node".to_owned()),
            signs: signs.clone(),
            n_unreadable: 0,
        }),
        answering: Ok(signs.into_iter().map(|it| it.member.id).collect()),
        views: Ok(vec![view]),
        leaders: Ok(BTreeSet::from(["supervisor-1".to_owned()])),
        config: Ok(config),
        tokens: Ok(Tokens::new()),
        open: Ok(Page::default()),
        gateways: vec![Gateway {
            url: "http://127.0.0.1:8080/readyz".to_owned(),
            is_named: true,
            answer: Ok(200),
        }],
        security: None,
        local: Local {
            data: Some(DataDir {
                path: "data".into(),
                room: Some((50 << 30, 100 << 30)),
                sync_interval: Some("always".to_owned()),
                is_writable: true,
            }),
            config: None,
        },
    }
}

impl Facts {
    /// Returns the stream to change it.
    pub(crate) fn stream_mut(&mut self, which: Which) -> &mut StreamLook {
        let found = self.streams.iter_mut().find(|(it, _, _)| *it == which);
        found.unwrap().2.as_mut().unwrap()
    }

    /// Returns the signs of life to change them.
    pub(crate) fn signs_mut(&mut self) -> &mut Vec<Sign> {
        &mut self.living.as_mut().unwrap().signs
    }

    /// Returns the leader's view to change it.
    pub(crate) fn view_mut(&mut self) -> &mut SystemView {
        &mut self.views.as_mut().unwrap()[0]
    }
}
