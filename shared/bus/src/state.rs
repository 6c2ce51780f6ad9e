//! How full a stream is.

use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};

use crate::{
    Error,
    asking::{Unanswered, until_answered},
    core::Core,
    topology::StreamId,
};

/// Where a stream begins and ends, and how full it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    /// The first message that is kept; of an empty stream, the one that comes next.
    pub first_seq: u64,
    /// The last message that was ever stored; 0 when there was none.
    pub last_seq: u64,
    /// Messages kept.
    pub messages: u64,
    /// Bytes kept, as the broker counts them.
    pub bytes: u64,
    /// Bytes at which it is full; `None` without a limit.
    pub bytes_max: Option<u64>,
}

impl StreamState {
    /// Returns how full it is, from 0 to 1; 0 without a limit.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more")]
    pub fn fullness(&self) -> f64 {
        match self.bytes_max {
            Some(max) if 0 < max => self.bytes as f64 / max as f64,
            Some(_) | None => 0.0,
        }
    }
}

/// Asks the stream's leader.
pub(crate) async fn of(core: &Core, id: StreamId) -> Result<StreamState, Error> {
    let name = core.subjects.stream(id);
    until_answered(core, "look at a stream", || async {
        let stream = core.js.get_stream(&name).await.map_err(judge)?;
        let info = stream.cached_info();
        Ok(StreamState {
            first_seq: info.state.first_sequence,
            last_seq: info.state.last_sequence,
            messages: info.state.messages,
            bytes: info.state.bytes,
            bytes_max: u64::try_from(info.config.max_bytes).ok(),
        })
    })
    .await
}

pub(crate) fn judge(error: GetStreamError) -> Unanswered {
    match error.kind() {
        // An election is told with 503.
        GetStreamErrorKind::JetStream(told) if told.code() < 500 => Unanswered::Final(error.into()),
        GetStreamErrorKind::JetStream(_)
        | GetStreamErrorKind::EmptyName
        | GetStreamErrorKind::Request
        | GetStreamErrorKind::InvalidStreamName => Unanswered::Passing(error.into()),
    }
}
