//! The shares of members with little left of their rate limits, as their responses state.

use std::sync::Arc;

use super::{core::FleetCore, member::MemberInfo};
use crate::{
    health::{LowHeadroom, Lowered},
    outcome::Headroom,
};

impl MemberInfo {
    /// Returns whether its responses are read for what is left of its rate limit.
    #[inline(always)]
    pub(crate) fn reads_headroom(&self) -> bool {
        self.fleet.as_ref().is_some_and(|links| links.headroom)
    }

    /// Lowers or raises its share to what a response states. Takes no lock while the share stays the same.
    pub(crate) fn note_headroom(self: &Arc<Self>, headroom: Headroom) {
        let now = || self.clock.now();
        let stated = Lowered::stated(headroom.left(), headroom.reset(), now);
        let is_known = match self.low_headroom() {
            Some(low) => low.note(stated, now),
            None => LowHeadroom::default().note(stated, now),
        };
        if !is_known {
            self.publish(|fleet| fleet.headroom_changed(self, stated));
        }
    }
}

impl FleetCore {
    /// Sets the share of a member that a response stated.
    pub(super) fn set_headroom(&self, member: &Arc<MemberInfo>, stated: Lowered) {
        self.edit(|registry| {
            if !member.health.is_removed() && registry.shares.set_headroom(member, stated, self.clock.now()) {
                registry.note_share();
            }
        });
    }
}
