//! Limits under real threads.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use tower::{Service, ServiceExt};
use tower_fleet::{
    Backend, BalanceLayer, FailoverLayer, Fleet, WhenFull,
    pick::{AnyStrategy, StrategyName},
};
use tower_layer::Layer;

/// Counts the calls that run, until they end or are dropped.
#[derive(Clone, Default)]
struct Counting(Arc<[AtomicUsize; 2]>);

struct Call {
    /// `None` once it has ended.
    counting: Option<Counting>,
    polls_left: usize,
}

impl Service<usize> for Counting {
    type Response = ();
    type Error = Infallible;
    type Future = Call;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, polls_left: usize) -> Call {
        let [running, most] = &*self.0;
        most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
        Call { counting: Some(self.clone()), polls_left }
    }
}

impl Call {
    fn end(&mut self) {
        if let Some(Counting(counts)) = self.counting.take() {
            counts[0].fetch_sub(1, SeqCst);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end();
    }
}

impl Future for Call {
    type Output = Result<(), Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls_left == 0 {
            self.end();
            return Poll::Ready(Ok(()));
        }
        self.polls_left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

// C12, C45, C68
#[test]
fn eight_threads_never_exceed_a_limit_and_every_request_is_served() {
    const LIMITS: [u32; 3] = [1, 3, 6];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(8).enable_time().build().unwrap();
    for (strategy, fails_over) in [(StrategyName::RoundRobin, false), (StrategyName::WeightedFailover, true)] {
        let services: [Counting; 3] = Default::default();
        let backends = services.iter().zip(LIMITS).enumerate().map(|(index, (service, limit))| {
            Backend::new(format!("b{index}"), service.clone()).limit(limit).weight(index as u32 + 1)
        });
        let fleet = Fleet::plain().backends(backends.collect::<Vec<_>>()).when_full(WhenFull::Wait).build().unwrap();
        let tasks = (0..48).map(|task: usize| {
            let balance = BalanceLayer::new(AnyStrategy::try_from(strategy).unwrap()).layer(fleet.clone());
            let failover = FailoverLayer::plain().build().unwrap().layer(fleet.clone());
            runtime.spawn(async move {
                for request in 0..500 {
                    let polls = (task + request) % 4;
                    match request % 7 {
                        // Some are cancelled.
                        0 => drop(balance.clone().ready().await.unwrap().call(polls)),
                        _ if fails_over => failover.clone().oneshot(polls).await.unwrap(),
                        _ => balance.clone().oneshot(polls).await.unwrap(),
                    }
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
        for ((service, limit), seen) in services.iter().zip(LIMITS).zip(fleet.snapshot()) {
            let [running, most] = &*service.0;
            assert_eq!((running.load(SeqCst), seen.in_flight), (0, 0));
            assert_eq!(most.load(SeqCst), limit as usize, "the limit of {} is reached, and not exceeded", seen.name);
        }
    }
}

// C12, C68
#[test]
fn no_wake_up_is_lost_between_a_call_that_ends_and_a_request_that_begins_to_wait() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    for when_full in [WhenFull::Wait, WhenFull::Queue(9)] {
        let (fleet, [a]) = crate::fleet([1], when_full);
        a.answer(crate::mock::Answer::Never);
        for round in 0..3_000 {
            let barrier = std::sync::Barrier::new(2);
            let running = runtime.block_on(crate::door(&fleet).ready()).unwrap().call(());
            let wakes = Arc::<crate::Wakes>::default();
            let waker = std::task::Waker::from(Arc::clone(&wakes));
            let mut cx = Context::from_waker(&waker);
            let mut door = crate::door(&fleet);
            let mut call = std::thread::scope(|scope| {
                let end = scope.spawn(|| {
                    barrier.wait();
                    drop(running);
                });
                barrier.wait();
                let is_ready = door.poll_ready(&mut cx).is_ready();
                let call = is_ready.then(|| {
                    let mut call = Box::pin(door.call(()));
                    assert!(call.as_mut().poll(&mut cx).is_pending());
                    call
                });
                end.join().unwrap();
                call
            });
            // Either the request runs, or its task was woken since it began to wait.
            if a.running() == 0 {
                assert!(wakes.count() > 0, "round {round}, {when_full:?}");
                match &mut call {
                    Some(call) => assert!(call.as_mut().poll(&mut cx).is_pending()),
                    None => {
                        assert!(door.poll_ready(&mut cx).is_ready());
                        call = Some(Box::pin(door.call(())));
                    }
                }
                assert_eq!(a.running(), 1);
            }
            drop(call);
            assert_eq!((a.running(), fleet.snapshot()[0].in_flight), (0, 0));
        }
    }
}
