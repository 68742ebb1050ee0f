//! Probes of backends that are not ready yet, in a fleet.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::FutureExt;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::Service;
use tower_fleet::CircuitState;

use crate::{
    Wakes, ask,
    fleet::{door, fleet, in_flight, none_available, state},
    mock::{Answer, Readiness},
    pass, policy, secs,
};

// C10, C38
#[tokio::test(start_paused = true)]
async fn a_pending_probe_holds_up_nobody() {
    let (fleet, remotes) = fleet(policy(), &["a", "b", "c"]);
    let door = door(&fleet, "round_robin");
    fleet.switch("b").unwrap().trip();
    remotes[1].set_readiness(Readiness::Pending);
    pass(secs(30)).await;
    for _ in 0..100 {
        let served = ask(&door).now_or_never().expect("others are ready").unwrap();
        assert_ne!(served, "b");
    }
    assert_eq!(state(&fleet, "b"), CircuitState::HalfOpen);
    assert_eq!(in_flight(&fleet), 0);
    remotes[1].set_readiness(Readiness::Ready);
    assert_eq!(ask(&door).await.unwrap(), "b", "no permit stayed taken");
}

// C1, C10, C38
#[tokio::test(start_paused = true)]
async fn with_no_other_backend_requests_wait_without_permits_and_one_of_them_probes() {
    let (fleet, remotes) = fleet(policy(), &["a"]);
    let mut door = door(&fleet, "round_robin");
    fleet.switch("a").unwrap().trip();
    remotes[0].set_readiness(Readiness::Pending);
    remotes[0].answer(Answer::OkAfter(secs(1)));
    pass(secs(30)).await;
    let other = door.clone();
    let wakes = Arc::new(Wakes::default());
    let waker = wakes.waker();
    let mut cx = Context::from_waker(&waker);
    for _ in 0..100 {
        assert!(door.poll_ready(&mut cx).is_pending());
    }
    assert_eq!(wakes.count(), 0, "waiting wakes no task");
    let mut others: Vec<_> = (0..100).map(|_| task::spawn(ask(&other))).collect();
    others.iter_mut().for_each(|other| assert_pending!(other.poll()));
    assert_eq!(wakes.count(), 0);
    assert!(others.iter().all(|other| !other.is_woken()));
    remotes[0].set_readiness(Readiness::Ready);
    assert!(wakes.count() > 0);
    assert!(matches!(door.poll_ready(&mut cx), Poll::Ready(Ok(()))));
    let mut probe = task::spawn(door.call(()));
    assert_pending!(probe.poll());
    for other in &mut others {
        assert!(other.is_woken());
        let error = other.poll().map(Result::unwrap_err);
        let Poll::Ready(error) = error else { panic!("at once") };
        assert_eq!(none_available(&error), Some(secs(1)));
    }
    assert_eq!(remotes[0].calls(), 1);
    pass(secs(1)).await;
    assert_eq!(assert_ready_ok!(probe.poll()), "a");
    assert_eq!(state(&fleet, "a"), CircuitState::Closed);
}

// C38
#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_when_a_permit_comes_back() {
    let (fleet, remotes) = fleet(policy(), &["a", "b"]);
    let door = door(&fleet, "round_robin");
    fleet.switch("b").unwrap().trip();
    pass(secs(30)).await;
    remotes[1].answer(Answer::Never);
    let mut prober = task::spawn(ask(&door));
    assert_pending!(prober.poll());
    assert_eq!(remotes[1].running(), 1);
    remotes[0].set_readiness(Readiness::Pending);
    remotes[1].answer(Answer::Ok);
    let mut waiting = task::spawn(ask(&door));
    assert_pending!(waiting.poll());
    drop(prober);
    assert!(waiting.is_woken());
    assert_eq!(assert_ready_ok!(waiting.poll()), "b");
}

/// Polls what was woken until nobody is, or for so many rounds; the polls it took.
fn run<F: Future>(tasks: &mut [task::Spawn<F>], most: usize) -> usize {
    let mut polls = 0;
    loop {
        let before = polls;
        for task in tasks.iter_mut() {
            if task.is_woken() {
                polls += 1;
                assert!(task.poll().is_pending());
            }
        }
        if polls == before || polls > most {
            return polls;
        }
    }
}

// C10, C38
#[tokio::test(start_paused = true)]
async fn a_probe_of_one_that_will_not_get_ready_does_not_spin() {
    let (fleet, remotes) = fleet(policy(), &["a", "b"]);
    let door = door(&fleet, "round_robin");
    fleet.switch("b").unwrap().trip();
    remotes[0].set_readiness(Readiness::Pending);
    remotes[1].set_readiness(Readiness::Error);
    let mut waiting: Vec<_> = (0..3).map(|_| task::spawn(ask(&door))).collect();
    for task in &mut waiting {
        assert_pending!(task.poll());
    }
    pass(secs(30)).await;
    let mut late = task::spawn(ask(&door));
    assert_pending!(late.poll());
    waiting.push(late);
    let polls = run(&mut waiting, 1_000);
    assert!(polls < 100, "{polls} polls without an end");
    assert_eq!(state(&fleet, "b"), CircuitState::Open, "a backend that is never ready has failed its probe");
}

// C10, C38
#[tokio::test(start_paused = true)]
async fn many_who_wait_for_everybody_do_not_wake_each_other_for_ever() {
    let (fleet, remotes) = fleet(policy(), &["a", "b", "c"]);
    let door = door(&fleet, "round_robin");
    fleet.switch("b").unwrap().trip();
    fleet.switch("c").unwrap().trip();
    remotes.iter().for_each(|remote| remote.set_readiness(Readiness::Pending));
    pass(secs(30)).await;
    let mut waiting: Vec<_> = (0..20).map(|_| task::spawn(ask(&door))).collect();
    for task in &mut waiting {
        assert_pending!(task.poll());
    }
    let polls = run(&mut waiting, 10_000);
    assert!(polls < 200, "{polls}");
    // Those that wait leave, one after the other.
    while let Some(task) = waiting.pop() {
        drop(task);
        waiting.reverse();
        let polls = run(&mut waiting, 10_000);
        assert!(polls < 200, "{polls}");
    }
    remotes.iter().for_each(|remote| remote.set_readiness(Readiness::Ready));
    ask(&door).await.unwrap();
    ask(&door).await.unwrap();
    assert_eq!((state(&fleet, "b"), state(&fleet, "c")), (CircuitState::Closed, CircuitState::Closed));
}

// C38, C44
#[tokio::test(start_paused = true)]
async fn a_probe_that_waited_too_long_is_not_made_in_another_state() {
    let (fleet, remotes) = fleet(policy(), &["a", "b"]);
    let door = door(&fleet, "round_robin");
    let switch = fleet.switch("b").unwrap();
    switch.trip();
    remotes.iter().for_each(|remote| remote.set_readiness(Readiness::Pending));
    pass(secs(30)).await;
    let mut waiting = task::spawn(ask(&door));
    assert_pending!(waiting.poll());
    switch.reset();
    switch.trip();
    remotes[1].set_readiness(Readiness::Ready);
    if waiting.is_woken() {
        assert_pending!(waiting.poll(), "b is open");
    }
    assert_eq!(remotes[1].calls(), 0);
    remotes[0].set_readiness(Readiness::Ready);
    assert!(waiting.is_woken());
    assert_eq!(assert_ready_ok!(waiting.poll()), "a");
    assert_eq!(in_flight(&fleet), 0);
}

// C38
#[tokio::test(start_paused = true)]
async fn a_request_that_found_another_leaves_the_probe_it_waited_for_to_others() {
    let (fleet, remotes) = fleet(policy(), &["a", "b"]);
    let door = door(&fleet, "round_robin");
    fleet.switch("b").unwrap().trip();
    remotes.iter().for_each(|remote| remote.set_readiness(Readiness::Pending));
    remotes[0].answer(Answer::Never);
    pass(secs(30)).await;
    let mut waiting = task::spawn(ask(&door));
    assert_pending!(waiting.poll());
    remotes[0].set_readiness(Readiness::Ready);
    assert_pending!(waiting.poll());
    assert_eq!(remotes[0].running(), 1);
    remotes[1].set_readiness(Readiness::Ready);
    assert_eq!(ask(&door).await.unwrap(), "b");
}
