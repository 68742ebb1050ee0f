//! The calls of a member: their admission, their outcomes, and the transitions of its circuit that follow.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    feed::Wakeup,
    marks::{BUILT_DEGRADED, BUILT_DRAINING},
    member::MemberInfo,
    watch::{Schedule, Watch},
    watchers::Watchers,
};
use crate::{
    foreign,
    health::{
        AdminStatus, Admission, CallResult, Circuit, CircuitState, Counts, LatencySettings, LatencyWindow, Measures,
        Sample, Signal, Ticket, Transition,
    },
    outcome::{Event, Meter, Outcome, Timing},
    shard::slot,
    telemetry,
    time::Moment,
};

impl MemberInfo {
    /// Counts its calls for the detection of outliers, if there is one.
    pub(super) fn watched(mut self, schedule: Option<&Arc<Schedule>>) -> Self {
        self.watch = schedule.map(|schedule| Box::new(Watch::new(Arc::clone(schedule))));
        self
    }

    /// Sets the status that the backend has by its settings. An operator may set another one later.
    pub(super) fn begin_with(&self, status: AdminStatus) {
        self.marks.set(BUILT_DEGRADED, status == AdminStatus::Degraded);
        self.marks.set(BUILT_DRAINING, status == AdminStatus::Draining);
        self.health.apply(Signal::Status(status));
    }

    /// The status that the backend has by its settings.
    pub(super) fn built_status(&self) -> AdminStatus {
        match (self.marks.has(BUILT_DRAINING), self.marks.has(BUILT_DEGRADED)) {
            (true, _) => AdminStatus::Draining,
            (false, true) => AdminStatus::Degraded,
            (false, false) => AdminStatus::Healthy,
        }
    }

    /// Begins to measure these quantities. Under the fleet's lock.
    pub(super) fn measure(&self, measures: Measures) {
        self.measures.fetch_or(measures.bits(), Ordering::Relaxed);
    }

    /// Begins or ends to limit the calls. Once they were limited they stay counted, so that a later limit knows all of
    /// them.
    pub(super) fn measure_limit(&self, measures: Measures) {
        self.health.apply(Signal::Limited(measures.has(Measures::LIMIT)));
        let limits = Measures::LIMIT.or(Measures::ADAPTS);
        let others = self.measures.load(Ordering::Relaxed) & !limits.bits();
        let measures = others | measures.or(Measures::IN_FLIGHT).bits();
        self.measures.store(measures, Ordering::Relaxed);
    }

    /// Counts a call that begins.
    #[inline(always)]
    pub(super) fn begin(&self, ticket: &mut Ticket) -> Meter {
        self.flight.add(slot(), 1);
        match Measures::from_bits(self.measures.load(Ordering::Relaxed)) {
            Measures::NOTHING => Meter::default(),
            measures => self.begin_measured(measures, ticket, false),
        }
    }

    /// Counts a call that begins, with a slot.
    pub(super) fn begin_with_slot(&self, ticket: &mut Ticket) -> Meter {
        self.flight.add(slot(), 1);
        self.begin_measured(Measures::from_bits(self.measures.load(Ordering::Relaxed)), ticket, true)
    }

    fn begin_measured(&self, measures: Measures, ticket: &mut Ticket, has_slot: bool) -> Meter {
        let is_counted = has_slot || measures.has(Measures::IN_FLIGHT);
        if is_counted && !has_slot {
            self.load.begin();
        }
        if !measures.times() {
            return Meter { is_counted, timing: Timing::Off };
        }
        if !ticket.is_timed() {
            *ticket = ticket.started_at(self.clock.now());
        }
        Meter { is_counted, timing: Timing::Running }
    }

    /// Counts a call that ended.
    #[inline(always)]
    pub(super) fn end(self: &Arc<Self>, meter: Meter) {
        self.flight.add(slot(), u64::MAX);
        if meter.is_counted {
            self.end_counted();
        }
    }

    /// Adds the sample of a call.
    pub(super) fn sample(self: &Arc<Self>, ticket: &Ticket, sample: Sample) {
        let (measures, now) = (Measures::from_bits(self.measures.load(Ordering::Relaxed)), self.clock.now());
        // A call that is not timed is counted only if it fails.
        let took = if ticket.is_timed() { ticket.elapsed(now) } else { Duration::ZERO };
        self.load.sample(measures, sample, took, now, &self.metering);
        if measures.has(Measures::ADAPTS) {
            self.adapt(sample, took, now);
        }
        if let Some(watch) = &self.watch
            && let Some(over) = watch.add(sample, took, now)
        {
            self.publish(|fleet| fleet.interval_over(over, now));
        }
    }

    /// Returns the calls of an interval of the detection of outliers, and begins another one.
    pub(super) fn take_counts(&self) -> Counts {
        self.watch.as_ref().map(|watch| watch.take()).unwrap_or_default()
    }

    /// Admits a call. Takes a permit if the call is a probe.
    ///
    /// # Errors
    ///
    /// The circuit rejects the call. Contains the time until it admits a probe; `None` if it was forced open.
    #[inline(always)]
    pub(crate) fn admit(self: &Arc<Self>, now: impl FnOnce() -> Moment) -> Result<Ticket, Option<Duration>> {
        let Some(circuit) = self.circuit() else { return Ok(Ticket::VOID) };
        match circuit.pass() {
            Some(ticket) => Ok(ticket),
            None => self.admit_slowly(circuit, now()),
        }
    }

    #[inline(never)]
    fn admit_slowly(self: &Arc<Self>, circuit: &Circuit, now: Moment) -> Result<Ticket, Option<Duration>> {
        match circuit.admit(|| now) {
            Admission::Admitted(ticket, Some(transition)) => {
                self.moved(transition);
                Ok(ticket)
            }
            Admission::Admitted(ticket, None) => {
                if ticket.is_probe() {
                    self.permits_changed();
                    self.offer_permit(circuit, now);
                }
                Ok(ticket)
            }
            Admission::Rejected { .. } if self.health.is_exempt() => Ok(Ticket::VOID),
            Admission::Rejected { retry_after, .. } => Err(retry_after),
        }
    }

    /// Records an event of a call.
    #[inline(always)]
    pub(super) fn record(self: &Arc<Self>, ticket: &Ticket, event: Event<'_>) {
        let is_expected = match (self.circuit(), event) {
            (Some(circuit), Event::Outcome(Outcome::Success)) => circuit.expects_success(ticket),
            (None, Event::Outcome(Outcome::Failure(_)) | Event::BodyFailed(_)) | (Some(_), _) => false,
            (None, _) => true,
        };
        if !is_expected {
            self.record_slowly(*ticket, event);
        }
    }

    #[inline(never)]
    fn record_slowly(self: &Arc<Self>, ticket: Ticket, event: Event<'_>) {
        // Before the circuit: a probe that is throttled must not make way for the next one.
        let is_throttled = match event {
            Event::Outcome(Outcome::Failure(failure)) | Event::BodyFailed(Outcome::Failure(failure)) => {
                self.note_named_time(failure)
            }
            _ => false,
        };
        let Some(circuit) = self.circuit() else { return };
        let result = match event {
            Event::Outcome(Outcome::Success) => CallResult::Success,
            Event::Outcome(Outcome::Failure(_)) if is_throttled => CallResult::Neutral,
            Event::Outcome(Outcome::Failure(_)) => CallResult::Failure,
            Event::Outcome(Outcome::Neutral) => CallResult::Neutral,
            Event::Cancelled => CallResult::GivenUp,
            Event::BodyFailed(_) => CallResult::BodyFailed,
            Event::BodyEnded => CallResult::BodyEnded,
        };
        match circuit.record(ticket, result, || self.clock.now(), || fastrand::u64(..)) {
            Some(transition) => self.moved(transition),
            // The permit of the probe is free again, and a request may wait for one.
            None if ticket.is_probe() => {
                self.permits_changed();
                self.offer_permit(circuit, self.clock.now());
            }
            None => {}
        }
    }

    /// Returns how long the attempts at it took lately. `None` if no failover has measured one.
    #[inline]
    pub(crate) fn latency(&self) -> Option<&LatencyWindow> {
        self.load.latency()
    }

    /// The same; made by these settings if there is none.
    #[inline]
    pub(crate) fn measured(&self, settings: LatencySettings) -> &LatencyWindow {
        self.load.measured(settings)
    }

    /// Publishes a transition of the circuit. Every transition is published here.
    #[cold]
    pub(crate) fn moved(self: &Arc<Self>, transition: Transition) {
        // Before any waker runs, which may cause the next transition.
        let wakeups = self.watchers().map(|watchers| watchers.send(transition));
        let is_published = self.publish(|fleet| fleet.circuit_changed(self, transition));
        wakeups.into_iter().flatten().for_each(Wakeup::wake);
        if let (Some(watchers), Some(circuit)) = (self.watchers(), self.circuit()) {
            match transition.to {
                CircuitState::Closed | CircuitState::ForcedClosed => watchers.waiters.wake_all(),
                CircuitState::HalfOpen => self.offer_permit(circuit, transition.at),
                // For the new end of the open time. The others check by themselves.
                CircuitState::Open => watchers.waiters.wake_first(1),
                CircuitState::ForcedOpen => {}
            }
        }
        if !is_published {
            foreign::run(|| telemetry::circuit_changed(&self.name, &transition.from, &transition.to));
        }
    }

    /// Wakes the first task that waits for a permit, if there is one. That task does the same once it has a permit.
    fn offer_permit(&self, circuit: &Circuit, now: Moment) {
        if let Some(Watchers { waiters, .. }) = self.watchers()
            && circuit.would_admit(|| now)
        {
            waiters.wake_first(1);
        }
    }

    /// Publishes that the circuit may admit the next probe earlier or later than published before.
    fn permits_changed(self: &Arc<Self>) {
        self.publish(|fleet| fleet.permits_changed(self));
    }
}
