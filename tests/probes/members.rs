//! Backends that come and end while they are probed.

use tower_fleet::probe::Scope;

use super::*;

fn all() -> Probes<impl Probe<Mock>> {
    probes().scope(Scope::All)
}

// C11, C43
#[tokio::test(start_paused = true)]
async fn a_new_backend_is_probed_and_a_removed_one_no_longer() {
    let (fleet, [_]) = fleet();
    spawn(&fleet, all());
    let (mock, new) = Mock::new("new");
    fleet.insert(Backend::new("new", mock)).unwrap();
    pass(Duration::from_millis(100)).await;
    assert_eq!(new.calls(), 1);
    assert!(fleet.remove("new"));
    pass(HOUR).await;
    assert_eq!((new.calls(), new.instances()), (1, 0));
}

// C11, C43
#[tokio::test(start_paused = true)]
async fn removing_a_backend_ends_its_probe() {
    let (fleet, [a]) = fleet();
    a.answer(Answer::Never);
    spawn(&fleet, all().timeout(HOUR));
    pass(secs(1)).await;
    assert_eq!(a.running(), 1);
    fleet.remove("a");
    pass(Duration::from_millis(1)).await;
    assert_eq!((a.running(), a.instances()), (0, 0));
}

// C43
#[tokio::test(start_paused = true)]
async fn the_probe_of_an_open_circuit_ends_with_its_removal() {
    let (fleet, [a]) = fleet();
    a.answer(Answer::Never);
    spawn(&fleet, probes().timeout(HOUR));
    trip(&fleet, "a");
    pass(secs(2)).await;
    assert_eq!(a.running(), 1);
    fleet.remove("a");
    pass(HOUR).await;
    assert_eq!((a.running(), a.instances(), a.calls()), (0, 0, 1));
}

// C43
#[tokio::test(start_paused = true)]
async fn a_replaced_backend_is_probed_with_its_new_service() {
    let (fleet, [old]) = fleet();
    old.answer(Answer::Never);
    spawn(&fleet, all().timeout(HOUR).unhealthy_after(1));
    pass(secs(1)).await;
    let (mock, new) = Mock::new("new");
    fleet.replace(Backend::new("a", mock)).unwrap();
    pass(secs(1)).await;
    assert_eq!((old.running(), old.instances(), new.calls()), (0, 0, 1));
    // What the old one showed is not held against the new one.
    assert!(!shown(&fleet, "a").is_failing);
    pass(secs(100)).await;
    assert!((8..=13).contains(&new.calls()), "{}", new.calls());
}

// C43: the stream of changes holds 1,024 of them.
#[tokio::test(start_paused = true)]
async fn each_backend_of_a_burst_is_probed() {
    let (fleet, [_]) = fleet();
    spawn(&fleet, all());
    pass(secs(1)).await;
    let mocks: Vec<_> = (0..5_000).map(|_| Mock::new("any")).collect();
    for (index, (mock, _)) in mocks.iter().enumerate() {
        fleet.insert(Backend::new(index.to_string(), mock.clone())).unwrap();
    }
    pass(secs(25)).await;
    assert!(mocks.iter().all(|(_, remote)| (1..=4).contains(&remote.calls())));
    // The same when they open and end all at once.
    (0..5_000).for_each(|index| fleet.switch(&index.to_string()).unwrap().trip());
    pass(secs(25)).await;
    assert!((0..5_000).all(|index| fleet.switch(&index.to_string()).unwrap().state() == CircuitState::HalfOpen));
    (0..5_000).for_each(|index| assert!(fleet.remove(&index.to_string())));
    let calls: usize = mocks.iter().map(|(_, remote)| remote.calls()).sum();
    pass(secs(100)).await;
    assert_eq!(mocks.iter().map(|(_, remote)| remote.calls()).sum::<usize>(), calls);
}

// C43
#[tokio::test(start_paused = true)]
async fn probing_ends_with_the_fleet() {
    let (fleet, [a]) = fleet();
    a.answer(Answer::Never);
    let probing = spawn(&fleet, all().timeout(HOUR));
    pass(secs(1)).await;
    assert_eq!(a.running(), 1);
    let clone = fleet.clone();
    drop(fleet);
    pass(secs(1)).await;
    assert!(!probing.is_finished());
    drop(clone);
    probing.await.unwrap();
    assert_eq!((a.running(), a.instances()), (0, 0));
}

// C43
#[tokio::test(start_paused = true)]
async fn a_future_that_is_never_polled_probes_nothing() {
    let (fleet, [a]) = fleet();
    let probing = fleet.probe(all()).unwrap();
    trip(&fleet, "a");
    pass(HOUR).await;
    assert_eq!(a.calls(), 0);
    // What happened before the first poll is known then.
    tokio::spawn(probing);
    pass(secs(2)).await;
    assert_eq!(a.calls(), 1);
}
