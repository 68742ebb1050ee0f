//! When the state is saved, and what a store that fails or hangs costs. C54

use tokio::{
    task::JoinHandle,
    time::{advance, sleep},
};
use tower_fleet::CircuitState;

use super::*;

/// A fleet whose state is saved in the background.
async fn started(shelf: &Shelf) -> (Sites, JoinHandle<()>) {
    let fleet = fleet();
    let mut saver = fleet.restore(shelf.clone()).await;
    (fleet, tokio::spawn(async move { saver.run().await }))
}

// C54
#[tokio::test(start_paused = true)]
async fn the_first_change_is_saved_soon_and_a_storm_of_changes_once_a_second() {
    let shelf = Shelf::empty();
    let (fleet, _running) = started(&shelf).await;
    sleep(secs(2)).await;
    fleet.drain("a");
    sleep(millis(60)).await;
    assert_eq!(shelf.saves(), 1);
    assert!(shelf.text().contains("draining"), "{}", shelf.text());
    for step in 0..1_000 {
        fleet.cool_down("b", secs(10) + millis(2_000) * step);
        sleep(millis(10)).await;
    }
    let saves = shelf.saves();
    assert!((10..=12).contains(&saves), "{saves} saves in 10 s");
}

// C54
#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_nothing_changes_that_is_saved() {
    let shelf = Shelf::empty();
    let (fleet, _running) = started(&shelf).await;
    fleet.set_weight("a", 7).unwrap();
    fleet.set_priority("b", 3);
    fleet.insert(site("d")).unwrap();
    fleet.remove("d");
    fleet.drain("a");
    fleet.set_status("a", tower_fleet::AdminStatus::Healthy);
    sleep(secs(3600)).await;
    assert_eq!(shelf.tries(), 0);
    fleet.drain("a");
    fleet.cool_down("b", secs(600));
    sleep(secs(500)).await;
    assert_eq!(shelf.tries(), 1);
    // What was restored is not written again either.
    drop(fleet);
    let (_fleet, _running) = started(&shelf).await;
    sleep(secs(50)).await;
    assert_eq!(shelf.tries(), 1);
}

// C54: estimates change with every call, and are not worth a write for each.
#[tokio::test(start_paused = true)]
async fn estimates_are_saved_once_a_minute() {
    let shelf = Shelf::empty();
    let (fleet, _running) = started(&shelf).await;
    let door = tower_fleet::Balance::new(&fleet, tower_fleet::PeakEwma::default());
    for _ in 0..1_300 {
        door.clone().oneshot(()).await.unwrap();
        sleep(millis(100)).await;
    }
    assert_eq!(shelf.saves(), 2);
    assert!(shelf.text().contains("\"peak\""), "{}", shelf.text());
    sleep(secs(600)).await;
    assert_eq!(shelf.saves(), 3, "the last calls");
}

// C54
#[tokio::test(start_paused = true)]
async fn the_last_state_is_saved_when_the_fleet_ends() {
    let shelf = Shelf::empty();
    let (fleet, running) = started(&shelf).await;
    let door = door(&fleet);
    sleep(millis(1)).await;
    drop(fleet);
    sleep(secs(1)).await;
    assert!(!running.is_finished(), "a door keeps the fleet");
    drop(door);
    running.await.unwrap();
    assert_eq!(shelf.tries(), 0);
    let (fleet, running) = started(&shelf).await;
    fleet.drain("a");
    fleet.switch("b").unwrap().trip();
    drop(fleet);
    running.await.unwrap();
    assert!(shelf.text().contains("draining") && shelf.text().contains("open"), "{}", shelf.text());
}

// C54: a saver does not keep the streams of a fleet open.
#[tokio::test(start_paused = true)]
async fn a_saver_that_does_not_run_keeps_no_fleet_alive() {
    let fleet = fleet();
    let mut changes = fleet.changes();
    let mut saver = fleet.restore(Shelf::empty()).await;
    drop(fleet);
    assert_eq!(tokio::time::timeout(secs(1), futures::StreamExt::next(&mut changes)).await, Ok(None));
    tokio::time::timeout(secs(1), saver.run()).await.unwrap();
}

// C54: a dropped future of `run` costs nothing.
#[tokio::test(start_paused = true)]
async fn a_run_may_be_dropped_at_any_time_and_made_anew() {
    let (fleet, shelf) = (fleet(), Shelf::empty());
    let mut saver = fleet.restore(shelf.clone()).await;
    for step in 1..100 {
        fleet.cool_down("a", secs(100 * step));
        let _ = tokio::time::timeout(millis(7), saver.run()).await;
    }
    shelf.set(Disk::Hangs);
    let _ = tokio::time::timeout(secs(3), saver.run()).await;
    shelf.set(Disk::Works);
    let before = shelf.saves();
    let _ = tokio::time::timeout(secs(3), saver.run()).await;
    assert_eq!(shelf.saves(), before + 1);
    fleet.drain("b");
    saver.save().await.unwrap();
    assert!(shelf.text().contains("draining"));
    let _ = tokio::time::timeout(secs(3), saver.run()).await;
    assert_eq!(shelf.saves(), before + 2, "it is saved already");
}

// C54: full disk.
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_tried_again_with_pauses_and_one_warning() {
    let (shelf, warnings) = (Shelf::empty(), Warnings::collect());
    let (fleet, _running) = started(&shelf).await;
    shelf.set(Disk::IsFull);
    fleet.drain("a");
    sleep(secs(600)).await;
    let texts = warnings.take();
    assert_eq!(texts.len(), 1, "{texts:?}");
    for part in ["state not saved", "api", "the shelf", "the disk is full"] {
        assert!(texts[0].contains(part), "no `{part}` in {texts:?}");
    }
    assert!((14..18).contains(&shelf.tries()), "{} tries", shelf.tries());
    assert_eq!(serving(&fleet).await, 2);
    shelf.set(Disk::Works);
    sleep(secs(61)).await;
    assert!(shelf.text().contains("draining"));
    // The next outage is another one.
    shelf.set(Disk::IsFull);
    fleet.drain("b");
    sleep(secs(5)).await;
    assert_eq!(warnings.take().len(), 1);
}

// C54
#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_delays_nothing_else() {
    let (shelf, warnings) = (Shelf::with(document(FUTURE, r#""late": {"status": "draining"}"#)), Warnings::collect());
    let (fleet, running) = started(&shelf).await;
    shelf.set(Disk::Hangs);
    fleet.drain("a");
    sleep(secs(1)).await;
    assert_eq!((shelf.tries(), warnings.take().len()), (1, 0));
    // Requests, circuits, and backends that are found meanwhile.
    fleet.switch("b").unwrap().trip();
    assert_eq!(serving(&fleet).await, 1);
    fleet.insert(site("late")).unwrap();
    sleep(millis(1)).await;
    assert_eq!(serving(&fleet).await, 1);
    sleep(secs(3_000)).await;
    let texts = warnings.take();
    assert_eq!((shelf.tries(), texts.len()), (1, 1), "{texts:?}");
    shelf.set(Disk::Works);
    sleep(secs(2)).await;
    assert!(shelf.text().contains("late"), "{}", shelf.text());
    drop(fleet);
    running.await.unwrap();
}

// C54: what changes while a document is on its way is in the next one.
#[tokio::test(start_paused = true)]
async fn a_change_during_a_slow_save_is_saved_after_it() {
    let shelf = Shelf::empty();
    let (fleet, _running) = started(&shelf).await;
    shelf.set(Disk::Hangs);
    fleet.drain("a");
    sleep(secs(1)).await;
    for step in 0..10_000 {
        fleet.cool_down("c", secs(3_600 + step));
    }
    fleet.drain("b");
    sleep(secs(1)).await;
    assert_eq!(shelf.tries(), 1);
    shelf.set(Disk::Works);
    sleep(secs(2)).await;
    assert_eq!((shelf.saves(), shelf.text().matches("draining").count()), (2, 2), "{}", shelf.text());
    sleep(secs(50)).await;
    assert_eq!(shelf.tries(), 2);
}

// C54, C58
#[tokio::test(start_paused = true)]
async fn a_store_that_panics_is_one_that_fails() {
    let (shelf, warnings) = (Shelf::empty(), Warnings::collect());
    shelf.set(Disk::Panics);
    let (fleet, running) = started(&shelf).await;
    fleet.drain("a");
    sleep(secs(5)).await;
    assert!(shelf.tries() > 1 && !running.is_finished());
    let texts = warnings.take();
    assert!(texts.len() == 1 && texts[0].contains("the store panicked"), "{texts:?}");
    shelf.set(Disk::Works);
    sleep(secs(60)).await;
    assert!(shelf.text().contains("draining"));
}

// C54: at the start, too.
#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_at_the_start_costs_five_seconds_and_one_warning() {
    let (fleet, shelf, warnings) = (fleet(), Shelf::empty(), Warnings::collect());
    shelf.set(Disk::Hangs);
    let start = tokio::time::Instant::now();
    let mut saver = fleet.restore(shelf.clone()).await;
    assert_eq!(start.elapsed().as_secs(), 5);
    shelf.set(Disk::IsFull);
    fleet.drain("a");
    let _ = tokio::time::timeout(secs(100), saver.run()).await;
    let texts = warnings.take();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("it was not read within 5s"));
}

// C54: ten thousand backends.
#[tokio::test(start_paused = true)]
async fn ten_thousand_backends_are_saved_and_restored() {
    let build = || {
        let backends = (0..10_000).map(|number| Backend::new(format!("backend-{number}"), site_of("any")));
        Fleet::plain().name("api").backends(backends).circuit_breaker(policy()).build().unwrap()
    };
    let (fleet, shelf) = (build(), Shelf::empty());
    let mut saver = fleet.restore(shelf.clone()).await;
    for backend in fleet.snapshot().iter().step_by(2) {
        fleet.switch(&backend.name).unwrap().trip();
    }
    let started = std::time::Instant::now();
    saver.save().await.unwrap();
    let saved = started.elapsed();
    drop((fleet, saver));
    let fleet = build();
    let started = std::time::Instant::now();
    let _ = fleet.restore(shelf.clone()).await;
    println!("{} bytes, saved in {saved:?}, restored in {:?}", shelf.text().len(), started.elapsed());
    let open = fleet.snapshot().iter().filter(|backend| backend.state == CircuitState::Open).count();
    assert_eq!(open, 5_000);
    advance(secs(11)).await;
    assert!(fleet.snapshot().iter().all(|backend| backend.state != CircuitState::Open));
}

fn site_of(name: &'static str) -> Site {
    Site { name, fails: false, calls: Arc::default() }
}
