//! A circuit around each backend of a fleet.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::{FutureExt, StreamExt};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt};
use tower_fleet::{
    AdminStatus, Backend, Balance, BalanceLayer, CircuitPolicy, CircuitState, Fleet,
    balance::{Error, ErrorKind},
    breaker::CircuitOpen,
    fleet::Change,
    outcome::ErrorsOnly,
    pick::{AnyStrategy, StrategyName},
};

use crate::{
    ask,
    mock::{Answer, Mock, Remote},
    pass, policy, secs, settle,
};

pub(crate) type GuardedFleet = Fleet<Mock, ErrorsOnly>;
pub(crate) type Door = Balance<Mock, AnyStrategy, ErrorsOnly>;

pub(crate) fn fleet(policy: CircuitPolicy, names: &[&'static str]) -> (GuardedFleet, Vec<Arc<Remote>>) {
    let (mocks, remotes): (Vec<_>, Vec<_>) = names.iter().copied().map(Mock::new).unzip();
    let backends = names.iter().zip(mocks).map(|(name, mock)| Backend::new(*name, mock));
    (Fleet::plain().circuit_breaker(policy).backends(backends).build().unwrap(), remotes)
}

pub(crate) fn door(fleet: &GuardedFleet, strategy: &str) -> Door {
    let strategy: StrategyName = strategy.parse().unwrap();
    BalanceLayer::named(strategy).expect("a name is enough").layer(fleet.clone())
}

pub(crate) fn state(fleet: &GuardedFleet, name: &str) -> CircuitState {
    fleet.snapshot().into_iter().find(|backend| backend.name == name).unwrap().state
}

pub(crate) fn in_flight(fleet: &GuardedFleet) -> usize {
    fleet.snapshot().iter().map(|backend| backend.in_flight).sum()
}

pub(crate) fn none_available(error: &Error) -> Option<std::time::Duration> {
    match error.kind() {
        ErrorKind::NoneAvailable { retry_after, .. } => *retry_after,
        _ => panic!("{error:?}"),
    }
}

const STRATEGIES: [&str; 3] = ["round_robin", "shuffle", "weighted_round_robin"];

// C36, C44
#[tokio::test(start_paused = true)]
async fn a_failing_backend_costs_its_threshold_and_what_was_on_its_way() {
    for strategy in STRATEGIES {
        let (fleet, remotes) = fleet(policy(), &["a", "bad", "c"]);
        let door = door(&fleet, strategy);
        remotes[0].answer(Answer::OkAfter(std::time::Duration::from_millis(1)));
        remotes[1].answer(Answer::Error);
        const CALLERS: usize = 50;
        let callers = (0..CALLERS).map(|_| async {
            let mut errors = 0;
            for _ in 0..200 {
                errors += usize::from(ask(&door).await.is_err());
            }
            errors
        });
        let errors: usize = futures::future::join_all(callers).await.into_iter().sum();
        assert!((5..=5 + CALLERS).contains(&errors), "{strategy}: {errors}");
        assert_eq!(errors, 5, "{strategy}: nothing is on its way to one that fails at once");
        assert_eq!(remotes.iter().map(|remote| remote.calls()).sum::<usize>(), 10_000);
        assert_eq!(remotes[1].calls(), 5);
        assert_eq!(in_flight(&fleet), 0);
    }
}

// C36, C44
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_does_it_cost_more_on_many_threads() {
    for strategy in STRATEGIES {
        let (fleet, remotes) = fleet(policy(), &["a", "bad", "c"]);
        let door = door(&fleet, strategy);
        remotes[1].answer(Answer::Error);
        const CALLERS: usize = 16;
        let strange = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (door, strange) = (door.clone(), Arc::clone(&strange));
                tokio::spawn(async move {
                    let mut errors = 0;
                    for _ in 0..10_000 / CALLERS {
                        if let Err(error) = ask(&door).await {
                            errors += 1;
                            let failed =
                                matches!(error.kind(), ErrorKind::Failed { source, .. } if !source.is::<CircuitOpen>());
                            strange.fetch_add(usize::from(!failed), Ordering::Relaxed);
                        }
                        tokio::task::yield_now().await;
                    }
                    errors
                })
            })
            .collect();
        let mut errors = 0;
        for caller in callers {
            errors += caller.await.unwrap();
        }
        println!("{strategy}: {errors} errors in 10,000 requests of {CALLERS} callers");
        assert!((5..=5 + CALLERS).contains(&errors), "{strategy}: {errors}");
        assert_eq!(strange.load(Ordering::Relaxed), 0, "only its own errors");
        assert_eq!(in_flight(&fleet), 0);
    }
}

// C1, C44
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_everybody_goes_down_on_many_threads_callers_see_that_or_why() {
    for _ in 0..200 {
        let (fleet, remotes) = fleet(policy().consecutive(1), &["a", "b"]);
        remotes.iter().for_each(|remote| remote.answer(Answer::Error));
        let door = door(&fleet, "round_robin");
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let door = door.clone();
                tokio::spawn(async move {
                    for _ in 0..20 {
                        let error = ask(&door).await.unwrap_err();
                        let expected = match error.kind() {
                            ErrorKind::Failed { source, .. } => !source.is::<CircuitOpen>(),
                            ErrorKind::NoneAvailable { .. } => true,
                            _ => false,
                        };
                        assert!(expected, "{error:?}");
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
    }
}

// C38, C44
#[tokio::test(start_paused = true)]
async fn an_open_backend_is_not_picked_and_recovers_by_itself() {
    for strategy in STRATEGIES {
        let (fleet, remotes) = fleet(policy(), &["a", "b", "c"]);
        let door = door(&fleet, strategy);
        fleet.switch("b").unwrap().trip();
        for _ in 0..999 {
            assert_ne!(ask(&door).await.unwrap(), "b");
        }
        pass(secs(30)).await;
        assert_eq!(state(&fleet, "b"), CircuitState::HalfOpen);
        assert_eq!(ask(&door).await.unwrap(), "b", "{strategy}: the next request is the probe");
        assert_eq!(state(&fleet, "b"), CircuitState::Closed);
        for _ in 0..300 {
            ask(&door).await.unwrap();
        }
        let again = remotes[1].calls();
        assert!((100..=102).contains(&again), "{strategy}: {again}");
    }
}

// C38
#[tokio::test(start_paused = true)]
async fn it_gets_one_probe_at_a_time_and_the_others_serve_on() {
    for probes in [1, 3] {
        let (fleet, remotes) = fleet(policy().probes(probes), &["a", "b"]);
        let door = door(&fleet, "round_robin");
        fleet.switch("b").unwrap().trip();
        remotes[1].answer(Answer::Never);
        pass(secs(30)).await;
        let callers: Vec<_> = (0..500)
            .map(|_| {
                let door = door.clone();
                tokio::spawn(async move { ask(&door).await.map(drop) })
            })
            .collect();
        settle().await;
        assert_eq!(callers.iter().filter(|caller| caller.is_finished()).count(), 500 - probes as usize);
        assert_eq!(remotes[1].running(), probes as usize);
        assert_eq!(in_flight(&fleet), probes as usize);
        // A hanging probe passes its permit on in time.
        pass(secs(60)).await;
        remotes[1].answer(Answer::Ok);
        assert_eq!(ask(&door).await.unwrap(), "b");
        assert_eq!(state(&fleet, "b"), CircuitState::Closed);
        callers.iter().for_each(tokio::task::JoinHandle::abort);
        settle().await;
        assert_eq!(in_flight(&fleet), 0);
    }
}

// C20, C38
#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_is_made_by_the_next_request() {
    let (fleet, remotes) = fleet(policy(), &["a", "b"]);
    let mut door = door(&fleet, "round_robin");
    fleet.switch("b").unwrap().trip();
    pass(secs(30)).await;
    remotes[1].answer(Answer::Never);
    for _ in 0..10 {
        // Held ready, and dropped without a call: neither in flight, nor with a permit.
        let mut idle = door.clone();
        idle.ready().await.unwrap();
        assert_eq!((in_flight(&fleet), remotes[1].instances()), (0, 2));
        // Called, and dropped while it runs.
        let mut probe = task::spawn(ask(&door));
        assert_pending!(probe.poll());
        assert_eq!((remotes[1].running(), in_flight(&fleet)), (1, 1));
        drop(idle);
        assert_eq!((remotes[1].running(), in_flight(&fleet)), (1, 1));
        drop(probe);
        assert_eq!((remotes[1].running(), in_flight(&fleet)), (0, 0));
    }
    remotes[1].answer(Answer::Ok);
    assert_eq!(door.ready().await.unwrap().call(()).await.unwrap(), "b");
    assert_eq!(state(&fleet, "b"), CircuitState::Closed);
}

// C11, C38
#[tokio::test(start_paused = true)]
async fn of_two_doors_that_hold_a_due_backend_the_first_to_call_makes_the_probe() {
    let (fleet, remotes) = fleet(policy(), &["a", "b"]);
    let door = door(&fleet, "round_robin");
    fleet.switch("b").unwrap().trip();
    pass(secs(30)).await;
    remotes[1].answer(Answer::OkAfter(secs(1)));
    let (mut one, mut other) = (door.clone(), door.clone());
    one.ready().await.unwrap();
    other.ready().await.unwrap();
    assert_eq!(remotes[1].instances(), 3, "the fleet's, and one for each door");
    let mut probe = task::spawn(other.call(()));
    assert_pending!(probe.poll());
    assert_eq!(one.call(()).await.unwrap(), "a");
    assert_eq!((remotes[1].calls(), state(&fleet, "b")), (1, CircuitState::HalfOpen));
    pass(secs(1)).await;
    assert_eq!(probe.await.unwrap(), "b");
    assert_eq!(state(&fleet, "b"), CircuitState::Closed);
}

// C38, C44
#[tokio::test(start_paused = true)]
async fn a_door_that_idles_with_a_probe_in_hand_does_not_use_it_too_late() {
    let (fleet, remotes) = fleet(policy(), &["a", "b"]);
    let door = door(&fleet, "round_robin");
    fleet.switch("b").unwrap().trip();
    pass(secs(30)).await;
    let mut idle = door.clone();
    idle.ready().await.unwrap();
    pass(secs(60)).await;
    // The probe of another request has failed meanwhile.
    remotes[1].answer(Answer::Error);
    ask(&door).await.unwrap_err();
    assert_eq!((state(&fleet, "b"), remotes[1].calls()), (CircuitState::Open, 1));
    assert_eq!(idle.call(()).await.unwrap(), "a");
    assert_eq!(remotes[1].calls(), 1);
}

// C39
#[tokio::test(start_paused = true)]
async fn a_call_through_an_idle_door_counts_in_the_state_in_which_it_begins() {
    let (fleet, remotes) = fleet(policy().consecutive(1), &["a"]);
    let mut idle = door(&fleet, "round_robin");
    idle.ready().await.unwrap();
    let switch = fleet.switch("a").unwrap();
    switch.trip();
    switch.reset();
    remotes[0].answer(Answer::Error);
    idle.call(()).await.unwrap_err();
    assert_eq!(switch.state(), CircuitState::Open);
}

// C1
#[tokio::test(start_paused = true)]
async fn with_everybody_open_the_answer_is_at_once_and_says_until_when() {
    let (fleet, remotes) = fleet(policy(), &["a", "b", "c"]);
    let door = door(&fleet, "round_robin");
    fleet.switch("b").unwrap().trip();
    pass(secs(10)).await;
    fleet.switch("a").unwrap().trip();
    fleet.switch("c").unwrap().force_open();
    pass(secs(2)).await;
    let answer = || ask(&door).now_or_never().expect("at once").unwrap_err();
    assert_eq!(none_available(&answer()), Some(secs(18)));
    fleet.set_status("b", AdminStatus::Degraded);
    assert_eq!(none_available(&answer()), Some(secs(28)), "of those that an operator has not taken out");
    fleet.switch("a").unwrap().force_open();
    assert_eq!(none_available(&answer()), None);
    assert!(remotes.iter().all(|remote| remote.calls() == 0));
    fleet.set_status("b", AdminStatus::Healthy);
    pass(secs(18)).await;
    assert_eq!(ask(&door).await.unwrap(), "b");
}

// C11
#[tokio::test(start_paused = true)]
async fn those_who_come_later_are_guarded_too() {
    let (fleet, _remotes) = fleet(policy(), &["a"]);
    let door = door(&fleet, "round_robin");
    let (mock, late) = Mock::new("late");
    late.answer(Answer::Error);
    fleet.insert(Backend::new("late", mock)).unwrap();
    for _ in 0..100 {
        let _ = ask(&door).await;
    }
    assert_eq!((late.calls(), state(&fleet, "late")), (5, CircuitState::Open));

    let (mock, replacement) = Mock::new("late");
    replacement.answer(Answer::Error);
    let old = fleet.switch("late").unwrap();
    fleet.replace(Backend::new("late", mock)).unwrap();
    assert_eq!(state(&fleet, "late"), CircuitState::Closed, "nothing that was believed goes over");
    for _ in 0..100 {
        let _ = ask(&door).await;
    }
    assert_eq!((late.calls(), replacement.calls(), state(&fleet, "late")), (5, 5, CircuitState::Open));
    old.reset();
    assert_eq!(state(&fleet, "late"), CircuitState::Open, "the handle of the old one turns nothing here");
    assert!(fleet.switch("nobody").is_none());
}

// C41
#[tokio::test(start_paused = true)]
async fn an_operators_word_stands_above_the_circuit() {
    let (fleet, remotes) = fleet(policy(), &["a", "b"]);
    let door = door(&fleet, "round_robin");
    fleet.switch("b").unwrap().trip();
    fleet.set_status("b", AdminStatus::Degraded);
    pass(secs(30)).await;
    for _ in 0..20 {
        ask(&door).await.unwrap();
    }
    assert_eq!(remotes[1].calls(), 0, "neither served nor probed");
    fleet.set_status("b", AdminStatus::Healthy);
    assert_eq!(ask(&door).await.unwrap(), "b");
    fleet.switch("a").unwrap().force_closed();
    fleet.drain("a");
    for _ in 0..20 {
        assert_eq!(ask(&door).await.unwrap(), "b");
    }
}

// C41
#[tokio::test(start_paused = true)]
async fn changes_tell_of_circuits_in_order() {
    let (fleet, remotes) = fleet(policy().consecutive(1), &["a", "b"]);
    let door = door(&fleet, "round_robin");
    let mut changes = fleet.changes();
    remotes[1].answer(Answer::Error);
    for _ in 0..2 {
        let _ = ask(&door).await;
    }
    pass(secs(30)).await;
    remotes[1].answer(Answer::Ok);
    ask(&door).await.unwrap();
    let mut states = Vec::new();
    while let Some(Some(Change::Circuit(name, transition))) = changes.next().now_or_never() {
        assert_eq!(name, "b");
        states.push((transition.from, transition.to));
    }
    use CircuitState::{Closed, HalfOpen, Open};
    assert_eq!(states, [(Closed, Open), (Open, HalfOpen), (HalfOpen, Closed)]);
}

// C11, C41
#[tokio::test(start_paused = true)]
async fn nothing_is_told_of_the_circuit_of_one_who_left() {
    let (fleet, remotes) = fleet(policy().consecutive(1), &["a", "b"]);
    let door = door(&fleet, "round_robin");
    remotes.iter().for_each(|remote| remote.answer(Answer::ErrorAfter(secs(1))));
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let door = door.clone();
            tokio::spawn(async move { ask(&door).await.unwrap_err() })
        })
        .collect();
    settle().await;
    fleet.remove("a");
    fleet.replace(Backend::new("b", Mock::new("b").0)).unwrap();
    let mut changes = fleet.changes();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(changes.next().now_or_never(), None);
    assert_eq!(state(&fleet, "b"), CircuitState::Closed);
}

// C11
#[tokio::test(start_paused = true)]
async fn a_backend_that_left_is_freed_with_its_last_request() {
    let (fleet, remotes) = fleet(policy(), &["a", "b"]);
    let token = Arc::new(());
    let watch = Arc::downgrade(&token);
    let service = tower::service_fn(move |()| {
        let _token = Arc::clone(&token);
        std::future::pending::<Result<&'static str, tower::BoxError>>()
    });
    let other = Fleet::plain().circuit_breaker(policy()).backend(Backend::new("x", service)).build().unwrap();
    let other_door = BalanceLayer::round_robin().layer(other.clone());
    let mut call = task::spawn(ask(&other_door));
    assert_pending!(call.poll());
    let switch = other.switch("x").unwrap();
    switch.trip();
    assert!(other.remove("x"));
    assert!(watch.upgrade().is_some());
    drop(call);
    assert!(watch.upgrade().is_none(), "neither a switch nor an idle door keeps it");
    assert_eq!(switch.state(), CircuitState::Open);

    let door = door(&fleet, "round_robin");
    fleet.switch("b").unwrap().trip();
    pass(secs(30)).await;
    let mut idle = door.clone();
    idle.ready().await.unwrap();
    fleet.remove("b");
    assert_eq!(idle.call(()).await.unwrap(), "a");
    assert_eq!(remotes[1].instances(), 0);
    drop((door, idle, fleet));
    assert_eq!(remotes[0].instances(), 0);
}

// C37
#[tokio::test(start_paused = true)]
async fn a_panicking_backend_is_counted_and_given_up() {
    let (fleet, remotes) = fleet(policy(), &["a", "b"]);
    let door = door(&fleet, "round_robin");
    let mut panics = 0;
    for round in 0..100 {
        remotes[1].answer(if round % 2 == 0 { Answer::Panic } else { Answer::PanicInCall });
        let door = door.clone();
        panics += usize::from(tokio::spawn(async move { ask(&door).await.unwrap() }).await.is_err());
    }
    assert_eq!((panics, state(&fleet, "b")), (5, CircuitState::Open));
    assert_eq!(in_flight(&fleet), 0);
}
