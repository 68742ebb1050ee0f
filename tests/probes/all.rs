//! Probes of all backends, which also take them out.

use futures::StreamExt;
use tower::Service;
use tower_fleet::{Balance, RoundRobin, fleet::Change, probe::Scope};

use super::*;

fn all() -> Probes<impl Probe<Mock>> {
    probes().scope(Scope::All)
}

async fn served_by(fleet: &Plain) -> Vec<&'static str> {
    let (mut served, mut door) = (Vec::new(), Balance::new(fleet, RoundRobin));
    for _ in 0..4 {
        served.push(ServiceExt::<()>::ready(&mut door).await.unwrap().call(()).await.unwrap());
    }
    served.sort_unstable();
    served.dedup();
    served
}

// C43
#[tokio::test(start_paused = true)]
async fn three_failed_probes_take_a_backend_out_and_a_good_one_brings_it_back() {
    let (fleet, [a, b]) = fleet();
    let mut changes = fleet.changes();
    spawn(&fleet, all().jitter(0.0));
    broken(&a);
    pass(secs(15)).await;
    assert_eq!((a.calls(), shown(&fleet, "a").is_failing), (2, false));
    pass(secs(10)).await;
    assert!(shown(&fleet, "a").is_failing && !shown(&fleet, "b").is_failing);
    assert_eq!(served_by(&fleet).await, ["b"]);
    // For as long as they fail.
    pass(HOUR).await;
    assert_eq!(served_by(&fleet).await, ["b"]);
    a.answer(Answer::Ok);
    pass(secs(10)).await;
    assert_eq!(served_by(&fleet).await, ["a", "b"]);
    assert!(b.calls() > 360, "those that are well are probed too");
    let name = shown(&fleet, "a").name;
    assert_eq!(changes.next().await, Some(Change::Probe(name.clone(), false)));
    assert_eq!(changes.next().await, Some(Change::Probe(name, true)));
}

// C43
#[tokio::test(start_paused = true)]
async fn a_failed_probe_between_good_ones_changes_nothing() {
    let (fleet, [a]) = fleet();
    spawn(&fleet, all().jitter(0.0));
    pass(secs(5)).await;
    for _ in 0..20 {
        broken(&a);
        pass(secs(20)).await;
        assert!(!shown(&fleet, "a").is_failing);
        a.answer(Answer::Ok);
        pass(secs(10)).await;
    }
}

// C43
#[tokio::test(start_paused = true)]
async fn a_dropped_prober_leaves_nothing_behind() {
    let (fleet, [a, _]) = fleet();
    let task = spawn(&fleet, all());
    broken(&a);
    pass(HOUR).await;
    assert!(shown(&fleet, "a").is_failing);
    task.abort();
    a.answer(Answer::Ok);
    assert_eq!(served_by(&fleet).await, ["b"]);
    pass(secs(60)).await;
    assert_eq!(served_by(&fleet).await, ["a", "b"]);
}

// C42, C43
#[tokio::test(start_paused = true)]
async fn failing_probes_are_ejections() {
    let mocks: Vec<_> = ["a", "b", "c", "d"].map(Mock::new).into();
    let backends: Vec<_> = mocks.iter().map(|(mock, remote)| Backend::new(remote.name, mock.clone())).collect();
    let fleet = Fleet::plain().backends(backends).max_ejected(0.5).build().unwrap();
    spawn(&fleet, all());
    mocks.iter().for_each(|(_, remote)| broken(remote));
    pass(secs(100)).await;
    assert!(fleet.snapshot().iter().all(|backend| backend.is_failing));
    mocks.iter().for_each(|(_, remote)| remote.answer(Answer::OkAfter(secs(2))));
    assert_eq!(served_by(&fleet).await.len(), 2);
}

// C43
#[tokio::test(start_paused = true)]
async fn ten_thousand_backends_are_not_probed_at_once() {
    let mocks: Vec<_> = (0..10_000).map(|_| Mock::new("any")).collect();
    let backends = mocks.iter().enumerate().map(|(index, (mock, _))| Backend::new(index.to_string(), mock.clone()));
    let fleet = Fleet::plain().backends(backends).build().unwrap();
    spawn(&fleet, all());
    let calls = || mocks.iter().map(|(_, remote)| remote.calls()).sum::<usize>();
    let mut before = 0;
    for _ in 0..30 {
        pass(secs(1)).await;
        let now = calls();
        // As the waits differ, the second probes of some meet the first ones of others.
        assert!(now - before < 1_700, "{} in a second", now - before);
        before = now;
    }
    assert!(mocks.iter().all(|(_, remote)| (2..=4).contains(&remote.calls())));
}
