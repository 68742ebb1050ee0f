//! The bound on the load of a backend.

use tokio_test::{assert_pending, task};

use super::*;

fn loads(fleet: &Fleet<Mock, Classifier>) -> HashMap<String, usize> {
    fleet.snapshot().iter().map(|backend| (backend.name.to_string(), backend.in_flight)).collect()
}

/// Starts calls of a hot key among others, and ends some of them. After each that starts, checks the load of the backend
/// that got it.
async fn play(weights: &[u32], factor: f64, hot: impl Fn(u32) -> bool) -> HashMap<String, usize> {
    let names = &NAMES[..weights.len()];
    let (fleet, remotes) = fleet(names);
    for (name, weight) in names.iter().zip(weights) {
        fleet.set_weight(name, *weight).unwrap();
        remotes[name].answer(Answer::Never);
    }
    let mut door = BalanceLayer::new(Hash::by_classifier().bound(factor).unwrap()).layer(fleet.clone());
    let (mut rng, mut calls) = (fastrand::Rng::with_seed(factor.to_bits()), Vec::new());
    let parts = f64::from(weights.iter().sum::<u32>());
    for step in 0..2_000 {
        let before = loads(&fleet);
        if !calls.is_empty() && rng.u32(..100) < 40 {
            drop(calls.swap_remove(rng.usize(..calls.len())));
            continue;
        }
        let mut call = task::spawn(door.call(if hot(step) { 1 } else { rng.u64(2..) }));
        assert_pending!(call.poll());
        calls.push(call);
        let after = loads(&fleet);
        let chosen = names.iter().position(|name| after[*name] > before[*name]).unwrap();
        let sum: usize = after.values().sum();
        // A product of 21.000000000000004 is 21.
        let bound = (factor * sum as f64 * f64::from(weights[chosen]) / parts * (1.0 - 1e-12)).ceil() as usize;
        assert!(after[names[chosen]] <= bound, "step {step}: {after:?}, `{}` exceeds {bound}", names[chosen]);
    }
    loads(&fleet)
}

// C48
#[tokio::test(start_paused = true)]
async fn no_backend_gets_more_than_its_part_of_the_load() {
    for factor in [1.05, 1.25, 2.0] {
        for weights in [vec![1; 10], vec![1, 1], vec![5, 3, 1, 1]] {
            play(&weights, factor, |step| step % 2 == 0).await;
            let loads = play(&weights, factor, |_| true).await;
            let (sum, most) = (loads.values().sum::<usize>(), loads.values().max().unwrap());
            assert!(sum > 100 && *most > 0, "{loads:?}");
        }
    }
}

// C48
#[tokio::test(start_paused = true)]
async fn a_hot_key_spills_to_its_next_backends_in_order() {
    let (fleet, remotes) = fleet(&NAMES);
    // The order of a key: each time, the first one leaves.
    let mut order = Vec::new();
    for _ in &NAMES {
        order.push(send(&door(&fleet), 7).await);
        fleet.drain(order.last().unwrap());
    }
    NAMES.iter().for_each(|name| assert!(restore(&fleet, name)));
    remotes.values().for_each(|remote| remote.answer(Answer::Never));
    let mut door = door(&fleet);
    let mut calls = Vec::new();
    for _ in 0..8 {
        calls.push(door.call(7));
        let loads = loads(&fleet);
        // The first backends of the order are full, and none behind them has a call.
        let busy = order.iter().take_while(|name| loads[**name] > 0).count();
        assert_eq!(loads.values().sum::<usize>(), order[..busy].iter().map(|name| loads[*name]).sum::<usize>());
    }
    assert_eq!(loads(&fleet)[order[0]], 1, "1.25 times 8 over 10, rounded up");
    calls.clear();
    calls.push(door.call(7));
    assert_eq!(loads(&fleet)[order[0]], 1, "it returns when its calls have ended");
}

// C48
#[tokio::test(start_paused = true)]
async fn without_a_bound_no_load_moves_a_key() {
    let (fleet, remotes) = fleet(&NAMES);
    remotes.values().for_each(|remote| remote.answer(Answer::Never));
    let mut door = BalanceLayer::new(Hash::by_classifier().unbounded()).layer(fleet.clone());
    let _calls: Vec<_> = (0..50).map(|_| door.call(7)).collect();
    assert_eq!(loads(&fleet).values().filter(|load| **load == 50).count(), 1);
}

// C48
#[tokio::test(start_paused = true)]
async fn a_cancelled_call_is_load_no_more() {
    let (fleet, remotes) = fleet(&NAMES);
    remotes.values().for_each(|remote| remote.answer(Answer::Never));
    let mut door = door(&fleet);
    let first = door.call(7);
    let owner = loads(&fleet).into_iter().find(|(_, load)| *load == 1).unwrap().0;
    for _ in 0..50 {
        let second = door.call(7);
        assert_eq!(loads(&fleet)[&owner], 1, "it is at its bound");
        drop(second);
    }
    drop(first);
    let _again = door.call(7);
    assert_eq!(loads(&fleet)[&owner], 1);
}

// C48
#[test]
fn doors_of_many_threads_respect_the_bound_but_for_calls_that_start_together() {
    const THREADS: usize = 4;
    let (fleet, remotes) = fleet(&NAMES);
    remotes.values().for_each(|remote| remote.answer(Answer::Never));
    let door = door(&fleet);
    let calls: Vec<_> = std::thread::scope(|scope| {
        let threads = [(); THREADS].map(|()| {
            let mut door = door.clone();
            scope.spawn(move || (0..250).map(|_| door.call(7)).collect::<Vec<_>>())
        });
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let loads = loads(&fleet);
    assert_eq!((calls.len(), loads.values().sum()), (THREADS * 250, THREADS * 250));
    let most = *loads.values().max().unwrap();
    assert!(most <= 125 + THREADS, "{most} of 1,000 calls, over ten backends");
}
