//! Gates, by which replicas share the work.

use std::sync::Mutex;

use tower_fleet::probe::{Scope, gate_fn};

use super::*;

// C43, C55
#[tokio::test(start_paused = true)]
async fn a_gate_decides_whether_a_backend_that_is_out_is_probed() {
    let (fleet, [a, b]) = fleet();
    let answer = Arc::new(Mutex::new(Err(secs(3))));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (answers, seen) = (Arc::clone(&answer), Arc::clone(&asked));
    let gate = gate_fn(move |name| {
        seen.lock().unwrap().push(name.to_string());
        let answer = *answers.lock().unwrap();
        async move { answer }
    });
    spawn(&fleet, probes().scope(Scope::All).gate(gate));
    pass(secs(30)).await;
    assert!(asked.lock().unwrap().is_empty(), "those in rotation are probed anyway");
    let before = a.calls();
    trip(&fleet, "a");
    pass(secs(31)).await;
    assert_eq!((a.calls(), state(&fleet, "a")), (before, CircuitState::Open));
    assert_eq!(*asked.lock().unwrap(), ["a"; 11]);
    assert!(b.calls() >= 5);
    *answer.lock().unwrap() = Ok(());
    pass(secs(3)).await;
    assert_eq!((a.calls(), state(&fleet, "a")), (before + 1, CircuitState::HalfOpen));
}

// C55
#[tokio::test(start_paused = true)]
async fn without_an_answer_a_replica_decides_alone() {
    for gate in 0..3 {
        let (fleet, [_]) = fleet();
        let gate = gate_fn(move |_| {
            assert_ne!(gate, 0, "at once");
            async move {
                assert_ne!(gate, 1, "later");
                std::future::pending::<Result<(), Duration>>().await
            }
        });
        spawn(&fleet, probes().gate(gate));
        trip(&fleet, "a");
        pass(secs(3)).await;
        assert_eq!(state(&fleet, "a"), CircuitState::HalfOpen);
    }
}

// C55, C58
#[tokio::test(start_paused = true)]
async fn absurd_answers_of_a_gate_are_bounded() {
    for (wait, most) in [(Duration::ZERO, 15_000), (Duration::MAX, 1)] {
        let (fleet, [a]) = fleet();
        let asked = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&asked);
        let gate = gate_fn(move |_| {
            *counter.lock().unwrap() += 1;
            async move { Err(wait) }
        });
        spawn(&fleet, probes().gate(gate));
        trip(&fleet, "a");
        pass(secs(12)).await;
        let asked = *asked.lock().unwrap();
        assert!((1..=most).contains(&asked) && a.calls() == 0, "{asked}");
    }
}
