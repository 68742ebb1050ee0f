//! The times before which backends get no requests: set by hand, or named by their responses.

use std::{sync::Arc, time::Duration};

use super::{core::FleetCore, handle::Fleet, member::MemberInfo};
use crate::{
    health::{Signal, Timed},
    outcome::Failure,
};

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> Fleet<S, C> {
    /// Sends no new requests to a backend for some time. Returns false if there is no such backend.
    ///
    /// For a backend that has no quota for now, for example. A response with a `Retry-After` does the same
    /// [by itself](super::FleetBuilder::named_times). The cool-down ends by itself, and is independent of the status and
    /// of the circuit. A second call can only lengthen it.
    pub fn cool_down(&self, name: &str, time: Duration) -> bool {
        self.shared().core.cool_down(name, time)
    }

    /// Ends the cool-down of a backend before its time. Returns false if there is no such backend.
    ///
    /// For an operator that knows better than the backend. Other [replicas](crate::replicas) that heard of the cool-down
    /// keep it, as a hint.
    pub fn end_cool_down(&self, name: &str) -> bool {
        self.shared().core.end_cool_down(name)
    }
}

impl FleetCore {
    fn cool_down(&self, name: &str, time: Duration) -> bool {
        let Some(member) = self.find(name) else { return false };
        self.signal(&member, Signal::Until(Timed::Cooling, self.clock.now().after(time)));
        true
    }

    fn end_cool_down(&self, name: &str) -> bool {
        let Some(member) = self.find(name) else { return false };
        self.edit(|registry| registry.end(&member, Timed::Cooling, self.clock.now()));
        true
    }
}

/// The longest time for which a response takes its backend out. Quotas are renewed within a day, and more is the fault of
/// a clock or a unit.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl MemberInfo {
    /// Takes the backend out until the time that a failed call of it named. Returns whether the backend throttles.
    pub(super) fn note_named_time(self: &Arc<Self>, failure: &Failure) -> bool {
        let is_honoured = self.fleet.as_ref().is_some_and(|links| links.named_times);
        let Some(time) = failure.named_time().filter(|_| is_honoured) else { return false };
        let until = self.clock.now().after(time.min(LONGEST));
        // Without the lock of the fleet, if another response of a burst has named a later time.
        if self.health.until(Timed::Cooling).is_none_or(|before| before < until) {
            self.publish(|fleet| fleet.time_named(self, until));
        }
        failure.is_throttled()
    }
}
