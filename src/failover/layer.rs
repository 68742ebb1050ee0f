//! The layer that turns a fleet into a failover.

use std::{fmt, sync::Arc};

use tower_layer::Layer;

use super::{Failover, Http, settings::Policy};
use crate::{fleet::IsFleet, pick::AnyStrategy};

/// Turns a [`Fleet`](crate::Fleet) into a [`Failover`]: a service that sends a request to further backends when an
/// attempt fails. See [the module](super) for the modes and examples.
///
/// `H` is the protocol: how a request is sent again, and when a response is final. Which outcomes are failures is
/// decided by the classifier of the fleet.
///
/// | constructor | for |
/// |---|---|
/// | [`new`](Self::new) | HTTP and gRPC, with the defaults |
/// | [`builder`](Self::builder) | HTTP and gRPC, with other settings |
/// | [`plain`](Self::plain) | services that are not HTTP |
/// | [`with_protocol`](Self::with_protocol) | a protocol of your own |
///
/// **A `POST` may be sent twice.** By default, a failure moves a request on to another backend whatever its method is;
/// see [`retry_methods`](super::FailoverBuilder::retry_methods).
#[must_use = "a layer does nothing until it is given a fleet"]
#[derive(Clone)]
pub struct FailoverLayer<H = Http> {
    pub(super) strategy: AnyStrategy,
    pub(super) policy: Policy<H>,
}

impl<F: IsFleet, H: Clone> Layer<F> for FailoverLayer<H> {
    type Service = Failover<F::Service, H, F::Classifier>;

    fn layer(&self, fleet: F) -> Self::Service {
        // Each door has its own copy of the settings, so that threads with doors of one layer share no reference count.
        let settings = Arc::new((*self.policy.settings).clone());
        let policy = Policy { protocol: self.policy.protocol.clone(), settings };
        Failover::new(fleet.as_fleet(), self.strategy.clone(), policy)
    }
}

impl<H> fmt::Debug for FailoverLayer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailoverLayer").field("settings", &self.policy.settings).finish_non_exhaustive()
    }
}
