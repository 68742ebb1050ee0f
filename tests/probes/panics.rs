//! Panics of probes and services.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use tower_fleet::probe::Scope;

use super::*;

// C43, C58
#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_has_failed_and_the_others_go_on() {
    let (fleet, [a, b, c]) = fleet();
    a.answer(Answer::Panic);
    b.answer(Answer::PanicInCall);
    let probing = spawn(&fleet, probes().scope(Scope::All));
    pass(secs(100)).await;
    assert!(!probing.is_finished());
    assert!(shown(&fleet, "a").is_failing && shown(&fleet, "b").is_failing && !shown(&fleet, "c").is_failing);
    assert!(c.calls() > 5);
    a.answer(Answer::Ok);
    b.answer(Answer::Ok);
    pass(secs(13)).await;
    assert!(fleet.snapshot().iter().all(|backend| !backend.is_failing));
}

/// Panics when it is cloned, or when it is dropped.
struct Bomb(Arc<AtomicBool>, Arc<AtomicBool>);

impl Clone for Bomb {
    fn clone(&self) -> Self {
        assert!(!self.0.load(SeqCst), "in a clone");
        Self(Arc::clone(&self.0), Arc::clone(&self.1))
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.1.load(SeqCst) || std::thread::panicking(), "in a drop");
    }
}

// C43, C58
#[tokio::test(start_paused = true)]
async fn panics_of_the_rest_of_a_users_code_are_failed_probes_too() {
    let (in_clone, in_drop) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let bomb = Bomb(Arc::clone(&in_clone), Arc::clone(&in_drop));
    let fleet = Fleet::plain().backend(Backend::new("a", bomb)).build().unwrap();
    let hangs = Arc::new(AtomicBool::new(false));
    let hanging = Arc::clone(&hangs);
    let probe = probe_fn(move |_: BackendName, bomb: Bomb| {
        let hangs = hanging.load(SeqCst);
        async move {
            let _bomb = bomb;
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok::<_, ProbeError>(())
        }
    });
    let probing = tokio::spawn(fleet.probe(Probes::new(probe).scope(Scope::All)).unwrap());
    pass(secs(40)).await;
    assert!(fleet.snapshot()[0].is_failing, "in the clone");
    in_clone.store(false, SeqCst);
    pass(secs(13)).await;
    assert!(!fleet.snapshot()[0].is_failing);
    in_drop.store(true, SeqCst);
    pass(secs(40)).await;
    assert!(fleet.snapshot()[0].is_failing, "in the drop of its end");
    hangs.store(true, SeqCst);
    pass(secs(40)).await;
    assert!(fleet.snapshot()[0].is_failing && !probing.is_finished(), "in the drop after its time");
    in_drop.store(false, SeqCst);
    hangs.store(false, SeqCst);
    pass(secs(20)).await;
    assert!(!fleet.snapshot()[0].is_failing);
}

// C58
#[tokio::test(start_paused = true)]
async fn a_closure_that_panics_before_its_future_has_failed() {
    let (fleet, [_]) = fleet();
    let panics = AtomicBool::new(true);
    let probe = probe_fn(move |_: BackendName, _: Mock| {
        assert!(!panics.swap(false, SeqCst), "in the closure");
        async { Ok::<_, ProbeError>(()) }
    });
    spawn(&fleet, Probes::new(probe));
    trip(&fleet, "a");
    pass(secs(2)).await;
    assert_eq!(state(&fleet, "a"), CircuitState::Open);
    pass(secs(12)).await;
    assert_eq!(state(&fleet, "a"), CircuitState::HalfOpen);
}
