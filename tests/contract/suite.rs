//! What is asked of every door.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{
    Service, ServiceBuilder, ServiceExt, buffer::BufferLayer, limit::ConcurrencyLimitLayer, load_shed::LoadShedLayer,
    timeout::TimeoutLayer, util::BoxCloneSyncService,
};
use tower_fleet::{AdminStatus, Backend, Fleet, outcome::ErrorsOnly};

use crate::{
    Mock,
    mock::{Answer, Readiness, Remote},
};

/// A door over mocks, as a user would hold it.
pub(crate) trait Door:
    Service<&'static str, Response = &'static str, Error: std::error::Error + Send + Sync, Future: Send>
    + Clone
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
}

impl<D> Door for D where
    D: Service<&'static str, Response = &'static str, Error: std::error::Error + Send + Sync, Future: Send>
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static
{
}

type Remotes = Vec<Arc<Remote>>;

fn fleet(names: &[&'static str]) -> (Fleet<Mock, ErrorsOnly>, Remotes) {
    let (backends, remotes): (Vec<_>, _) = names
        .iter()
        .map(|name| {
            let (mock, remote) = Mock::new(name);
            (Backend::new(*name, mock), remote)
        })
        .unzip();
    (Fleet::plain().backends(backends).build().unwrap(), remotes)
}

fn in_flight(fleet: &Fleet<Mock, ErrorsOnly>) -> usize {
    fleet.snapshot().iter().map(|backend| backend.in_flight).sum()
}

/// The backend of which a door holds an instance, beside the fleet's own.
fn held_by_door(remotes: &Remotes) -> usize {
    let mut held = (0..remotes.len()).filter(|index| remotes[*index].instances() > 1);
    let index = held.next().expect("the door holds an instance");
    assert_eq!((held.next(), remotes[index].instances()), (None, 2), "and no more than one");
    index
}

// C10, C12
pub(crate) async fn the_instance_that_was_ready_is_the_one_that_is_called<D: Door>(
    open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D,
) {
    let (fleet, remotes) = fleet(&["a", "b", "c"]);
    let mut door = open(fleet);
    for _ in 0..10 {
        door.ready().await.unwrap();
        // Whatever a clone does, it does not use up what this one holds.
        door.clone().oneshot("hello").await.unwrap();
        door.ready().await.unwrap();
        door.call("hello").await.unwrap();
    }
    assert_eq!(remotes.iter().map(|remote| remote.calls()).sum::<usize>(), 20);
}

// C58
pub(crate) async fn a_call_without_ready_is_answered_all_the_same<D: Door>(
    open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D,
) {
    let (fleet, _) = fleet(&["a", "b"]);
    open(fleet).call("hello").await.unwrap();
}

// C1
pub(crate) async fn nobody_there_is_an_error_of_the_call_and_not_of_ready<D: Door>(
    open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D,
) {
    let (fleet, _) = fleet(&[]);
    let mut door = open(fleet.clone());
    assert!(door.ready().now_or_never().unwrap().is_ok());
    let error = door.call("hello").now_or_never().unwrap().unwrap_err().to_string();
    assert!(error.contains("no backends"), "{error}");

    let (mock, _remote) = Mock::new("late");
    fleet.insert(Backend::new("late", mock)).unwrap();
    assert_eq!(door.ready().await.unwrap().call("hello").await.unwrap(), "late");

    fleet.set_status("late", AdminStatus::Degraded);
    assert!(door.ready().now_or_never().unwrap().is_ok());
    let error = door.call("hello").now_or_never().unwrap().unwrap_err().to_string();
    assert!(error.contains("none of 1 backends"), "{error}");
}

// C2, C41
pub(crate) async fn only_eligible_backends_are_called<D: Door>(open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D) {
    let (fleet, remotes) = fleet(&["a", "b", "c"]);
    let door = open(fleet.clone());
    fleet.set_status("a", AdminStatus::Degraded);
    fleet.drain("c");
    for _ in 0..10 {
        assert_eq!(door.clone().oneshot("hello").await.unwrap(), "b");
    }
    fleet.set_status("a", AdminStatus::Healthy);
    fleet.set_status("b", AdminStatus::Degraded);
    for _ in 0..10 {
        assert_eq!(door.clone().oneshot("hello").await.unwrap(), "a");
    }
    assert_eq!(remotes[2].calls(), 0);
}

// C8
pub(crate) async fn a_tier_is_left_only_when_nobody_in_it_is_eligible<D: Door>(
    open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D,
) {
    let (fleet, _) = fleet(&["a", "b", "c"]);
    fleet.set_priority("c", 10);
    fleet.set_priority("a", 5);
    let door = open(fleet.clone());
    for served in ["c", "a", "b"] {
        for _ in 0..5 {
            assert_eq!(door.clone().oneshot("hello").await.unwrap(), served);
        }
        fleet.set_status(served, AdminStatus::Degraded);
    }
    fleet.set_status("c", AdminStatus::Healthy);
    assert_eq!(door.clone().oneshot("hello").await.unwrap(), "c");
}

// C10
pub(crate) async fn a_pending_backend_holds_up_nobody<D: Door>(open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D) {
    let (fleet, remotes) = fleet(&["a", "b", "c"]);
    let mut door = open(fleet.clone());
    remotes[0].set_readiness(Readiness::Pending);
    remotes[2].set_readiness(Readiness::Pending);
    for _ in 0..10 {
        door.ready().now_or_never().expect("b is ready").unwrap();
        assert_eq!(door.call("hello").await.unwrap(), "b");
    }
    assert_eq!(in_flight(&fleet), 0);
}

// C10
pub(crate) async fn pending_only_while_everybody_eligible_is<D: Door>(open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D) {
    let (fleet, remotes) = fleet(&["a", "b", "c"]);
    remotes.iter().for_each(|remote| remote.set_readiness(Readiness::Pending));
    let mut door = open(fleet.clone());
    {
        let mut waiting = task::spawn(door.ready());
        assert_pending!(waiting.poll());
        assert_eq!(in_flight(&fleet), 0, "who waits is not in flight");
        remotes[1].set_readiness(Readiness::Ready);
        assert!(waiting.is_woken());
        assert!(waiting.poll().is_ready());
    }
    assert_eq!(door.call("hello").await.unwrap(), "b");
}

// C1, C10, C11
pub(crate) async fn who_waits_sees_the_fleet_change<D: Door>(open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D) {
    let (fleet, remotes) = fleet(&["a"]);
    remotes[0].set_readiness(Readiness::Pending);
    let mut door = open(fleet.clone());
    {
        let mut waiting = task::spawn(door.ready());
        assert_pending!(waiting.poll());
        let (mock, _remote) = Mock::new("late");
        fleet.insert(Backend::new("late", mock)).unwrap();
        assert!(waiting.is_woken());
        assert!(waiting.poll().is_ready());
    }
    assert_eq!(door.call("hello").await.unwrap(), "late");

    fleet.remove("late");
    {
        let mut waiting = task::spawn(door.ready());
        assert_pending!(waiting.poll());
        fleet.remove("a");
        assert!(waiting.is_woken(), "no backend is left to wait for");
        assert!(waiting.poll().is_ready());
    }
    let error = door.call("hello").now_or_never().unwrap().unwrap_err().to_string();
    assert!(error.contains("no backends"), "{error}");
    assert_eq!(remotes[0].instances(), 0);
}

// C10
pub(crate) async fn an_error_of_ready_leaves_out_that_backend_until_it_is_back<D: Door>(
    open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D,
) {
    let (fleet, remotes) = fleet(&["a", "b"]);
    let mut door = open(fleet);
    remotes[0].set_readiness(Readiness::Error);
    for _ in 0..6 {
        assert_eq!(door.ready().await.unwrap().call("hello").await.unwrap(), "b");
    }
    remotes[1].set_readiness(Readiness::Error);
    assert!(door.ready().now_or_never().unwrap().is_ok(), "an error of ready would end a buffer for good");
    let error = door.call("hello").now_or_never().unwrap().unwrap_err().to_string();
    assert!(error.contains("not ready"), "{error}");
    remotes[0].set_readiness(Readiness::Ready);
    assert_eq!(door.ready().await.unwrap().call("hello").await.unwrap(), "a");
}

// C10, C11, C45
pub(crate) async fn a_backend_that_was_removed_after_ready_is_not_called<D: Door>(
    open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D,
) {
    let (fleet, remotes) = fleet(&["a", "b"]);
    let mut door = open(fleet.clone());
    for _ in 0..4 {
        door.ready().await.unwrap();
        assert_eq!(in_flight(&fleet), 0, "what is held ready is not in flight");
        let held = remotes[held_by_door(&remotes)].name;
        assert!(fleet.set_status(held, AdminStatus::Degraded));
        let served = door.call("hello").await.unwrap();
        assert!(held != served);
        fleet.set_status(held, AdminStatus::Healthy);
    }
    door.ready().await.unwrap();
    fleet.remove("a");
    fleet.remove("b");
    let calls: Vec<_> = remotes.iter().map(|remote| remote.calls()).collect();
    assert!(door.call("hello").await.is_err());
    assert_eq!(calls, remotes.iter().map(|remote| remote.calls()).collect::<Vec<_>>());
}

// C10, C11
pub(crate) async fn a_call_waits_with_its_request_when_the_one_it_was_given_left<D: Door>(
    open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D,
) {
    let (fleet, remotes) = fleet(&["a", "b"]);
    let mut door = open(fleet.clone());
    door.ready().await.unwrap();
    let gone = held_by_door(&remotes);
    let stays = 1 - gone;
    remotes[stays].set_readiness(Readiness::Pending);
    fleet.remove(remotes[gone].name);
    let mut call = task::spawn(door.call("hello"));
    assert_pending!(call.poll());
    remotes[stays].set_readiness(Readiness::Ready);
    assert!(call.is_woken());
    let served = assert_ready_ok!(call.poll());
    assert_eq!(served, remotes[stays].name);
}

// C11, C20
pub(crate) async fn a_dropped_future_frees_what_it_held<D: Door>(open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D) {
    let (fleet, remotes) = fleet(&["a", "b"]);
    remotes.iter().for_each(|remote| remote.answer(Answer::Never));
    let mut door = open(fleet.clone());
    door.ready().await.unwrap();
    let mut call = task::spawn(door.call("hello"));
    assert_pending!(call.poll());
    assert_eq!(in_flight(&fleet), 1);
    drop(call);
    assert_eq!(in_flight(&fleet), 0);
    drop(door);
    assert!(remotes.iter().all(|remote| remote.instances() == 1), "one instance each, the fleet's");
}

// C11
pub(crate) async fn a_removed_backend_finishes_what_runs_there_and_is_freed_then<D: Door>(
    open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D,
) {
    let (fleet, remotes) = fleet(&["a"]);
    remotes[0].answer(Answer::Never);
    let mut door = open(fleet.clone());
    door.ready().await.unwrap();
    let mut call = task::spawn(door.call("hello"));
    assert_pending!(call.poll());
    assert!(fleet.remove("a"));
    assert!(remotes[0].instances() > 0, "the request still runs");
    drop(call);
    assert_eq!(remotes[0].instances(), 0, "an idle door keeps nobody alive");
}

// C25
pub(crate) async fn an_error_names_its_backend<D: Door>(open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D) {
    let (fleet, remotes) = fleet(&["a"]);
    remotes[0].answer(Answer::Error);
    let error = open(fleet).oneshot("hello").await.err().unwrap();
    assert!(error.to_string().contains("`a`"), "{error}");
    let cause = std::error::Error::source(&error).expect("the cause is kept");
    assert!(cause.to_string().contains("a is broken"), "{cause}");
}

// C50
pub(crate) async fn a_backend_that_takes_too_long_is_named<D: Door>(open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D) {
    tokio::time::pause();
    let (mock, remote) = Mock::new("slow");
    remote.answer(Answer::Never);
    let half_an_hour = Duration::from_secs(30 * 60);
    let fleet = Fleet::plain().backend(Backend::new("slow", mock).timeout(half_an_hour)).build().unwrap();
    let mut call = task::spawn(open(fleet.clone()).oneshot("hello"));
    assert_pending!(call.poll());
    tokio::time::advance(half_an_hour - Duration::from_millis(1)).await;
    assert_pending!(call.poll());
    tokio::time::advance(Duration::from_millis(2)).await;
    let error = tokio_test::assert_ready_err!(call.poll());
    let error = error.to_string();
    assert!(error.contains("`slow`") && error.contains("1800"), "{error}");
    drop(call);
    assert_eq!(in_flight(&fleet), 0);
}

// C12
pub(crate) async fn it_works_inside_the_stacks_of_tower<D: Door>(open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D) {
    let (fleet, _) = fleet(&["a", "b", "c"]);
    let stack = ServiceBuilder::new()
        .layer(BufferLayer::new(8))
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(4))
        .layer(TimeoutLayer::new(Duration::from_secs(1)))
        .service(open(fleet));
    let boxed = BoxCloneSyncService::new(stack);
    for _ in 0..6 {
        boxed.clone().oneshot("hello").await.unwrap();
    }
}

// C1, C12
pub(crate) async fn a_buffer_outlives_a_fleet_of_nobody<D: Door>(open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D) {
    let (fleet, _) = fleet(&[]);
    let mut buffered = ServiceBuilder::new().layer(BufferLayer::new(8)).service(open(fleet.clone()));
    assert!(buffered.ready().await.unwrap().call("hello").await.is_err());
    let (mock, _remote) = Mock::new("late");
    fleet.insert(Backend::new("late", mock)).unwrap();
    assert_eq!(buffered.ready().await.unwrap().call("hello").await.unwrap(), "late");
}

// C10, C12
pub(crate) async fn a_limit_around_each_backend_spreads_what_it_cannot_take<D: Door>(
    open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D,
) {
    // The strict mock itself stands for the limit: ready once, then pending until it is told otherwise.
    let (fleet, remotes) = fleet(&["a", "b"]);
    remotes.iter().for_each(|remote| remote.answer(Answer::Never));
    let mut door = open(fleet.clone());
    assert!(door.ready().now_or_never().unwrap().is_ok());
    let _first = door.call("hello");
    let busy = remotes.iter().position(|remote| remote.calls() == 1).unwrap();
    remotes[busy].set_readiness(Readiness::Pending);
    assert!(door.ready().now_or_never().unwrap().is_ok());
    let _second = door.call("hello");
    assert!(remotes.iter().all(|remote| remote.calls() == 1));
}

// C10: of a door that selects in the call.
pub(crate) async fn a_call_is_pending_only_while_everybody_eligible_is<D: Door>(
    open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D,
) {
    let (fleet, remotes) = fleet(&["a", "b", "c"]);
    remotes.iter().for_each(|remote| remote.set_readiness(Readiness::Pending));
    let mut door = open(fleet.clone());
    assert!(door.ready().now_or_never().expect("it needs the request").is_ok());
    assert!(remotes.iter().all(|remote| remote.instances() == 1), "a ready door holds no instance");
    let mut call = task::spawn(door.call("hello"));
    assert_pending!(call.poll());
    assert_eq!(in_flight(&fleet), 0, "who waits is not in flight");
    remotes[1].set_readiness(Readiness::Ready);
    assert!(call.is_woken());
    assert_eq!(assert_ready_ok!(call.poll()), "b");
}

// C1, C10, C11: of a door that selects in the call.
pub(crate) async fn a_call_that_waits_sees_the_fleet_change<D: Door>(open: impl Fn(Fleet<Mock, ErrorsOnly>) -> D) {
    let (fleet, remotes) = fleet(&["a"]);
    remotes[0].set_readiness(Readiness::Pending);
    let mut door = open(fleet.clone());
    {
        let mut call = task::spawn(door.call("hello"));
        assert_pending!(call.poll());
        let (mock, _remote) = Mock::new("late");
        fleet.insert(Backend::new("late", mock)).unwrap();
        assert!(call.is_woken());
        assert_eq!(assert_ready_ok!(call.poll()), "late");
    }
    fleet.remove("late");
    let mut call = task::spawn(door.call("hello"));
    assert_pending!(call.poll());
    fleet.remove("a");
    assert!(call.is_woken(), "no backend is left to wait for");
    let error = tokio_test::assert_ready_err!(call.poll()).to_string();
    assert!(error.contains("no backends"), "{error}");
    drop(call);
    assert_eq!(remotes[0].instances(), 0);
}

/// The suite as tests of one door: of one that holds an instance when it is ready, or of one that selects in the call.
macro_rules! tests {
    ($open:ident, selects_in_call) => {
        suite::tests! { $open:
            a_call_is_pending_only_while_everybody_eligible_is
            a_call_that_waits_sees_the_fleet_change
        }
        suite::tests! { $open, all }
    };
    ($open:ident, holds_an_instance) => {
        suite::tests! { $open:
            pending_only_while_everybody_eligible_is
            who_waits_sees_the_fleet_change
            a_backend_that_was_removed_after_ready_is_not_called
            a_call_waits_with_its_request_when_the_one_it_was_given_left
        }
        suite::tests! { $open, all }
    };
    ($open:ident, all) => {
        suite::tests! { $open:
            the_instance_that_was_ready_is_the_one_that_is_called
            a_call_without_ready_is_answered_all_the_same
            nobody_there_is_an_error_of_the_call_and_not_of_ready
            only_eligible_backends_are_called
            a_tier_is_left_only_when_nobody_in_it_is_eligible
            a_pending_backend_holds_up_nobody
            an_error_of_ready_leaves_out_that_backend_until_it_is_back
            a_dropped_future_frees_what_it_held
            a_removed_backend_finishes_what_runs_there_and_is_freed_then
            an_error_names_its_backend
            a_backend_that_takes_too_long_is_named
            it_works_inside_the_stacks_of_tower
            a_buffer_outlives_a_fleet_of_nobody
            a_limit_around_each_backend_spreads_what_it_cannot_take
        }
    };
    ($open:ident: $($name:ident)*) => {$(
        #[tokio::test]
        async fn $name() {
            suite::$name($open).await;
        }
    )*};
}
pub(crate) use tests;
