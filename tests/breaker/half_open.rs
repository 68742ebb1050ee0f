//! A crowd in front of a half-open circuit.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tower::{BoxError, Layer};
use tower_fleet::{CircuitBreaker, CircuitState, breaker::Switch, outcome::ErrorsOnly};

use crate::{
    ask, breaker,
    mock::{Answer, Mock, Remote},
    pass, policy, secs, settle,
};

type Guarded = CircuitBreaker<Mock, ErrorsOnly>;
type Call = JoinHandle<Result<&'static str, BoxError>>;

const CROWD: usize = 1_000;

struct Scene {
    service: Guarded,
    switch: Switch,
    remote: Arc<Remote>,
}

impl Scene {
    /// Half-open, with so many probes at a time.
    async fn half_open(probes: u32) -> Self {
        let (mock, remote) = Mock::new("orders");
        let service = breaker(policy().probes(probes)).layer(mock);
        let switch = service.switch();
        switch.trip();
        pass(secs(30)).await;
        assert_eq!(switch.state(), CircuitState::HalfOpen);
        Self { service, switch, remote }
    }

    /// A thousand callers at once; how many of them reached the service.
    async fn crowd(&self, answer: Answer) -> (usize, Vec<Call>) {
        self.remote.answer(answer);
        let before = self.remote.calls();
        let callers = (0..CROWD)
            .map(|_| {
                let service = self.service.clone();
                tokio::spawn(async move { ask(&service).await })
            })
            .collect();
        settle().await;
        (self.remote.calls() - before, callers)
    }
}

// C38
#[tokio::test(start_paused = true)]
async fn probes_that_hang_pass_their_permits_on_when_these_time_out() {
    for probes in [1, 3] {
        let scene = Scene::half_open(probes).await;
        let mut hanging = Vec::new();
        for _ in 0..3 {
            let (reached, callers) = scene.crowd(Answer::Never).await;
            assert_eq!(reached, probes as usize);
            hanging.extend(callers);
            pass(secs(59)).await;
            assert_eq!(scene.crowd(Answer::Never).await.0, 0);
            pass(secs(1)).await;
        }
        assert_eq!(scene.switch.state(), CircuitState::HalfOpen);
        let (reached, _) = scene.crowd(Answer::OkAfter(secs(1))).await;
        assert_eq!(reached, probes as usize);
        pass(secs(1)).await;
        settle().await;
        assert_eq!(scene.switch.state(), CircuitState::Closed);
        hanging.iter().for_each(JoinHandle::abort);
    }
}

// C37, C38
#[tokio::test(start_paused = true)]
async fn probes_that_panic_open_it_again_and_go_on_panicking() {
    for (probes, answer) in [(1, Answer::Panic), (3, Answer::Panic), (1, Answer::PanicInCall)] {
        let scene = Scene::half_open(probes).await;
        let (reached, callers) = scene.crowd(answer).await;
        // At once, so the first opens the circuit before a second comes.
        assert_eq!(reached, 1);
        let mut panicked = 0;
        for caller in callers {
            panicked += usize::from(caller.await.is_err());
        }
        assert_eq!(panicked, 1);
        assert_eq!(scene.switch.state(), CircuitState::Open);
        pass(secs(30)).await;
        assert_eq!(scene.switch.state(), CircuitState::HalfOpen, "opened once, for the usual time");
    }
}

// C20, C37, C38
#[tokio::test(start_paused = true)]
async fn probes_that_are_dropped_give_their_permits_back() {
    for probes in [1, 3] {
        let scene = Scene::half_open(probes).await;
        for _ in 0..5 {
            let (reached, callers) = scene.crowd(Answer::Never).await;
            assert_eq!(reached, probes as usize);
            callers.iter().for_each(JoinHandle::abort);
            settle().await;
            assert_eq!(scene.remote.running(), 0);
            assert_eq!(scene.switch.state(), CircuitState::HalfOpen, "neither good nor bad");
        }
    }
}

// C36, C38
#[tokio::test(start_paused = true)]
async fn probes_that_succeed_close_it() {
    for probes in [1, 3] {
        let scene = Scene::half_open(probes).await;
        let (reached, callers) = scene.crowd(Answer::OkAfter(secs(1))).await;
        assert_eq!(reached, probes as usize);
        let mut served = 0;
        for caller in callers {
            served += usize::from(caller.await.unwrap().is_ok());
        }
        assert_eq!(served, probes as usize);
        assert_eq!(scene.switch.state(), CircuitState::Closed);
        assert_eq!(scene.crowd(Answer::Ok).await.0, CROWD);
    }
}

// C36, C38
#[tokio::test(start_paused = true)]
async fn probes_that_fail_open_it_again() {
    for probes in [1, 3] {
        let scene = Scene::half_open(probes).await;
        let (reached, callers) = scene.crowd(Answer::ErrorAfter(secs(1))).await;
        assert_eq!(reached, probes as usize);
        for caller in callers {
            caller.await.unwrap().unwrap_err();
        }
        assert_eq!(scene.switch.state(), CircuitState::Open);
        assert_eq!(scene.crowd(Answer::Ok).await.0, 0);
    }
}

// C38
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_on_many_threads_gets_no_more_permits_than_there_are() {
    for probes in [1, 3] {
        let (mock, remote) = Mock::new("orders");
        let service = breaker(policy().probes(probes)).layer(mock);
        let switch = service.switch();
        remote.answer(Answer::Never);
        for _ in 0..10 {
            switch.reset();
            switch.trip();
            switch.probe_now();
            let before = remote.calls();
            let (said, mut rejected) = tokio::sync::mpsc::unbounded_channel();
            let callers: Vec<_> = (0..CROWD)
                .map(|_| {
                    let (service, said) = (service.clone(), said.clone());
                    tokio::spawn(async move {
                        ask(&service).await.unwrap_err();
                        said.send(()).unwrap();
                    })
                })
                .collect();
            let mut answered = 0;
            // Until everybody is rejected, or runs.
            while answered + remote.running() < CROWD {
                answered += usize::from(rejected.try_recv().is_ok());
                tokio::task::yield_now().await;
            }
            assert_eq!(remote.most_running(), probes as usize);
            assert_eq!(remote.calls() - before, probes as usize);
            callers.iter().for_each(JoinHandle::abort);
            for caller in callers {
                let _ = caller.await;
            }
            assert_eq!(remote.running(), 0);
            remote.most_running();
        }
    }
}
