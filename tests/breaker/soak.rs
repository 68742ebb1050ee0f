//! Everything at once, at random.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use futures::{FutureExt, StreamExt};
use tokio::task::JoinHandle;
use tower_fleet::{
    AdminStatus, Backend, CircuitState, Fleet,
    balance::{Error, ErrorKind},
    breaker::CircuitOpen,
    fleet::Change,
};

use crate::{
    ask,
    fleet::{GuardedFleet, door, in_flight},
    mock::{Answer, Mock, Readiness, Remote},
    pass, policy, secs, settle,
};

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const REQUESTS: usize = 100_000;
const BATCH: usize = 50;

/// The remotes that were ever part of the fleet, by name; the last one is the present one.
struct World {
    fleet: GuardedFleet,
    remotes: Vec<Vec<Arc<Remote>>>,
    rng: Rng,
}

impl World {
    fn backend(&mut self, index: usize) -> Backend<Mock> {
        let (mock, remote) = Mock::new(NAMES[index]);
        self.remotes[index].push(remote);
        let backend = Backend::new(NAMES[index], mock).weight(self.rng.u32(1..5)).priority(self.rng.i32(0..2));
        if self.rng.bool() { backend.timeout(Duration::from_millis(self.rng.u64(1..3_000))) } else { backend }
    }

    fn remote(&mut self) -> Option<&Arc<Remote>> {
        let index = self.rng.usize(..NAMES.len());
        self.remotes[index].last()
    }

    fn millis(&mut self) -> Duration {
        Duration::from_millis(self.rng.u64(..2_000))
    }

    /// Something happens to a backend, or to who is there.
    fn upset(&mut self) {
        let index = self.rng.usize(..NAMES.len());
        let name = NAMES[index];
        match self.rng.u32(..20) {
            0 => drop(self.fleet.remove(name)),
            1 | 2 => {
                let backend = self.backend(index);
                if self.fleet.insert(backend).is_err() {
                    self.remotes[index].pop();
                }
            }
            3 => {
                let backend = self.backend(index);
                if self.fleet.replace(backend).is_err() {
                    self.remotes[index].pop();
                }
            }
            4 => drop(self.fleet.set_status(name, AdminStatus::Degraded)),
            5 | 6 => drop(self.fleet.set_status(name, AdminStatus::Healthy)),
            7 => drop(self.fleet.set_priority(name, self.rng.i32(0..2))),
            8 => drop(self.fleet.set_weight(name, self.rng.u32(1..5))),
            9 => {
                if let Some(switch) = self.fleet.switch(name) {
                    match self.rng.u32(..6) {
                        0 => switch.force_open(),
                        1 => switch.force_closed(),
                        2 => switch.trip(),
                        3 => switch.probe_now(),
                        _ => switch.reset(),
                    }
                }
            }
            10 => {
                let readiness = *self.rng.choice(&[Readiness::Ready, Readiness::Pending, Readiness::Error]).unwrap();
                self.remote().inspect(|remote| remote.set_readiness(readiness));
            }
            11 | 12 => drop(self.remote().inspect(|remote| remote.set_readiness(Readiness::Ready))),
            _ => {
                let answer = match self.rng.u32(..8) {
                    0 | 1 => Answer::Ok,
                    2 => Answer::Error,
                    3 => Answer::Never,
                    4 => Answer::Panic,
                    5 => Answer::PanicInCall,
                    6 => Answer::OkAfter(self.millis()),
                    _ => Answer::ErrorAfter(self.millis()),
                };
                self.remote().inspect(|remote| remote.answer(answer));
            }
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    served: usize,
    failed: usize,
    late: usize,
    none: usize,
    unready: usize,
    panicked: usize,
    left: usize,
}

impl Seen {
    fn note(&mut self, result: Result<Result<&'static str, Error>, tokio::task::JoinError>) {
        *match result {
            Ok(Ok(_)) => &mut self.served,
            Ok(Err(error)) => match error.kind() {
                ErrorKind::Failed { source, .. } => {
                    assert!(!source.is::<CircuitOpen>(), "{error:?}");
                    &mut self.failed
                }
                ErrorKind::Timeout { .. } => &mut self.late,
                ErrorKind::NoBackends | ErrorKind::NoneAvailable { .. } => &mut self.none,
                ErrorKind::NotReady { source, .. } => {
                    assert!(!source.is::<CircuitOpen>(), "{error:?}");
                    &mut self.unready
                }
                _ => panic!("{error:?}"),
            },
            Err(error) if error.is_panic() => {
                let message = error.into_panic();
                let message = message.downcast_ref::<String>().expect("a message");
                assert!(message.contains("panics"), "{message}");
                &mut self.panicked
            }
            Err(_) => &mut self.left,
        } += 1;
    }
}

// C20, C38, C58
#[tokio::test(start_paused = true)]
async fn whatever_happens_nothing_is_lost_and_everybody_recovers() {
    std::panic::set_hook(Box::new({
        let usual = std::panic::take_hook();
        move |info| {
            // Those that are ordered would fill the screen.
            if !info.payload_as_str().is_some_and(|message| message.contains(" panics")) {
                usual(info);
            }
        }
    }));
    for (seed, strategy) in [(1, "round_robin"), (2, "shuffle"), (3, "weighted_round_robin")] {
        fastrand::seed(seed);
        soak(seed, strategy).await;
    }
}

async fn soak(seed: u64, strategy: &str) {
    let mut builder = Fleet::plain().circuit_breaker(policy().consecutive(3).probes(2).growth(2.0).jitter(0.1));
    if seed == 2 {
        builder = builder.max_ejected(0.5);
    } else if seed == 3 {
        builder = builder.panic_below(0.3);
    }
    let fleet = builder.build().unwrap();
    let mut world = World { fleet: fleet.clone(), remotes: vec![Vec::new(); NAMES.len()], rng: Rng::with_seed(seed) };
    for index in 0..NAMES.len() {
        let backend = world.backend(index);
        fleet.insert(backend).unwrap();
    }
    let door = door(&fleet, strategy);
    let mut changes = fleet.changes();
    let (mut seen, mut circuits) = (Seen::default(), 0);
    let mut running: Vec<JoinHandle<_>> = Vec::new();
    for _ in 0..REQUESTS / BATCH / 3 {
        for _ in 0..BATCH {
            let door = door.clone();
            running.push(tokio::spawn(async move { ask(&door).await }));
            if world.rng.u32(..10) == 0 {
                world.upset();
            }
            if world.rng.u32(..4) == 0 {
                tokio::task::yield_now().await;
            }
        }
        pass(Duration::from_millis(world.rng.u64(..200))).await;
        if world.rng.u32(..50) == 0 {
            pass(secs(world.rng.u64(..100))).await;
        }
        // Some leave, the oldest for certain.
        let excess = running.len().saturating_sub(400);
        running.iter().take(excess).for_each(JoinHandle::abort);
        for _ in 0..BATCH / 10 {
            let index = world.rng.usize(..running.len());
            running[index].abort();
        }
        settle().await;
        let (done, still): (Vec<_>, Vec<_>) = running.drain(..).partition(|call| call.is_finished());
        running = still;
        for call in done {
            seen.note(call.await);
        }
        while let Some(Some(change)) = changes.next().now_or_never() {
            circuits += usize::from(matches!(change, Change::Circuit(..)));
        }
    }
    running.iter().for_each(JoinHandle::abort);
    for call in running {
        seen.note(call.await);
    }
    println!("{strategy}: {seen:?}, {circuits} transitions");
    assert_eq!(in_flight(&fleet), 0);
    assert!(world.remotes.iter().flatten().all(|remote| remote.running() == 0));

    // The weather clears.
    for (index, name) in NAMES.into_iter().enumerate() {
        let backend = world.backend(index);
        if fleet.insert(backend).is_err() {
            world.remotes[index].pop();
        }
        fleet.set_status(name, AdminStatus::Healthy);
        fleet.set_priority(name, 0);
        let switch = fleet.switch(name).unwrap();
        if switch.state().is_forced() {
            switch.reset();
        }
        let remote = world.remotes[index].last().unwrap();
        remote.set_readiness(Readiness::Ready);
        remote.answer(Answer::Ok);
        remote.most_running();
    }
    pass(secs(600)).await;
    for _ in 0..1_000 {
        ask(&door).await.unwrap();
    }
    for backend in fleet.snapshot() {
        assert_eq!((backend.state, backend.in_flight), (CircuitState::Closed, 0), "{backend:?}");
    }
    assert!(world.remotes.iter().all(|remotes| remotes.last().unwrap().calls() > 0));
    // Those who were replaced or removed are gone for good.
    drop(door);
    for remotes in &world.remotes {
        let (present, gone) = remotes.split_last().unwrap();
        assert!(gone.iter().all(|remote| remote.instances() == 0));
        assert_eq!(present.instances(), 1);
    }
}
