//! The changes of single settings that an operator makes.

use std::{num::NonZeroU32, time::Duration};

use super::{changes::Change, core::FleetCore};
use crate::{
    health::{AdminStatus, Signal},
    setting::InvalidSetting,
};

impl FleetCore {
    pub(super) fn set_weight(&self, name: &str, weight: NonZeroU32) -> Result<(), InvalidSetting> {
        self.edit(|registry| {
            let member = registry.member(name)?;
            if member.set_weight(weight) {
                registry.membership += 1;
                registry.announce(Change::Reweighted(member.name.clone(), weight.get()));
            }
            Ok(())
        })
    }

    pub(super) fn set_priority(&self, name: &str, priority: i32) -> bool {
        self.edit(|registry| {
            let Some(member) = registry.by_name.get(name).cloned() else { return false };
            if member.set_priority(priority) {
                registry.note_move(&member);
            }
            true
        })
    }

    pub(super) fn set_timeout(&self, name: &str, timeout: Option<Duration>) -> Result<(), InvalidSetting> {
        let registry = self.registry();
        let member = registry.member(name)?;
        member.set_timeout(timeout);
        Ok(())
    }

    pub(super) fn set_status(&self, name: &str, status: AdminStatus) -> bool {
        let Some(member) = self.find(name) else { return false };
        self.signal(&member, Signal::Status(status));
        true
    }

    pub(super) fn cool_down(&self, name: &str, time: Duration) -> bool {
        let Some(member) = self.find(name) else { return false };
        self.signal(&member, Signal::Cool(self.clock.now().after(time)));
        true
    }
}
