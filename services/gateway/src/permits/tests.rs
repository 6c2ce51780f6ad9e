//! What each class may take, and that it comes back.

use std::net::Ipv4Addr;

use super::*;

fn limit(requests: usize, body_bytes: usize) -> Limit {
    Limit { name: "test", requests, body_bytes }
}

fn small(is_shared: bool) -> Permits {
    Permits::with([limit(2, 10), limit(2, 10), limit(2, 10), STRANGERS], is_shared)
}

fn at(last: u8) -> Network {
    Network::of(Ipv4Addr::new(192, 0, 2, last).into())
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Problem>) -> (u16, &'static str) {
    let problem = result.unwrap_err();
    (problem.status().as_u16(), problem.code())
}

const OVERLOADED: (u16, &str) = (503, "overloaded");

#[test]
fn each_class_has_its_own_requests_and_they_come_back() {
    let permits = small(true);
    let held: Vec<_> = (0..2).map(|_| permits.take(Class::Event).unwrap()).collect();
    assert_eq!(refusal(permits.take(Class::Event)), OVERLOADED);
    for other in [Class::Read, Class::Command, Class::Unproven(at(1)), Class::Stranger(at(1))] {
        assert!(permits.take(other).is_ok(), "{other:?}");
    }
    drop(held);
    assert!(permits.take(Class::Event).is_ok());
}

#[test]
fn bytes_count_as_they_come_and_what_was_refused_costs_the_others_nothing() {
    let permits = small(true);
    let (first, second) =
        (permits.take(Class::Event).unwrap(), permits.take(Class::Event).unwrap());
    for _ in 0..6 {
        first.grow(1).unwrap();
    }
    second.grow(4).unwrap();
    assert_eq!(refusal(second.grow(1)), OVERLOADED);
    let command = permits.take(Class::Command).unwrap();
    assert!(command.grow(10).is_ok(), "events take nothing from commands");
    drop(second);
    assert!(first.grow(4).is_ok(), "six and four");
    first.forget_body();
    assert!(permits.take(Class::Event).unwrap().grow(10).is_ok());
}

#[test]
fn strangers_have_small_bodies_and_those_who_may_prove_themselves_share_a_budget() {
    let permits = small(true);
    let stranger = permits.take(Class::Stranger(at(1))).unwrap();
    assert_eq!(stranger.body_bytes_max(), STRANGER_BODY_BYTES_MAX);
    stranger.grow(STRANGER_BODY_BYTES_MAX).unwrap();

    let of = |last: u8| permits.take(Class::Unproven(at(last))).unwrap();
    let whole = STRANGER_BODY_BYTES_MAX + OF_NETWORK.body_bytes;
    let (one, same, other, late) = (of(1), of(1), of(2), of(3));
    one.grow(whole).unwrap();
    same.grow(STRANGER_BODY_BYTES_MAX).unwrap();
    assert_eq!(refusal(same.grow(1)), OVERLOADED, "the share of the network");
    other.grow(whole).unwrap();
    late.grow(STRANGER_BODY_BYTES_MAX).unwrap();
    assert_eq!(refusal(late.grow(1)), OVERLOADED, "all of it");
    assert!(permits.take(Class::Event).unwrap().grow(10).is_ok(), "nothing of the others'");
    drop((one, same));
    assert!(of(1).grow(whole).is_ok());
}

#[test]
fn strangers_of_one_network_have_a_part_of_the_requests_and_this_host_has_all() {
    for (class, is_shared, n_taken) in [
        (Class::Unproven(at(1)), true, OF_NETWORK.requests),
        (Class::Stranger(at(1)), true, OF_NETWORK.requests),
        (Class::Stranger(at(1)), false, STRANGERS.requests),
        (Class::Stranger(Network::Loopback), true, STRANGERS.requests),
    ] {
        let permits = small(is_shared);
        let held: Vec<_> = std::iter::from_fn(|| permits.take(class).ok()).take(1000).collect();
        assert_eq!(held.len(), n_taken, "{class:?} {is_shared}");
        let other = permits.take(Class::Stranger(at(9))).is_ok();
        assert_eq!(other, n_taken < STRANGERS.requests, "{class:?} {is_shared}");
        drop(held);
        assert!(permits.0.shares.lock().unwrap().is_empty(), "places are given back");
    }
}

#[test]
fn a_body_has_a_grace_and_then_a_least_speed() {
    for (pace, n_bytes, seconds) in [
        (PACE_OF_STRANGERS, 0, 5),
        (PACE_OF_STRANGERS, 64 * 1024, 9),
        (PACE_OF_KNOWN, 0, 10),
        (PACE_OF_KNOWN, 10 * 1024, 20),
    ] {
        assert_eq!(pace.allowed(n_bytes).as_secs(), seconds, "{pace:?} {n_bytes}");
    }
    assert!(PACE_OF_KNOWN.allowed(usize::MAX) > Duration::from_secs(3600));
}
