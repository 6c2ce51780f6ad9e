//! What the table must keep.

use super::*;

#[test]
fn each_id_names_its_own_line() {
    for spec in &STREAMS {
        assert_eq!(spec.id.spec().suffix, spec.suffix);
    }
    for spec in &BUCKETS {
        assert_eq!(spec.id.spec().suffix, spec.suffix);
    }
    for spec in &QUEUES {
        assert_eq!(queue(spec.kind).kind, spec.kind);
    }
}

#[test]
fn no_message_is_larger_than_the_broker_takes_by_default() {
    for spec in &STREAMS {
        assert!(spec.message_bytes_max <= MIB, "{}", spec.suffix);
    }
}
