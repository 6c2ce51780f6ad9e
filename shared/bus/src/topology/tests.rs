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
fn each_kind_of_work_has_a_queue_and_no_zone_may_fill_it_alone() {
    for kind in WorkKind::ALL {
        let spec = StreamId::Work(kind).spec();
        assert_eq!(spec.id, StreamId::Work(kind));
        assert_eq!(spec.subjects, [format!("work.{}.*", kind.as_str())]);
        assert!(spec.of_subject_max.is_some());
        assert!(2 * REPUBLISH <= spec.duplicate_window);
    }
}

#[test]
fn no_message_is_larger_than_the_broker_takes_by_default() {
    for spec in &STREAMS {
        assert!(spec.message_bytes_max <= MIB, "{}", spec.suffix);
    }
}
