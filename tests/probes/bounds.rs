//! Time and number of the probes that run.

use tower_fleet::probe::Scope;

use super::*;
use crate::mock::Readiness;

// C43
#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_delays_no_other() {
    let (fleet, [a, b, c, d]) = fleet();
    a.answer(Answer::Never);
    b.set_readiness(Readiness::Pending);
    c.answer(Answer::Never);
    spawn(&fleet, probes().timeout(secs(600)));
    ["a", "b", "c", "d"].iter().for_each(|name| trip(&fleet, name));
    pass(secs(2)).await;
    assert_eq!(state(&fleet, "d"), CircuitState::HalfOpen);
    assert_eq!((a.running(), c.running(), d.calls()), (1, 1, 1));
}

// C43
#[tokio::test(start_paused = true)]
async fn a_probe_that_takes_too_long_has_failed() {
    let (fleet, [a, b]) = fleet();
    a.answer(Answer::Never);
    b.set_readiness(Readiness::Pending);
    spawn(&fleet, probes().scope(Scope::All));
    pass(secs(40)).await;
    assert!(shown(&fleet, "a").is_failing && shown(&fleet, "b").is_failing);
    assert_eq!((a.most_running(), b.calls()), (1, 0));
}

// C43: also if the interval is shorter than the probe.
#[tokio::test(start_paused = true)]
async fn one_backend_is_never_probed_twice_at_a_time() {
    let (fleet, [a]) = fleet();
    a.answer(Answer::OkAfter(secs(5)));
    spawn(&fleet, probes().scope(Scope::All).interval(secs(1)).timeout(secs(10)));
    pass(secs(60)).await;
    assert_eq!(a.most_running(), 1);
    assert!((11..=12).contains(&a.calls()), "{}", a.calls());
}

// C43
#[tokio::test(start_paused = true)]
async fn no_more_probes_run_than_allowed() {
    let mocks: Vec<_> = (0..100).map(|_| Mock::new("any")).collect();
    let backends = mocks.iter().enumerate().map(|(index, (mock, _))| Backend::new(index.to_string(), mock.clone()));
    let fleet = Fleet::plain().backends(backends).build().unwrap();
    mocks.iter().for_each(|(_, remote)| remote.answer(Answer::Never));
    spawn(&fleet, probes().scope(Scope::All).max_concurrent(2));
    let mut most = 0;
    for _ in 0..2_000 {
        pass(Duration::from_millis(100)).await;
        most = mocks.iter().map(|(_, remote)| remote.running()).sum::<usize>().max(most);
    }
    assert_eq!(most, 2);
    // Two hundred seconds for a hundred backends, two at a time and for a second each: four probes of each.
    let counts = mocks.iter().map(|(_, remote)| remote.calls());
    assert!(counts.clone().all(|calls| (3..=5).contains(&calls)), "{:?}", counts.collect::<Vec<_>>());
    // And though each has its turn only every fifty seconds, none returns meanwhile.
    assert!(fleet.snapshot().iter().all(|backend| backend.is_failing));
    pass(HOUR).await;
    for _ in 0..100 {
        pass(secs(1)).await;
        assert!(fleet.snapshot().iter().all(|backend| backend.is_failing));
    }
}

// C10: a service whose readiness fails is a failed probe.
#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_ready_has_failed() {
    let (fleet, [a]) = fleet();
    a.set_readiness(Readiness::Error);
    spawn(&fleet, probes().scope(Scope::All));
    pass(secs(40)).await;
    assert!(shown(&fleet, "a").is_failing);
    a.set_readiness(Readiness::Ready);
    pass(secs(13)).await;
    assert!(!shown(&fleet, "a").is_failing);
}

// C58
#[tokio::test(start_paused = true)]
async fn invalid_settings_are_refused_before_anything_is_probed() {
    let (fleet, [_]) = fleet();
    let error = fleet.probe(probes().interval(Duration::ZERO)).unwrap_err();
    assert_eq!((error.field(), error.value()), ("interval", "0ns"));
}
