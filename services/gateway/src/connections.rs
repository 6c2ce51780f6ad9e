//! Which connections are open, and which one is closed when another needs its place.
//!
//! A connection is *proven* once a request on it came from a known principal. A new connection
//! never waits: when there is no place for it, an unproven one is closed, the oldest one of the
//! network that has the most. So no number of strangers keeps a health check or an operator out.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

use crate::network::Network;

/// Of so many places one is kept for proven connections.
const RESERVED_OF: usize = 4;

/// Why a connection was closed before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A new one took its place.
    Full,
    /// A new one of the same network took its place.
    AddressLimit,
    /// Its client did not read what waited for it.
    NotReading,
    /// All others are of known callers, and busy.
    Refused,
}

impl Reason {
    const ALL: [Self; 4] = [Self::Full, Self::AddressLimit, Self::NotReading, Self::Refused];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AddressLimit => "address_limit",
            Self::NotReading => "not_reading",
            Self::Refused => "refused",
        }
    }

    /// Counts it.
    pub(crate) fn count(self) {
        self.add(1);
    }

    fn add(self, n: u64) {
        let reason = self.as_str();
        metrics::counter!("selfheal_gateway_connections_closed_total", "reason" => reason)
            .increment(n);
    }
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// All of them.
    pub(crate) total: usize,
    /// Unproven ones of one network; 0 is no limit.
    pub(crate) per_network: usize,
}

/// The open connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    last_id: u64,
    open: BTreeMap<u64, Entry>,
    unproven: HashMap<Network, BTreeSet<u64>>,
    n_unproven: usize,
}

#[derive(Debug)]
struct Entry {
    network: Network,
    state: Arc<State>,
}

/// What a connection and the table both look at.
#[derive(Debug, Default)]
struct State {
    is_proven: AtomicBool,
    n_requests: AtomicU32,
    closed: CancellationToken,
}

/// An open connection; its place is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    id: u64,
    network: Network,
    state: Arc<State>,
    all: Connections,
}

/// A request under way on a connection.
#[derive(Debug)]
pub(crate) struct Busy(Arc<State>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.n_requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Table {
    fn count_of(&self, network: Network) -> usize {
        self.unproven.get(&network).map_or(0, BTreeSet::len)
    }

    /// Takes a connection out of the unproven ones.
    fn settle(&mut self, network: Network, id: u64) {
        let Some(ids) = self.unproven.get_mut(&network) else { return };
        if ids.remove(&id) {
            self.n_unproven = self.n_unproven.saturating_sub(1);
        }
        if ids.is_empty() {
            self.unproven.remove(&network);
        }
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.open.remove(&id)?;
        self.settle(entry.network, id);
        Some(entry)
    }

    fn close(&mut self, id: u64, reason: Reason) {
        if let Some(entry) = self.remove(id) {
            reason.count();
            entry.state.closed.cancel();
        }
    }

    fn oldest_of(&self, network: Network) -> Option<u64> {
        self.unproven.get(&network)?.first().copied()
    }

    /// Returns the unproven connection that has to go first: this host's last, and else the
    /// oldest of the network that has the most.
    fn stranger(&self) -> Option<u64> {
        let weight = |(network, ids): &(&Network, &BTreeSet<u64>)| {
            (**network != Network::Loopback, ids.len(), Reverse(ids.first().copied()))
        };
        self.unproven.iter().max_by_key(weight)?.1.first().copied()
    }

    /// Returns the oldest connection on which nothing is asked at the moment.
    fn idle(&self) -> Option<u64> {
        let is_idle = |it: &Entry| it.state.n_requests.load(Ordering::Relaxed) == 0;
        self.open.iter().find(|(_, entry)| is_idle(entry)).map(|(id, _)| *id)
    }

    fn measure(&self) {
        let set = |known: &'static str, n: usize| {
            let n = u32::try_from(n).unwrap_or(u32::MAX);
            metrics::gauge!("selfheal_gateway_connections", "known" => known).set(f64::from(n));
        };
        set("false", self.n_unproven);
        set("true", self.open.len().saturating_sub(self.n_unproven));
    }
}

impl Connections {
    /// Opens for so many.
    pub(crate) fn new(limits: Limits) -> Self {
        // Shown from the start, so that a first one is seen as a growth.
        Reason::ALL.into_iter().for_each(|it| it.add(0));
        Table::default().measure();
        Self(Arc::new(Inner { limits, table: Mutex::default() }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a new connection a place, another's if need be; none when all are proven and busy.
    pub(crate) fn open(&self, peer: IpAddr) -> Option<Connection> {
        let (limits, network) = (self.0.limits, Network::of(peer));
        let mut table = self.table();
        let is_limited = network != Network::Loopback && limits.per_network != 0;
        if is_limited
            && limits.per_network <= table.count_of(network)
            && let Some(oldest) = table.oldest_of(network)
        {
            table.close(oldest, Reason::AddressLimit);
        }
        let unproven_max = limits.total - limits.total / RESERVED_OF;
        if unproven_max <= table.n_unproven || limits.total <= table.open.len() {
            let Some(victim) = table.stranger().or_else(|| table.idle()) else {
                Reason::Refused.count();
                return None;
            };
            table.close(victim, Reason::Full);
        }
        table.last_id += 1;
        let (id, state) = (table.last_id, Arc::new(State::default()));
        table.open.insert(id, Entry { network, state: Arc::clone(&state) });
        table.unproven.entry(network).or_default().insert(id);
        table.n_unproven += 1;
        table.measure();
        drop(table);
        Some(Connection { id, network, state, all: self.clone() })
    }

    /// Closes one connection of a stranger, as when the process has no descriptor left.
    pub(crate) fn make_room(&self) {
        let mut table = self.table();
        if let Some(victim) = table.stranger().or_else(|| table.idle()) {
            table.close(victim, Reason::Full);
        }
    }
}

impl Connection {
    /// Marks it as that of a known principal.
    pub(crate) fn prove(&self) {
        if self.state.is_proven.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut table = self.all.table();
        table.settle(self.network, self.id);
        table.measure();
    }

    /// Marks that a request is under way, until what is returned is dropped.
    pub(crate) fn busy(&self) -> Busy {
        self.state.n_requests.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(&self.state))
    }

    /// Waits until another connection has taken its place.
    pub(crate) async fn closed(&self) {
        self.state.closed.cancelled().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut table = self.all.table();
        table.remove(self.id);
        table.measure();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_open(it: &Connection) -> bool {
        !it.state.closed.is_cancelled()
    }

    fn open(all: &Connections, peer: &str) -> Connection {
        all.open(peer.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_full_house_of_strangers_keeps_nobody_out() {
        let all = Connections::new(Limits { total: 8, per_network: 0 });
        let known = open(&all, "192.0.2.7");
        known.prove();
        let local = open(&all, "127.0.0.1");
        let one = open(&all, "192.0.2.8");
        let many: Vec<_> = (0..20).map(|_| open(&all, "192.0.2.9")).collect();
        assert!(is_open(&known) && is_open(&local) && is_open(&one), "they have not the most");
        assert_eq!(many.iter().filter(|it| is_open(it)).count(), 4, "a quarter is reserved");
        assert!(is_open(many.last().unwrap()) && !is_open(&many[0]), "the oldest goes first");
        assert_eq!(all.table().open.len(), 7);
    }

    #[test]
    fn a_network_has_its_limit_and_this_host_has_none() {
        let all = Connections::new(Limits { total: 100, per_network: 2 });
        for (peers, n_open) in [
            (["192.0.2.1", "192.0.2.1", "192.0.2.1"], 2),
            (["2001:db8::1", "2001:db8::2", "2001:db8::3"], 2),
            (["192.0.2.1", "192.0.2.2", "192.0.2.3"], 3),
            (["127.0.0.1", "127.0.0.1", "::1"], 3),
        ] {
            let opened = peers.map(|it| open(&all, it));
            assert_eq!(opened.iter().filter(|it| is_open(it)).count(), n_open, "{peers:?}");
        }
        assert_eq!(all.table().open.len(), 0, "places are given back");
        let proven = [(); 5].map(|()| {
            let it = open(&all, "192.0.2.1");
            it.prove();
            it
        });
        assert!(proven.iter().all(is_open), "the limit is for those who have proven nothing");
        assert_eq!(all.table().n_unproven, 0);
    }

    #[test]
    fn among_known_callers_an_idle_connection_makes_room_and_a_busy_one_stays() {
        let all = Connections::new(Limits { total: 2, per_network: 0 });
        let (first, second) = (open(&all, "192.0.2.1"), open(&all, "192.0.2.2"));
        first.prove();
        second.prove();
        let working = first.busy();
        let third = open(&all, "192.0.2.3");
        assert!(is_open(&first) && !is_open(&second));
        third.prove();
        let _working_too = third.busy();
        assert!(all.open("192.0.2.4".parse().unwrap()).is_none());
        drop(working);
        assert!(all.open("192.0.2.4".parse().unwrap()).is_some());
        assert!(!is_open(&first));
    }
}
