//! Circuits, failing probes, hints, outliers and operators together: what is noted of them is what there is, the limits
//! hold, and no backend stays out without a reason.

use crate::{
    CircuitPolicy, CircuitState,
    fleet::MemberInfo,
    health::{Admission, CallResult, Signal, Timed},
};

use super::*;

#[derive(Clone, Debug)]
enum Event {
    ProbeFailed(u64),
    ProbeSucceeded(bool),
    Hint(u64, bool),
    EndHint,
    RefuteHint,
    Defer(u64),
    CoolDown(u64),
    SetStatus(AdminStatus),
    Outlier(u64),
    Trip,
    Reset,
    ForceOpen,
    ForceClosed,
    ProbeNow,
    /// A request is admitted, if the circuit does.
    Call(CallResult),
    Remove,
    Insert,
    Replace,
    Pass,
}

fn event() -> impl Strategy<Value = Event> {
    let status = prop_oneof![3 => Just(AdminStatus::Healthy), 1 => Just(AdminStatus::Draining), 1 => Just(AdminStatus::Degraded)];
    let time = || 1..40_u64;
    prop_oneof![
        5 => time().prop_map(Event::ProbeFailed),
        3 => any::<bool>().prop_map(Event::ProbeSucceeded),
        4 => (time(), any::<bool>()).prop_map(|(time, on_probation)| Event::Hint(time, on_probation)),
        1 => Just(Event::EndHint),
        1 => Just(Event::RefuteHint),
        1 => time().prop_map(Event::Defer),
        2 => time().prop_map(Event::CoolDown),
        3 => status.prop_map(Event::SetStatus),
        3 => time().prop_map(Event::Outlier),
        4 => Just(Event::Trip),
        1 => Just(Event::Reset),
        2 => Just(Event::ForceOpen),
        1 => Just(Event::ForceClosed),
        1 => Just(Event::ProbeNow),
        2 => Just(Event::Call(CallResult::Failure)),
        2 => Just(Event::Call(CallResult::Success)),
        1 => Just(Event::Remove),
        2 => Just(Event::Insert),
        1 => Just(Event::Replace),
        2 => Just(Event::Pass),
    ]
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Applies an event to the backend of this name, or to an earlier one.
fn apply(fleet: &Numbers, name: &str, member: &Arc<MemberInfo>, event: &Event) {
    let core = &fleet.shared.core;
    let switch = crate::fleet::Switch::new(Arc::clone(member));
    let switch = |change: fn(&crate::fleet::Switch)| drop(switch.iter().map(change).collect::<Vec<_>>());
    match *event {
        Event::ProbeFailed(time) => core.probe_failed(member, secs(time)),
        Event::ProbeSucceeded(closes) => core.probe_succeeded(member, closes),
        Event::Hint(time, on_probation) => drop(core.hint(member, secs(time), on_probation)),
        Event::EndHint => core.end_hint(member),
        Event::RefuteHint => core.refute_hint(member),
        Event::Defer(time) => core.defer_probe(member, secs(time)),
        Event::CoolDown(time) => drop(fleet.cool_down(name, secs(time))),
        Event::SetStatus(status) => drop(fleet.set_status(name, status)),
        Event::Outlier(time) => core.edit(|registry| {
            let now = core.clock.now();
            if member.health.is_eligible() && registry.ejection.may_eject() {
                member.health.apply(Signal::Until(Timed::Outlier, now.after(secs(time))));
                registry.refresh(member, false, now);
            }
        }),
        Event::Trip => switch(crate::fleet::Switch::trip),
        Event::Reset => switch(crate::fleet::Switch::reset),
        Event::ForceOpen => switch(crate::fleet::Switch::force_open),
        Event::ForceClosed => switch(crate::fleet::Switch::force_closed),
        Event::ProbeNow => switch(crate::fleet::Switch::probe_now),
        Event::Call(result) => {
            let Some(circuit) = member.circuit() else { return };
            let Admission::Admitted(ticket, began) = circuit.admit(|| core.clock.now()) else { return };
            began.into_iter().for_each(|transition| member.moved(transition));
            match circuit.record(ticket, result, || core.clock.now(), || 0) {
                Some(transition) => member.moved(transition),
                None => assert!(member.publish(|fleet| fleet.permits_changed(member))),
            }
        }
        Event::Remove => drop(fleet.remove(name)),
        Event::Insert => drop(fleet.insert(Backend::new(name, 0))),
        Event::Replace => drop(fleet.replace(Backend::new(name, 0))),
        Event::Pass => {}
    }
}

/// Checks what is noted of all members, and why those are out that are.
fn check(fleet: &Numbers) {
    let core = &fleet.shared.core;
    core.process_due();
    let now = core.clock.now();
    core.registry().assert_recounted(now);
    for member in core.members() {
        let health = &member.health;
        let state = member.circuit().map_or(CircuitState::Closed, |circuit| circuit.state(crate::time::Moment::EPOCH));
        let is_held = |opinion| health.until(opinion).is_some();
        let by_operator = health.status() != AdminStatus::Healthy || state == CircuitState::ForcedOpen;
        let by_others = [Timed::Cooling, Timed::Outlier, Timed::Hinted].into_iter().any(is_held);
        let is_down = is_held(Timed::Failing) || !state.serves();
        let is_out = by_operator || by_others || (is_down && !health.is_exempt());
        assert_eq!(health.is_eligible(), !is_out, "`{}`: {health:?}", member.name);
        let is_overruled = state == CircuitState::ForcedClosed;
        assert!(!is_overruled || !is_held(Timed::Failing) && !is_held(Timed::Hinted), "`{}`", member.name);
    }
    fleet.shared.assert_derived();
}

proptest! {
    // C41, C42, C43, C69
    #[test]
    fn what_keeps_backends_out_is_counted_limited_and_ends(
        (max_ejected, panic_below, max_hinted) in (0..5_u8, 0..5_u8, 0..5_u8),
        has_circuits in prop_oneof![4 => Just(true), 1 => Just(false)],
        events in prop::collection::vec((0..7_usize, event(), 0..15_u64, any::<bool>()), 1..120),
    ) {
        let quarter = |share: u8| f64::from(share) / 4.0;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let backends = (0..5).map(|number| Backend::new(format!("b{number}"), number));
            let mut builder = Fleet::plain().backends(backends).max_ejected(quarter(max_ejected));
            builder = builder.panic_below(quarter(panic_below)).max_hinted(quarter(max_hinted));
            if has_circuits {
                builder = builder.circuit_breaker(CircuitPolicy::new().consecutive(1).open_for(secs(10)));
            }
            let fleet = builder.build().expect("valid backends");
            let core = &fleet.shared.core;
            // Handles of members stay valid after their removal.
            let mut known = core.members();
            for (which, event, pause, is_late) in events {
                let name = format!("b{which}");
                tokio::time::advance(secs(pause)).await;
                // Also before a deadline that is reached was processed.
                if !is_late {
                    check(&fleet);
                }
                let now = core.find(&name);
                let member = now.into_iter().chain(known.get(which % known.len()).cloned()).next();
                if let Some(member) = member {
                    apply(&fleet, &name, &member, &event);
                    let again = core.find(&name).filter(|again| again.id != member.id);
                    known.extend(again);
                }
                check(&fleet);
            }
            // Nothing lasts.
            for _ in 0..3 {
                tokio::time::advance(secs(3_600)).await;
                check(&fleet);
            }
            for member in core.members() {
                assert_eq!(member.health.due().filter(|_| member.health.probe_at().is_none()), None, "{member:?}");
            }
        });
    }
}

// C41, C42, C43: also when its probes fail and too many others are out.
#[tokio::test(start_paused = true)]
async fn a_backend_that_is_forced_open_gets_no_requests() {
    let fleet = Fleet::plain().backends((0..2).map(|number| Backend::new(format!("b{number}"), number)));
    let fleet = fleet.circuit_breaker(CircuitPolicy::new()).max_ejected(0.0).build().expect("valid backends");
    let core = &fleet.shared.core;
    let member = core.find("b0").expect("a member");
    core.probe_failed(&member, secs(60));
    assert_eq!(tier(&fleet), ["b0", "b1"], "it is exempt");
    fleet.switch("b0").expect("a circuit").force_open();
    assert_eq!(tier(&fleet), ["b1"]);
    fleet.switch("b0").expect("a circuit").reset();
    assert_eq!(tier(&fleet), ["b0", "b1"]);
}

// C43: the deadline of failing probes is processed, whatever else happened at that moment.
#[tokio::test(start_paused = true)]
async fn failing_probes_of_an_exempt_backend_end_by_themselves() {
    let fleet = Fleet::plain().backends((0..2).map(|number| Backend::new(format!("b{number}"), number)));
    let fleet = fleet.circuit_breaker(CircuitPolicy::new().open_for(secs(3_600))).max_ejected(0.0);
    let fleet = fleet.build().expect("valid backends");
    let core = &fleet.shared.core;
    let member = core.find("b0").expect("a member");
    core.probe_failed(&member, secs(60));
    fleet.switch("b0").expect("a circuit").trip();
    tokio::time::advance(secs(60)).await;
    // Before a request comes that would process the deadline.
    core.defer_probe(&member, secs(7_200));
    core.process_due();
    assert!(!fleet.snapshot()[0].is_failing);
}

// C11: what happens to a member that was removed is no news of the one that has its name now.
#[tokio::test(start_paused = true)]
async fn nothing_is_announced_of_a_removed_backend() {
    let fleet = Fleet::plain().backends((0..4).map(|number| Backend::new(format!("b{number}"), number)));
    let fleet = fleet.circuit_breaker(CircuitPolicy::new()).build().expect("valid backends");
    let core = &fleet.shared.core;
    let member = core.find("b0").expect("a member");
    core.probe_failed(&member, secs(60));
    assert!(core.hint(&member, secs(60), true));
    let switch = fleet.switch("b0").expect("a circuit");
    fleet.replace(Backend::new("b0", 9)).expect("a valid backend");
    let mut changes = fleet.changes();
    core.probe_succeeded(&member, true);
    core.end_hint(&member);
    core.refute_hint(&member);
    switch.force_closed();
    core.signal(&member, Signal::Until(Timed::Cooling, core.clock.now().after(secs(60))));
    core.signal(&member, Signal::Status(AdminStatus::Draining));
    assert_eq!(received(&mut changes), []);
}

// C41, C54: restored for a backend that was discovered late, and probed before.
#[cfg(feature = "file-state")]
#[tokio::test(start_paused = true)]
async fn a_restored_forced_circuit_is_worth_more_than_probes() {
    use crate::{
        fleet::{SavedBackend, Savings},
        health::SavedCircuit,
    };
    let fleet = Fleet::plain().backends((0..2).map(|number| Backend::new(format!("b{number}"), number)));
    let fleet = fleet.circuit_breaker(CircuitPolicy::new()).build().expect("valid backends");
    let core = &fleet.shared.core;
    core.probe_failed(&core.find("b0").expect("a member"), secs(60));
    assert_eq!(tier(&fleet), ["b1"]);
    let saved = SavedBackend { circuit: Some(SavedCircuit::ForcedClosed), ..SavedBackend::default() };
    Savings::of(core).restore(&mut [(name("b0"), saved)].into(), core.clock.now());
    assert_eq!(tier(&fleet), ["b0", "b1"]);
}
