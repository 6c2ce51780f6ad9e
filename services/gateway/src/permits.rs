//! Limits of what is under way at one time: requests, and the bytes of their bodies.
//!
//! Each class of callers has limits of its own, so that none takes what another needs: strangers
//! cannot keep events out, and events cannot keep `pause` or an approval out. Bytes are counted
//! as they arrive; what a head announces costs nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{network::Network, problem::Problem};

/// Longest body of a caller who has proven nothing, and cannot by what the body says.
pub(crate) const STRANGER_BODY_BYTES_MAX: usize = 64 * 1024;

const MIB: usize = 1024 * 1024;

/// What callers of one class may have under way at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    name: &'static str,
    requests: usize,
    body_bytes: usize,
}

const EVENTS: Limit = Limit { name: "event", requests: 1024, body_bytes: 32 * MIB };
const READS: Limit = Limit { name: "read", requests: 512, body_bytes: MIB };
const COMMANDS: Limit = Limit { name: "command", requests: 128, body_bytes: 4 * MIB };

/// Each of these requests may have a body of [`STRANGER_BODY_BYTES_MAX`]; the bytes here are what
/// longer ones share.
const STRANGERS: Limit = Limit { name: "stranger", requests: 256, body_bytes: 16 * MIB };

/// What strangers of one network may have of that.
const OF_NETWORK: Limit = Limit { name: "stranger", requests: 32, body_bytes: 8 * MIB };

/// For whom a request counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A known principal who sends events.
    Event,
    /// A known principal who reads.
    Read,
    /// A known principal who changes something: pause, approvals, silences.
    Command,
    /// Somebody whom only a signature or a key in the body can prove.
    Unproven(Network),
    /// Somebody who has proven nothing.
    Stranger(Network),
}

/// How slowly a body may arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    grace: Duration,
    bytes_per_second: u32,
}

impl Pace {
    /// Returns how long after its begin more than so many bytes must have come.
    pub(crate) fn allowed(self, n_bytes: usize) -> Duration {
        let n_bytes = u32::try_from(n_bytes).unwrap_or(u32::MAX);
        self.grace + Duration::from_secs(1).saturating_mul(n_bytes) / self.bytes_per_second
    }
}

const PACE_OF_KNOWN: Pace = Pace { grace: Duration::from_secs(10), bytes_per_second: 1024 };
const PACE_OF_STRANGERS: Pace = Pace { grace: Duration::from_secs(5), bytes_per_second: 16 * 1024 };

#[derive(Clone, Debug)]
struct Pool {
    limit: Limit,
    requests: Arc<Semaphore>,
    body_bytes: Arc<Semaphore>,
}

impl Pool {
    fn new(limit: Limit) -> Self {
        Self {
            limit,
            requests: Arc::new(Semaphore::new(limit.requests)),
            body_bytes: Arc::new(Semaphore::new(limit.body_bytes)),
        }
    }
}

/// What strangers of one network have under way.
#[derive(Debug, Default)]
struct Share {
    requests: usize,
    body_bytes: usize,
}

/// Gives permits. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Permits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    events: Pool,
    reads: Pool,
    commands: Pool,
    strangers: Pool,
    /// Whether one network may not take all that strangers have.
    is_shared: bool,
    shares: Mutex<HashMap<Network, Share>>,
}

/// The permit of one request, given back when all clones are dropped.
#[derive(Clone, Debug)]
pub(crate) struct Permit(Arc<Held>);

#[derive(Debug)]
struct Held {
    class: Class,
    permits: Permits,
    request: Option<OwnedSemaphorePermit>,
    body: Mutex<Body>,
}

#[derive(Debug, Default)]
struct Body {
    n_bytes: usize,
    /// Of these so many were counted.
    permit: Option<OwnedSemaphorePermit>,
}

impl Permits {
    /// Makes them. With `is_shared` strangers of one network get only a part.
    pub(crate) fn new(is_shared: bool) -> Self {
        Self::with([EVENTS, READS, COMMANDS, STRANGERS], is_shared)
    }

    fn with([events, reads, commands, strangers]: [Limit; 4], is_shared: bool) -> Self {
        // Shown from the start, so that a first one is seen as a growth.
        [events, reads, commands, strangers].into_iter().for_each(|it| overloaded(it.name, 0));
        let (events, reads) = (Pool::new(events), Pool::new(reads));
        let (commands, strangers) = (Pool::new(commands), Pool::new(strangers));
        let shares = Mutex::default();
        Self(Arc::new(Inner { events, reads, commands, strangers, is_shared, shares }))
    }

    fn pool(&self, class: Class) -> &Pool {
        match class {
            Class::Event => &self.0.events,
            Class::Read => &self.0.reads,
            Class::Command => &self.0.commands,
            Class::Unproven(_) | Class::Stranger(_) => &self.0.strangers,
        }
    }

    /// Returns the network whose share is counted, if one is.
    fn counted(&self, class: Class) -> Option<Network> {
        match class {
            Class::Event | Class::Read | Class::Command => None,
            Class::Unproven(Network::Loopback) | Class::Stranger(Network::Loopback) => None,
            Class::Unproven(network) | Class::Stranger(network) => {
                self.0.is_shared.then_some(network)
            }
        }
    }

    /// Takes a permit for one request, or refuses it at once.
    pub(crate) fn take(&self, class: Class) -> Result<Permit, Problem> {
        let pool = self.pool(class);
        let too_many = |n: usize| full(pool.limit.name, &format!("{n} requests"));
        let request = Arc::clone(&pool.requests).try_acquire_owned();
        let request = request.map_err(|_none_left| too_many(pool.limit.requests))?;
        if let Some(network) = self.counted(class) {
            let mut shares = self.0.shares.lock().unwrap_or_else(PoisonError::into_inner);
            let share = shares.entry(network).or_default();
            if OF_NETWORK.requests <= share.requests {
                return Err(too_many(OF_NETWORK.requests));
            }
            share.requests += 1;
        }
        let (permits, body) = (self.clone(), Mutex::default());
        Ok(Permit(Arc::new(Held { class, permits, request: Some(request), body })))
    }

    fn give_back(&self, class: Class, requests: usize, body_bytes: usize) {
        let Some(network) = self.counted(class) else { return };
        let mut shares = self.0.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(share) = shares.get_mut(&network) else { return };
        share.requests = share.requests.saturating_sub(requests);
        share.body_bytes = share.body_bytes.saturating_sub(body_bytes);
        if (share.requests, share.body_bytes) == (0, 0) {
            shares.remove(&network);
        }
    }
}

fn overloaded(class: &'static str, n: u64) {
    metrics::counter!("selfheal_gateway_overloaded_total", "class" => class).increment(n);
}

/// 503, with what there is too much of.
fn full(class: &'static str, what: &str) -> Problem {
    overloaded(class, 1);
    let message = format!("limit reached: {what} of this class of callers ({class}) under way");
    Problem::later("overloaded", message, "send it again after the time in Retry-After", 1)
}

impl Permit {
    /// Returns how long the body may be, if that depends on who sends it.
    pub(crate) fn body_bytes_max(&self) -> usize {
        match self.0.class {
            Class::Event | Class::Read | Class::Command | Class::Unproven(_) => usize::MAX,
            Class::Stranger(_) => STRANGER_BODY_BYTES_MAX,
        }
    }

    /// Returns how slowly the body may arrive.
    pub(crate) fn pace(&self) -> Pace {
        match self.0.class {
            Class::Event | Class::Read | Class::Command => PACE_OF_KNOWN,
            Class::Unproven(_) | Class::Stranger(_) => PACE_OF_STRANGERS,
        }
    }

    /// Counts bytes of the body that have arrived, or refuses them.
    pub(crate) fn grow(&self, n_more: usize) -> Result<(), Problem> {
        let held = &*self.0;
        let (permits, class) = (&held.permits, held.class);
        let mut body = held.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.n_bytes = body.n_bytes.saturating_add(n_more);
        let free = match class {
            Class::Event | Class::Read | Class::Command => 0,
            Class::Unproven(_) | Class::Stranger(_) => STRANGER_BODY_BYTES_MAX,
        };
        let had = body.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = body.n_bytes.saturating_sub(free).saturating_sub(had);
        if wanted == 0 {
            return Ok(());
        }
        let pool = permits.pool(class);
        let too_many = |n: usize| full(pool.limit.name, &format!("bodies of {n} bytes"));
        let none_left = || too_many(pool.limit.body_bytes);
        let n_permits = u32::try_from(wanted).unwrap_or(u32::MAX);
        let more = Arc::clone(&pool.body_bytes).try_acquire_many_owned(n_permits);
        let Ok(more) = more else { return Err(none_left()) };
        if let Some(network) = permits.counted(class) {
            let mut shares = permits.0.shares.lock().unwrap_or_else(PoisonError::into_inner);
            let share = shares.entry(network).or_default();
            if OF_NETWORK.body_bytes < share.body_bytes.saturating_add(wanted) {
                return Err(too_many(OF_NETWORK.body_bytes));
            }
            share.body_bytes += wanted;
        }
        match &mut body.permit {
            Some(permit) => permit.merge(more),
            None => body.permit = Some(more),
        }
        Ok(())
    }

    /// Gives the bytes back: the body is read on, and thrown away.
    pub(crate) fn forget_body(&self) {
        self.0.forget_body();
    }
}

impl Held {
    fn forget_body(&self) {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        let permit = body.permit.take();
        body.n_bytes = 0;
        drop(body);
        let n_bytes = permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        self.permits.give_back(self.class, 0, n_bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.forget_body();
        self.permits.give_back(self.class, 1, 0);
        drop(self.request.take());
    }
}

#[cfg(test)]
mod tests;
