//! Gates, by which replicas share the work.

use std::sync::Mutex;

use tower_fleet::{
    probe::{Scope, gate_fn},
    replicas::{MemoryExchange, Share},
};

use super::*;

// C43, C55
#[tokio::test(start_paused = true)]
async fn a_gate_decides_whether_a_backend_that_is_out_is_probed() {
    let (fleet, [a, b]) = fleet();
    let answer = Arc::new(Mutex::new(false));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (answers, seen) = (Arc::clone(&answer), Arc::clone(&asked));
    let gate = gate_fn(move |name| {
        seen.lock().unwrap().push(name.to_string());
        let answer = *answers.lock().unwrap();
        async move { answer }
    });
    spawn(&fleet, probes().scope(Scope::All).jitter(0.0).gate(gate));
    pass(secs(25)).await;
    assert!(asked.lock().unwrap().is_empty(), "those in rotation are probed anyway");
    let before = a.calls();
    trip(&fleet, "a");
    pass(secs(35)).await;
    assert_eq!((a.calls(), state(&fleet, "a")), (before, CircuitState::Open));
    assert_eq!(*asked.lock().unwrap(), ["a"; 4]);
    assert!(b.calls() >= 6);
    *answer.lock().unwrap() = true;
    pass(secs(10)).await;
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
                std::future::pending::<bool>().await
            }
        });
        spawn(&fleet, probes().gate(gate));
        trip(&fleet, "a");
        pass(secs(3)).await;
        assert_eq!(state(&fleet, "a"), CircuitState::HalfOpen);
    }
}

// C43, C55
#[tokio::test(start_paused = true)]
async fn of_replicas_with_one_exchange_one_probes_at_a_time() {
    let exchange = MemoryExchange::new();
    let replicas: Vec<_> = (0..20).map(|_| fleet::<1>()).collect();
    for (fleet, [a]) in &replicas {
        a.answer(Answer::Error);
        let sharing = fleet.share(Share::new(exchange.clone())).unwrap();
        let permits = sharing.permits();
        tokio::spawn(sharing);
        spawn(fleet, probes().gate(permits));
    }
    pass(secs(1)).await;
    replicas.iter().for_each(|(fleet, _)| trip(fleet, "a"));
    let calls = || replicas.iter().map(|(_, [a])| a.calls()).sum::<usize>();
    pass(secs(3)).await;
    assert_eq!(calls(), 1);
    pass(secs(300)).await;
    // A permit is valid for five seconds.
    assert!((10..=62).contains(&calls()), "{} probes by twenty replicas in 30 intervals", calls());
}

// C43, C55: a refusal does not return a backend to rotation that fails here.
#[tokio::test(start_paused = true)]
async fn a_gate_does_not_decide_about_backends_that_fail_here() {
    let (fleet, [a]) = fleet();
    broken(&a);
    spawn(&fleet, probes().scope(Scope::All).gate(gate_fn(|_| async { false })));
    pass(secs(40)).await;
    for _ in 0..1_000 {
        assert!(shown(&fleet, "a").is_failing);
        pass(secs(1)).await;
    }
    a.answer(Answer::Ok);
    pass(secs(13)).await;
    assert!(!shown(&fleet, "a").is_failing);
}
