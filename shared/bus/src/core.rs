//! What every part needs to talk to the broker. Tasks hold this, never the [`Bus`](crate::Bus),
//! so that dropping the last handle ends them.

use std::{fmt, sync::Arc};

use async_nats::{Client, jetstream};

use crate::{Subjects, link::Link};

/// The connection and the names.
#[derive(Clone)]
pub(crate) struct Core {
    pub(crate) client: Client,
    pub(crate) js: jetstream::Context,
    pub(crate) link: Arc<Link>,
    pub(crate) subjects: Subjects,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("link", &self.link)
            .field("subjects", &self.subjects)
            .finish_non_exhaustive()
    }
}

/// Turns the client's time into ours.
pub(crate) fn utc(at: async_nats::datetime::DateTime) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp(at.unix_timestamp(), at.nanosecond()).unwrap_or_default()
}
