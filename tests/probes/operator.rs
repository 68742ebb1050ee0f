//! What an operator has set stays.

use tower_fleet::{AdminStatus, probe::Scope};

use super::*;

// C41, C43
#[tokio::test(start_paused = true)]
async fn a_good_probe_does_not_undo_a_status() {
    let (fleet, [_, _]) = fleet();
    spawn(&fleet, probes().scope(Scope::All));
    fleet.set_status("a", AdminStatus::Degraded);
    fleet.drain("b");
    trip(&fleet, "b");
    pass(secs(100)).await;
    assert_eq!(shown(&fleet, "a").status, AdminStatus::Degraded);
    assert_eq!(shown(&fleet, "b").status, AdminStatus::Draining);
    // Each opinion is its own: the circuit has recovered all the same.
    assert_eq!(state(&fleet, "b"), CircuitState::HalfOpen);
}

// C41, C43
#[tokio::test(start_paused = true)]
async fn forced_circuits_stay_forced() {
    let (fleet, [a, b]) = fleet();
    broken(&b);
    spawn(&fleet, probes().scope(Scope::All).unhealthy_after(1));
    fleet.switch("a").unwrap().force_open();
    fleet.switch("b").unwrap().force_closed();
    pass(secs(100)).await;
    assert_eq!(state(&fleet, "a"), CircuitState::ForcedOpen);
    assert_eq!((state(&fleet, "b"), shown(&fleet, "b").is_failing), (CircuitState::ForcedClosed, false));
    assert!(a.calls() > 5 && b.calls() > 5);
}

// C41, C43
#[tokio::test(start_paused = true)]
async fn forced_circuits_are_no_work_for_probes_of_open_ones() {
    let (fleet, [a]) = fleet();
    spawn(&fleet, probes());
    trip(&fleet, "a");
    fleet.switch("a").unwrap().force_open();
    pass(HOUR).await;
    assert_eq!((state(&fleet, "a"), a.calls()), (CircuitState::ForcedOpen, 0));
}

// C41: forced closed, failing probes do not count, neither earlier ones nor later ones.
#[tokio::test(start_paused = true)]
async fn forcing_a_circuit_closed_overrules_failing_probes() {
    let (fleet, [a]) = fleet();
    broken(&a);
    spawn(&fleet, probes().scope(Scope::All));
    pass(secs(100)).await;
    assert!(shown(&fleet, "a").is_failing);
    fleet.switch("a").unwrap().force_closed();
    assert!(!shown(&fleet, "a").is_failing);
    pass(secs(100)).await;
    assert!(!shown(&fleet, "a").is_failing);
    // Given back to the rules, they count again.
    fleet.switch("a").unwrap().reset();
    pass(secs(100)).await;
    assert!(shown(&fleet, "a").is_failing);
}

// C43, C71
#[tokio::test(start_paused = true)]
async fn a_backend_that_cools_down_is_not_probed_before_its_time() {
    for scope in [Scope::All, Scope::Out] {
        let (fleet, [a]) = fleet();
        trip(&fleet, "a");
        fleet.cool_down("a", secs(100));
        spawn(&fleet, probes().scope(scope));
        pass(secs(99)).await;
        assert_eq!((a.calls(), state(&fleet, "a")), (0, CircuitState::Open), "{scope:?}");
        pass(secs(2)).await;
        assert_eq!((a.calls(), state(&fleet, "a")), (1, CircuitState::HalfOpen), "{scope:?}");
        // Also if it is ended before.
        trip(&fleet, "a");
        fleet.cool_down("a", HOUR);
        pass(secs(50)).await;
        assert!(fleet.end_cool_down("a"));
        pass(secs(50)).await;
        assert!(a.calls() > 1, "{scope:?}");
    }
}
