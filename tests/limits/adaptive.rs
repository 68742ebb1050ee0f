//! An adaptive limit behind a door.

use std::time::Duration;

use futures::future::join_all;
use tower_fleet::{AdaptiveLimit, Backend, Fleet, outcome::ErrorsOnly};

use crate::{
    Plain, door,
    mock::{Answer, Mock, Remote},
    secs,
};

fn adaptive() -> (Plain, std::sync::Arc<Remote>) {
    let (mock, remote) = Mock::new("a");
    let limit = AdaptiveLimit::new().initial(10).max(40);
    (Fleet::plain().backend(Backend::new("a", mock)).limit(limit).build().unwrap(), remote)
}

fn limit(fleet: &Fleet<Mock, ErrorsOnly>) -> u32 {
    fleet.snapshot()[0].limit.unwrap()
}

/// Sends requests from this many tasks at a time.
async fn load(fleet: &Plain, tasks: usize, time: Duration) {
    let until = tokio::time::Instant::now() + time;
    join_all((0..tasks).map(|_| async {
        while tokio::time::Instant::now() < until {
            let _ = door(fleet).oneshot(()).await;
        }
    }))
    .await;
}

// C68
#[tokio::test(start_paused = true)]
async fn the_limit_grows_under_load_and_shrinks_when_latency_doubles() {
    let (fleet, a) = adaptive();
    a.answer(Answer::OkAfter(Duration::from_millis(50)));
    load(&fleet, 100, secs(30)).await;
    assert_eq!((limit(&fleet), a.most_running()), (40, 40));
    a.answer(Answer::OkAfter(Duration::from_millis(100)));
    load(&fleet, 100, secs(10)).await;
    assert!(limit(&fleet) < 20, "{}", limit(&fleet));
    load(&fleet, 100, secs(120)).await;
    assert_eq!(limit(&fleet), 40);
}

// C68
#[tokio::test(start_paused = true)]
async fn failures_shrink_the_limit_and_cancelled_calls_do_not_change_it() {
    let (fleet, a) = adaptive();
    a.answer(Answer::Never);
    for _ in 0..30 {
        let calls = join_all((0..10).map(|_| door(&fleet).oneshot(())));
        assert!(tokio::time::timeout(secs(1), calls).await.is_err());
    }
    assert_eq!(limit(&fleet), 10);
    a.answer(Answer::ErrorAfter(Duration::from_millis(50)));
    load(&fleet, 20, secs(3)).await;
    assert!(limit(&fleet) <= 3, "{}", limit(&fleet));
}
