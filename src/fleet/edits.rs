//! The changes of single settings that an operator makes.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use super::{
    changes::Change,
    core::FleetCore,
    member::{MemberInfo, Settings},
    registry::Registry,
    rows::RowKey,
};
use crate::{
    health::{AdminStatus, Limit, Signal},
    outcome::TimeLimits,
    setting::InvalidSetting,
    time::Moment,
};

impl FleetCore {
    pub(super) fn set_weight(&self, name: &str, weight: NonZeroU32) -> Result<(), InvalidSetting> {
        self.edit(|registry| {
            let member = registry.member(name)?;
            registry.set_weight(&member, weight);
            Ok(())
        })
    }

    pub(super) fn set_priority(&self, name: &str, priority: i32) -> bool {
        self.edit(|registry| {
            let Some(member) = registry.by_name.get(name).cloned() else { return false };
            registry.set_priority(&member, priority);
            true
        })
    }

    pub(super) fn set_timeout(&self, name: &str, timeout: Option<Duration>) -> Result<(), InvalidSetting> {
        let mut registry = self.registry();
        let member = registry.member(name)?;
        let limits = member.time_limits().unwrap_or_default();
        registry.set_timeout(&member, timeout, limits);
        Ok(())
    }

    pub(super) fn set_limit(&self, name: &str, limit: Option<Limit>) -> Result<(), InvalidSetting> {
        self.edit(|registry| {
            let member = registry.member(name)?;
            registry.set_limit(&member, limit, self.limit, self.clock.now());
            Ok(())
        })
    }

    pub(super) fn set_status(&self, name: &str, status: AdminStatus) -> bool {
        let Some(member) = self.find(name) else { return false };
        self.signal(&member, Signal::Status(status));
        true
    }
}

impl Registry {
    /// Sets the weight of a member. Returns whether it changed.
    pub(super) fn set_weight(&mut self, member: &MemberInfo, weight: NonZeroU32) -> bool {
        let is_changed = member.set_weight(weight);
        if is_changed {
            self.revision += 1;
            self.note_share();
            self.announce(Change::Reweighted(member.name.clone(), weight.get()));
        }
        is_changed
    }

    /// Sets the priority of a member, and so moves it to another tier. Returns whether it changed.
    pub(super) fn set_priority(&mut self, member: &Arc<MemberInfo>, priority: i32) -> bool {
        let before = RowKey::of(member);
        let is_changed = member.set_priority(priority);
        if is_changed {
            self.revision += 1;
            self.patch.remove(before);
            self.patch.insert(member);
            self.wakes.all = true;
            self.announce(Change::Moved(member.name.clone(), priority));
        }
        is_changed
    }

    /// Sets the timeout and the limits on the parts of responses of a member, which calls read by themselves. Returns
    /// whether they changed.
    pub(super) fn set_timeout(&mut self, member: &MemberInfo, timeout: Option<Duration>, limits: TimeLimits) -> bool {
        let is_limited = member.set_time_limits(limits);
        let is_changed = member.set_timeout(timeout) || is_limited;
        self.revision += u64::from(is_changed);
        is_changed
    }

    /// Sets the tags of a member, which requests read when they are rejected. Returns whether they changed.
    pub(super) fn set_tags(&mut self, member: &MemberInfo, settings: &Settings) -> bool {
        let is_changed = member.set_tags(&settings.tags);
        self.revision += u64::from(is_changed);
        is_changed
    }

    /// Sets the limit of a member: its `own`, or else the `common` one of the fleet. Returns whether it changed. The tasks
    /// that wait for a slot search again then.
    pub(super) fn set_limit(
        &mut self,
        member: &MemberInfo,
        own: Option<Limit>,
        common: Option<Limit>,
        now: Moment,
    ) -> bool {
        let is_changed = member.set_limit(own, common, now);
        // Also if it is equal to that of the fleet, and so changes nothing.
        self.revision += 1;
        self.is_changed |= is_changed;
        self.wakes.all |= is_changed;
        is_changed
    }
}
