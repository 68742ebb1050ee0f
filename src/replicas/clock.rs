//! The time of the exchange, as this replica knows it.

use std::time::Duration;

use super::{book::Book, entry::ExchangeClock, report::Stamp};
use crate::time::Moment;

/// What is more than this was a jump of the clock of the exchange, and not the time that an answer takes.
const JUMP: Duration = Duration::from_secs(1);

impl Book {
    /// Notes the time of the exchange.
    pub(super) fn set_clock(&mut self, shown: Stamp, now: Moment) {
        let before = self.clock.replace(ExchangeClock::new(shown, now));
        if before.is_some_and(|before| before.at(now) > shown.after(JUMP)) {
            // The stamps so far are of the future. As such, they would count more than all to come.
            let clock = ExchangeClock::new(shown, now);
            self.entries.values_mut().for_each(|entry| entry.rebase(now, clock));
        }
    }

    /// Notes the time of a message, which may have been under way for some time.
    pub(super) fn advance_clock(&mut self, shown: Stamp, now: Moment) {
        if self.clock.is_none_or(|clock| clock.at(now) < shown) {
            self.set_clock(shown, now);
        }
    }
}
