//! The settings of a failover over HTTP.

use http::HeaderName;

use super::{super::CommitPoint, FailoverBuilder};
use crate::{body::ReplayLayer, outcome::Statuses};

impl FailoverBuilder {
    /// Sets when a response is final. Default [`CommitPoint::head`].
    pub fn commit(mut self, point: CommitPoint) -> Self {
        self.settings.refused_commit = point.check().err();
        self.protocol = self.protocol.commit(point);
        self
    }

    /// Sets how request bodies are kept for further attempts, and how long the attempts wait for the next frame of
    /// one. Default [`ReplayLayer::new`]: up to 1 MiB of each body is kept, and a caller that sends nothing for 60 s
    /// ends its request.
    pub fn replay(mut self, replay: ReplayLayer) -> Self {
        self.settings.has_zero_idle_timeout = replay.idle_limit().is_some_and(|limit| limit.is_zero());
        self.protocol = self.protocol.replay(replay);
        self
    }

    /// Adds a header to each response, with the name of the backend that served. Default no header.
    pub fn served_by(mut self, header: HeaderName) -> Self {
        self.protocol = self.protocol.served_by(header);
        self
    }

    /// Sets the statuses on which [`Trigger::status`](crate::failover::Trigger::status) fires. Default: those that the fleet's classifier counts as
    /// failures.
    ///
    /// The circuits of the backends are not affected: a 404 may move a request on without being a failure of its
    /// backend.
    pub fn statuses(mut self, statuses: Statuses) -> Self {
        self.settings.statuses = Some(statuses);
        self
    }
}
