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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fleet::{Backend, Fleet};

    // C71: or what is noted of it would stay for as long as its limit.
    #[tokio::test(start_paused = true)]
    async fn a_response_of_a_removed_backend_leaves_nothing_behind() {
        let fleet = Fleet::plain().backend(Backend::new("a", ())).headroom(true).build().expect("a valid fleet");
        let core = &fleet.shared.core;
        let member = core.find("a").expect("a backend");
        let low = Headroom::new(0.0).until_reset(Duration::from_secs(60));
        member.note_headroom(low);
        assert!(core.next_due().is_some());
        fleet.remove("a");
        tokio::time::advance(Duration::from_secs(60)).await;
        core.process_due();
        assert_eq!(core.next_due(), None);
        member.note_headroom(Headroom::new(0.05));
        tokio::time::advance(Duration::from_secs(2)).await;
        member.note_headroom(low);
        assert_eq!(core.next_due(), None);
    }

    // C66, C71: a response that states what is known is no change of the fleet.
    #[tokio::test(start_paused = true)]
    async fn the_fleet_changes_with_the_share_only() {
        let fleet = Fleet::plain().backend(Backend::new("a", ())).headroom(true).build().expect("a valid fleet");
        let core = &fleet.shared.core;
        let member = core.find("a").expect("a backend");
        let mut version = core.version();
        for (left, is_changed) in [(1.0, false), (0.1, true), (0.09, false), (0.03, false), (0.02, true), (0.0, false)]
        {
            member.note_headroom(Headroom::new(left));
            assert_eq!(std::mem::replace(&mut version, core.version()) != core.version(), is_changed, "{left}");
            tokio::time::advance(Duration::from_secs(2)).await;
        }
    }
}
