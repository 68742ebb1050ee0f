//! The slots that the calls of a member take.

use std::{
    sync::{Arc, PoisonError, TryLockError, atomic::Ordering},
    time::Duration,
};

use super::{
    limit::UNLIMITED,
    member::{Links, MemberInfo, Settings},
};
use crate::{
    health::{Controller, Ended, Limit, Measures, Sample},
    time::Moment,
};

impl MemberInfo {
    /// Returns the number of slots. `None` without a limit.
    pub(crate) fn limit(&self) -> Option<u32> {
        Some(self.slots()).filter(|slots| *slots != UNLIMITED)
    }

    fn slots(&self) -> u32 {
        self.limit.slots.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn is_limited(&self) -> bool {
        self.health.is_limited()
    }

    /// Returns whether a request may be sent to it: it is eligible and not full.
    #[inline(always)]
    pub(crate) fn may_select(&self) -> bool {
        self.health.is_plain() || (self.health.is_eligible() && !self.is_full())
    }

    /// Returns whether all slots are taken.
    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.is_limited() && !self.load.is_below(self.slots())
    }

    /// Takes a slot for a call. Returns false if all are taken, or if the calls are not limited any more.
    #[inline]
    pub(crate) fn take_slot(&self) -> bool {
        self.load.begin_below(self.slots())
    }

    /// Frees a slot that no call has used.
    #[cold]
    pub(crate) fn return_slot(self: &Arc<Self>) {
        self.end_counted();
    }

    /// Frees a slot that no call has used, without waking a task.
    #[cold]
    pub(super) fn discard_slot(&self) {
        self.load.end();
    }

    /// Counts the end of a call that was counted, which frees its slot.
    #[inline]
    pub(super) fn end_counted(self: &Arc<Self>) {
        let calls = self.load.end();
        // Not only if all slots were taken: the tasks that were woken for the others may not have taken them yet.
        if let Some(Links { waiting, .. }) = self.fleet.as_deref()
            && waiting.has_waiter()
            && calls <= self.slots()
        {
            waiting.freed(self, 1);
        }
    }

    /// Returns whether it has these settings.
    pub(super) fn has(&self, settings: &Settings) -> bool {
        let own = || {
            let state = self.limit.state.get()?;
            state.lock().unwrap_or_else(PoisonError::into_inner).own
        };
        self.weight() == settings.weight
            && self.priority() == settings.priority
            && self.has_timeout(settings.timeout)
            && self.time_limits().unwrap_or_default() == settings.time_limits
            && own() == settings.limit
            && self.tags().map_or(settings.tags.is_none(), |tags| tags.are(&settings.tags))
    }

    /// Sets the limit: that of the backend itself, or else that of the fleet. Returns whether it changed. Under the
    /// fleet's lock.
    pub(super) fn set_limit(&self, own: Option<Limit>, common: Option<Limit>, now: Moment) -> bool {
        if own.or(common).is_none() && self.limit.state.get().is_none() {
            return false;
        }
        let mut state = self.limit.state.get_or_init(Box::default).lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.own.or(common);
        state.own = own;
        let limit = own.or(common);
        // An adaptive limit that does not change keeps what it has learnt.
        if before == limit && (limit.is_some() == self.limit().is_some()) {
            return false;
        }
        let measures = match limit {
            None => {
                state.controller = None;
                self.limit.slots.store(UNLIMITED, Ordering::Relaxed);
                Measures::NOTHING
            }
            Some(Limit::Fixed(calls)) => {
                state.controller = None;
                self.limit.slots.store(calls, Ordering::Relaxed);
                Measures::LIMIT
            }
            Some(Limit::Adaptive(settings)) => {
                let controller = Controller::new(settings, now);
                self.limit.slots.store(controller.limit(), Ordering::Relaxed);
                state.controller = Some(controller);
                Measures::LIMIT.or(Measures::ADAPTS)
            }
        };
        drop(state);
        self.measure_limit(measures);
        true
    }

    /// Adapts the limit to the sample of a call.
    #[cold]
    pub(super) fn adapt(self: &Arc<Self>, sample: Sample, took: Duration, now: Moment) {
        let ended = match sample {
            Sample::FirstByte => Ended::Well(took),
            Sample::Failed { .. } | Sample::BodyFailed => Ended::Failed,
            Sample::Cancelled => return,
        };
        // A sample that meets another one is left out: the others are enough for a mean.
        let Some(state) = self.limit.state.get() else { return };
        let mut state = match state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let Some(controller) = &mut state.controller else { return };
        controller.add(ended, self.load.in_flight(), now);
        let limit = controller.limit();
        let before = self.limit.slots.swap(limit, Ordering::SeqCst);
        drop(state);
        if limit > before
            && let Some(Links { waiting, .. }) = self.fleet.as_deref()
            && waiting.has_waiter()
        {
            waiting.freed(self, limit - before);
        }
    }
}
