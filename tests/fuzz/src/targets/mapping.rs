//! Messages of other systems, by the ready mappings.

use std::{collections::BTreeMap, fs, path::Path, sync::LazyLock};

use domain::{
    event::{self, Event, EventType},
    mapping::{Mapper, Message, presets},
};

use super::{Form, Target, Verdict};
use crate::seeds::bytes;

pub(super) const MESSAGE: Target = Target {
    name: "mapping_message",
    about: "a message of another system, by every ready mapping: never refused, and what it means can be stored",
    form: Form::Json,
    seeds,
    run: check,
};

static MAPPERS: LazyLock<Vec<Mapper>> =
    LazyLock::new(|| presets().map(|(name, it)| Mapper::new(name, it).unwrap()).collect());

/// What the senders' documentation shows.
fn seeds() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/domain/tests/integrations");
    let files = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path());
    files.map(|path| fs::read(path).unwrap()).collect()
}

fn check(input: &[u8]) -> Verdict {
    let body = match event::json(input) {
        Ok(body) => body,
        Err(error) => return Verdict::Refused(error.message),
    };
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let headers = BTreeMap::from([header("x-github-event", "deployment")]);
    let query = BTreeMap::new();
    let at = crate::seeds::time_of(1);
    let message = Message { body: &body, headers: &headers, query: &query, at };
    for event in MAPPERS.iter().flat_map(|it| it.events(&message)) {
        let back: Event = serde_json::from_slice(&bytes(&event)).unwrap();
        assert_eq!(back, event);
        assert_eq!(event.kind.as_str().parse::<EventType>().unwrap(), event.kind);
        assert!(event.starts_at.is_none_or(|it| it <= at + chrono::TimeDelta::minutes(10)));
    }
    Verdict::Taken
}
