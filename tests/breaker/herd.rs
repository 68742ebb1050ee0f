//! Ten thousand that wait: a change wakes those whom it concerns, and a permit one of them.

use std::{
    sync::{Arc, Barrier},
    task::{Context, Poll},
    time::Duration,
};

use tower::{Layer, Service, ServiceExt};
use tower_fleet::{
    AdminStatus, Backend, CircuitBreaker, CircuitPolicy, CircuitState, breaker::Switch, outcome::ErrorsOnly,
};

use crate::{
    Wakes, breaker,
    fleet::{GuardedFleet, door, fleet},
    mock::{Answer, Mock, Readiness, Remote},
    pass, policy, secs, settle,
};

const MANY: usize = 10_000;

/// Services that wait, each polled by a task of its own.
struct Crowd<S>(Vec<(S, Arc<Wakes>, usize)>);

impl<S: Service<()>> Crowd<S> {
    /// Services that are all pending.
    fn waiting(services: impl IntoIterator<Item = S>) -> Self {
        let mut crowd = Self(services.into_iter().map(|service| (service, Arc::default(), 0)).collect());
        assert_eq!((0..crowd.0.len()).filter(|index| crowd.poll(*index)).count(), 0, "all are pending");
        crowd
    }

    /// Whether the service is ready. It has then seen all its wake-ups.
    fn poll(&mut self, index: usize) -> bool {
        let (service, wakes, seen) = &mut self.0[index];
        *seen = wakes.count();
        matches!(service.poll_ready(&mut Context::from_waker(&wakes.waker())), Poll::Ready(Ok(())))
    }

    /// The ones that were woken since they were polled, with the number of their wake-ups.
    fn woken(&self) -> Vec<(usize, usize)> {
        let wakes = self.0.iter().enumerate().map(|(index, (_, wakes, seen))| (index, wakes.count() - seen));
        wakes.filter(|(_, wakes)| *wakes > 0).collect()
    }

    /// Polls the woken ones until none is. Returns the number of polls, and which are ready, in order.
    fn run(&mut self) -> (usize, Vec<usize>) {
        let (mut polls, mut ready) = (0, Vec::new());
        while let woken @ [_, ..] = &self.woken()[..] {
            for (index, _) in woken {
                polls += 1;
                if self.poll(*index) {
                    ready.push(*index);
                }
            }
            assert!(polls < 100 * MANY, "they wake each other for ever");
        }
        ready.sort_unstable();
        (polls, ready)
    }
}

/// All of them once.
fn each_once(count: usize) -> Vec<(usize, usize)> {
    (0..count).map(|index| (index, 1)).collect()
}

type Lone = CircuitBreaker<Mock, ErrorsOnly>;

fn lone(policy: CircuitPolicy) -> (Lone, Switch, Arc<Remote>) {
    let (mock, remote) = Mock::new("orders");
    let service = breaker(policy).waiting().layer(mock);
    let switch = service.switch();
    (service, switch, remote)
}

/// A half-open breaker whose permits are all taken, and the services that hold them.
async fn half_open(probes: u32) -> (Lone, Switch, Vec<Lone>) {
    let (service, switch, _) = lone(policy().probes(probes));
    switch.trip();
    switch.probe_now();
    let mut probers: Vec<_> = (0..probes).map(|_| service.clone()).collect();
    for prober in &mut probers {
        prober.ready().await.unwrap();
    }
    (service, switch, probers)
}

// C38: issue 11.8
#[tokio::test(start_paused = true)]
async fn a_returned_permit_wakes_one_of_ten_thousand_in_the_order_of_their_coming() {
    let (service, _switch, probers) = half_open(1).await;
    let mut crowd = Crowd::waiting((0..MANY).map(|_| service.clone()));
    drop(probers);
    for turn in 0..100 {
        assert_eq!(crowd.woken(), [(turn, 1)], "a permit that was taken wakes none");
        assert_eq!(crowd.run(), (1, vec![turn]));
        // It goes without a call, and its permit comes back.
        crowd.0[turn].0 = service.clone();
    }
}

// C38: issue 11.8
#[tokio::test(start_paused = true)]
async fn as_many_are_woken_as_there_are_permits() {
    let (service, switch, probers) = half_open(3).await;
    let mut crowd = Crowd::waiting((0..MANY).map(|_| service.clone()));
    drop(probers);
    assert_eq!(crowd.woken(), [(0, 1), (1, 1), (2, 1)]);
    let (polls, ready) = crowd.run();
    // Each that takes one of several free permits wakes the next.
    assert!(polls <= 5 && ready == [0, 1, 2], "{polls} polls, {ready:?} ready");
    switch.trip();
    assert_eq!(crowd.run(), (1, vec![]), "for the new end of the open time");
    switch.probe_now();
    assert_eq!(crowd.woken(), [(3, 1)]);
    assert_eq!(crowd.run(), (3, vec![3, 4, 5]));
}

// C35, C41: issue 11.8
#[tokio::test(start_paused = true)]
async fn a_closing_wakes_each_once_and_a_forced_opening_none() {
    for close in [Switch::reset, Switch::force_closed] {
        let (service, switch, _probers) = half_open(1).await;
        let mut crowd = Crowd::waiting((0..MANY).map(|_| service.clone()));
        switch.force_open();
        assert_eq!(crowd.woken(), []);
        close(&switch);
        assert_eq!(crowd.woken(), each_once(MANY));
        let (polls, ready) = crowd.run();
        assert_eq!((polls, ready.len()), (MANY, MANY));
    }
    // A probe that succeeds.
    let (service, switch, mut probers) = half_open(1).await;
    let crowd = Crowd::waiting((0..MANY).map(|_| service.clone()));
    probers[0].call(()).await.unwrap();
    assert_eq!((crowd.woken(), switch.state()), (each_once(MANY), CircuitState::Closed));
}

// C20, C38: issue 11.8
#[tokio::test(start_paused = true)]
async fn one_that_leaves_before_it_used_its_wake_up_passes_it_on() {
    let (service, _switch, probers) = half_open(1).await;
    let mut crowd = Crowd::waiting((0..MANY).map(|_| service.clone()));
    drop(probers);
    for gone in 0..100 {
        assert_eq!(crowd.woken(), [(0, 1)], "after {gone} have left");
        crowd.0.remove(0);
    }
    // One that was not woken takes nothing along.
    crowd.0.remove(1);
    assert_eq!(crowd.run(), (1, vec![0]));
}

// C38: issue 11.8
#[tokio::test(start_paused = true)]
async fn some_that_are_kept_and_never_polled_again_delay_the_others_by_a_second_at_most() {
    let (service, switch, probers) = half_open(1).await;
    let abandoned = Crowd::waiting((0..100).map(|_| service.clone()));
    let mut crowd = Crowd::waiting((0..MANY).map(|_| service.clone()));
    drop(probers);
    assert_eq!((abandoned.woken(), crowd.woken()), (vec![(0, 1)], vec![]));
    let began = tokio::time::Instant::now();
    while crowd.woken().is_empty() {
        pass(Duration::from_millis(1)).await;
    }
    assert!(began.elapsed() <= secs(1), "{:?}", began.elapsed());
    assert_eq!(crowd.run().1.len(), 1);
    assert_eq!(switch.state(), CircuitState::HalfOpen);
    // Nor is the check of those that wait in vain a herd: its polls are spread over time.
    for _ in 0..3_000 {
        pass(Duration::from_millis(1)).await;
        let (polls, ready) = crowd.run();
        assert!(polls <= MANY / 100 && ready.is_empty(), "{polls} polls within a millisecond");
    }
}

// C40: issue 11.8
#[tokio::test(start_paused = true)]
async fn the_end_of_the_open_time_wakes_the_first_in_time_and_the_others_within_a_second() {
    let (service, switch, _) = lone(policy());
    switch.trip();
    let mut crowd = Crowd::waiting((0..MANY).map(|_| service.clone()));
    pass(secs(30) - Duration::from_millis(1)).await;
    settle().await;
    assert_eq!(crowd.woken(), []);
    pass(Duration::from_millis(1)).await;
    settle().await;
    assert_eq!(crowd.woken().first(), Some(&(0, 1)));
    let (polls, ready) = crowd.run();
    assert!(polls <= 11 && ready == [0], "{polls} polls, {ready:?} ready");
    // Those that wait on poll once in a while, evenly spread.
    for _ in 0..1_000 {
        pass(Duration::from_millis(1)).await;
        settle().await;
        let (polls, ready) = crowd.run();
        assert!(polls <= MANY / 100 && ready.is_empty(), "{polls} polls within a millisecond");
    }
}

// C20, C38: issue 11.8
#[test]
fn no_permit_is_lost_while_waiters_come_and_go_on_several_threads() {
    // Its time stands still: what is not woken is lost.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _inside = runtime.enter();
    for round in 0..300 {
        let probes = 1 + round % 3;
        let (service, _switch, probers) = futures::executor::block_on(half_open(probes));
        let barrier = Barrier::new(5);
        let mut patient = std::thread::scope(|scope| {
            let storm = |thread| {
                let (service, handle, barrier) = (service.clone(), runtime.handle(), &barrier);
                scope.spawn(move || {
                    let _inside = handle.enter();
                    let mut rng = fastrand::Rng::with_seed(u64::from(round * 4 + thread));
                    // Some come before the patient ones, some after them.
                    let mut waiting: Vec<_> = Crowd::waiting((0..8).map(|_| service.clone())).0;
                    barrier.wait();
                    barrier.wait();
                    for _ in 0..rng.usize(..12) {
                        if waiting.len() < 8 {
                            waiting.push((service.clone(), Arc::default(), 0));
                        }
                        let index = rng.usize(..waiting.len());
                        let (service, wakes, _) = &mut waiting[index];
                        let is_polled = rng.u32(..4) == 0;
                        if !is_polled || service.poll_ready(&mut Context::from_waker(&wakes.waker())).is_ready() {
                            // With a permit, or with a wake-up that it did not use.
                            waiting.swap_remove(index);
                        }
                    }
                });
            };
            (0..4).for_each(storm);
            barrier.wait();
            let patient = Crowd::waiting((0..50).map(|_| service.clone()));
            barrier.wait();
            drop(probers);
            patient
        });
        // Only those that are woken are polled.
        while let ready @ [_, ..] = &patient.run().1[..] {
            for index in ready.iter().rev() {
                patient.0.remove(*index);
            }
        }
        assert_eq!(patient.0.len(), 0, "wait for ever, round {round}");
    }
}

/// A fleet of `a`, which is pending, and `b`, whose only permit is taken by the returned door.
async fn with_probe() -> (GuardedFleet, Vec<Arc<Remote>>, impl Future<Output = ()>) {
    let (fleet, remotes) = fleet(policy(), &["a", "b"]);
    fleet.switch("b").unwrap().trip();
    fleet.switch("b").unwrap().probe_now();
    remotes[1].answer(Answer::Never);
    let mut probe = tokio_test::task::spawn(door(&fleet, "round_robin").oneshot(()));
    assert!(probe.poll().is_pending());
    assert_eq!(remotes[1].running(), 1);
    remotes[1].answer(Answer::Ok);
    remotes[0].set_readiness(Readiness::Pending);
    (fleet, remotes, async move { drop(probe) })
}

// C10, C38: issue 11.8
#[tokio::test(start_paused = true)]
async fn of_ten_thousand_doors_a_returned_permit_wakes_one() {
    let (fleet, remotes, probe) = with_probe().await;
    let first = door(&fleet, "round_robin");
    let mut crowd = Crowd::waiting((0..MANY).map(|_| first.clone()));
    probe.await;
    for turn in 0..100 {
        assert_eq!(crowd.woken(), [(turn, 1)]);
        assert_eq!(crowd.run(), (1, vec![turn]));
        remotes[1].answer(Answer::Never);
        let mut probe = tokio_test::task::spawn(crowd.0[turn].0.call(()));
        assert!(probe.poll().is_pending());
        assert_eq!(crowd.woken(), [], "a permit that was taken wakes none");
        drop(probe);
    }
}

// C11: issue 11.8
#[tokio::test(start_paused = true)]
async fn of_ten_thousand_doors_a_change_wakes_those_it_concerns() {
    let (fleet, remotes, probe) = with_probe().await;
    let first = door(&fleet, "round_robin");
    let mut crowd = Crowd::waiting((0..MANY).map(|_| first.clone()));
    // Nothing of this makes another backend eligible.
    fleet.set_weight("a", 7).unwrap();
    fleet.set_timeout("a", secs(9)).unwrap();
    fleet.set_weight("b", 3).unwrap();
    fleet.insert(Backend::new("c", Mock::new("c").0).status(AdminStatus::Draining)).unwrap();
    fleet.set_weight("c", 3).unwrap();
    fleet.cool_down("c", secs(5));
    fleet.remove("c");
    fleet.switch("b").unwrap().force_open();
    assert_eq!(crowd.woken(), []);
    let b = || fleet.switch("b").unwrap();
    // Each of these does, or moves one to another tier.
    let pending = Mock::new("d");
    pending.1.set_readiness(Readiness::Pending);
    remotes[1].set_readiness(Readiness::Pending);
    let changes: [(&str, &dyn Fn()); 8] = [
        ("closed", &|| b().reset()),
        ("opened", &|| b().trip()),
        ("forced", &|| b().force_closed()),
        ("drained", &|| assert!(fleet.drain("b"))),
        ("restored", &|| assert!(fleet.set_status("b", AdminStatus::Healthy))),
        ("cools", &|| assert!(fleet.cool_down("b", secs(5)))),
        ("inserted", &|| fleet.insert(Backend::new("d", pending.0.clone())).unwrap()),
        ("moved", &|| assert!(fleet.set_priority("d", 1))),
    ];
    for (change, make) in changes {
        make();
        assert_eq!(crowd.woken(), each_once(MANY), "{change}");
        assert_eq!(crowd.run(), (MANY, vec![]), "{change}: and none of them wakes another");
    }
    // The last pending ones go: the requests are to fail at once.
    for (name, left) in [("d", MANY), ("a", MANY)] {
        assert!(fleet.remove(name));
        assert_eq!(crowd.woken(), each_once(left), "{name}");
        let (polls, ready) = crowd.run();
        assert_eq!((polls, ready.len()), (MANY, if name == "a" { MANY } else { 0 }));
    }
    probe.await;
}

// C38: issue 11.8
#[tokio::test(start_paused = true)]
async fn a_door_that_leaves_before_it_used_its_wake_up_passes_it_on_and_a_kept_one_holds_up_nobody() {
    let (fleet, _remotes, probe) = with_probe().await;
    let first = door(&fleet, "round_robin");
    let mut crowd = Crowd::waiting((0..1_000).map(|_| first.clone()));
    probe.await;
    for _ in 0..10 {
        assert_eq!(crowd.woken(), [(0, 1)]);
        crowd.0.remove(0);
    }
    // Kept, and never polled again.
    let mut others = Crowd(crowd.0.split_off(1));
    assert_eq!((crowd.woken(), others.woken()), (vec![(0, 1)], vec![]));
    pass(secs(1)).await;
    let (_, ready) = others.run();
    assert!(!ready.is_empty());
    drop(crowd);
}

// C40, C71: issue 11.8
#[tokio::test(start_paused = true)]
async fn doors_learn_of_an_earlier_deadline() {
    let (fleet, remotes) = fleet(policy(), &["a", "b"]);
    remotes[0].set_readiness(Readiness::Pending);
    let b = fleet.switch("b").unwrap();
    b.trip();
    fleet.drain("b");
    let first = door(&fleet, "round_robin");
    let mut crowd = Crowd::waiting((0..100).map(|_| first.clone()));
    // No door has a timer: nothing is due while the operator keeps `b` out.
    fleet.set_status("b", AdminStatus::Healthy);
    assert_eq!(crowd.run(), (100, vec![]));
    pass(secs(30)).await;
    settle().await;
    assert_eq!(crowd.woken().first(), Some(&(0, 1)));
    let (polls, ready) = crowd.run();
    assert!(polls <= 2 && ready[0] == 0, "{polls} polls, {ready:?} ready");
}
