//! Round robin.

use proptest::{prelude::*, strategy::Strategy};

use super::*;
use crate::{health::AdminStatus, pick::RoundRobin};

// C3
#[test]
fn selects_in_order() {
    for backends in [1, 2, 3, 7, 100] {
        let tier = Tier::equals(backends);
        let pick = new_pick(&RoundRobin::new(), &tier);
        let expected: Vec<_> = (0..backends).cycle().take(5 * backends + 1).collect();
        assert_eq!(picks(&pick, &tier, expected.len()), expected);
    }
}

// C3
#[test]
fn each_of_eight_threads_selects_in_order_and_begins_one_step_later() {
    for backends in [2, 3, 7, 1_000] {
        let tier = Tier::equals(backends);
        let pick = new_pick(&RoundRobin::new(), &tier);
        let of_threads = picks_of_threads(SLOTS, &SKIP_NONE, &pick, &tier, 10_001);
        let mut first = Vec::new();
        for picks in &of_threads {
            first.push(picks[0]);
            assert!(picks.windows(2).all(|pair| pair[1] == (pair[0] + 1) % backends), "out of order among {backends}");
        }
        first.sort_unstable();
        let mut expected: Vec<_> = (0..THREADS).map(|thread| thread % backends).collect();
        expected.sort_unstable();
        assert_eq!(first, expected);
        let (most, least) = extremes(&of_threads.concat(), backends);
        assert!(most - least <= THREADS, "{least} to {most} among {backends}");
    }
}

// C3
#[test]
fn counts_of_threads_that_share_a_slot_differ_by_one_at_most() {
    for backends in [2, 3, 7, 1_000] {
        let tier = Tier::equals(backends);
        let pick = new_pick(&RoundRobin::new(), &tier);
        let shared = [SHARED; THREADS];
        let (most, least) = extremes(&picks_of_threads(shared, &SKIP_NONE, &pick, &tier, 10_001).concat(), backends);
        assert!(most - least <= 1, "{least} to {most} among {backends}");
    }
}

/// A model of the rotation: the next eligible backend behind the last one selected, else the first.
struct Ring {
    /// Position, name and eligibility, in the order of the fleet. A replacement keeps the position.
    backends: Vec<(u64, String, bool)>,
    last: u64,
}

impl Ring {
    fn next(&mut self) -> Option<String> {
        let eligible = || self.backends.iter().filter(|(.., eligible)| *eligible);
        let (position, name, _) =
            eligible().find(|(position, ..)| *position > self.last).or_else(|| eligible().next())?;
        self.last = *position;
        Some(name.clone())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Pick,
    Insert,
    Remove(usize),
    Replace(usize),
    Reweight(usize),
    SetStatus(usize, AdminStatus),
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![Just(AdminStatus::Healthy), Just(AdminStatus::Degraded), Just(AdminStatus::Draining)];
    prop_oneof![
        5 => Just(Step::Pick),
        1 => Just(Step::Insert),
        1 => any::<usize>().prop_map(Step::Remove),
        1 => any::<usize>().prop_map(Step::Replace),
        1 => any::<usize>().prop_map(Step::Reweight),
        3 => (any::<usize>(), status).prop_map(|(which, status)| Step::SetStatus(which, status)),
    ]
}

proptest! {
    // C3
    #[test]
    fn continues_behind_the_last_selected_after_any_change(steps in prop::collection::vec(step(), 1..200)) {
        let harness = Harness::new(&["b1", "b2", "b3"], RoundRobin::new());
        let backends = (1..=3).map(|position| (position, format!("b{position}"), true));
        let mut ring = Ring { backends: backends.collect(), last: 0 };
        let mut inserted = 3;
        for step in steps {
            let backends = ring.backends.len();
            let fleet = &harness.fleet;
            match step {
                Step::Pick => prop_assert_eq!(harness.pick(), ring.next()),
                Step::Insert => {
                    inserted += 1;
                    let name = format!("b{inserted}");
                    fleet.insert(named(&name)).unwrap();
                    ring.backends.push((inserted, name, true));
                }
                _ if backends == 0 => {}
                Step::Remove(which) => {
                    let (_, name, _) = ring.backends.remove(which % backends);
                    prop_assert!(fleet.remove(&name));
                }
                Step::Replace(which) => {
                    let (_, name, eligible) = &mut ring.backends[which % backends];
                    fleet.replace(named(name)).unwrap();
                    *eligible = true;
                }
                Step::Reweight(which) => {
                    let (_, name, _) = &ring.backends[which % backends];
                    fleet.set_weight(name, 1 + which as u32 % 7).unwrap();
                }
                Step::SetStatus(which, status) => {
                    let (_, name, eligible) = &mut ring.backends[which % backends];
                    fleet.set_status(name, status);
                    *eligible = status == AdminStatus::Healthy;
                }
            }
        }
    }
}

// C3
#[test]
fn after_a_change_before_the_first_request_begins_with_the_first() {
    let harness = Harness::new(&["a", "b", "c"], RoundRobin::new());
    harness.fleet.remove("a");
    harness.fleet.insert(named("d")).unwrap();
    assert_eq!(harness.picks(4), ["b", "c", "d", "b"]);
}

// C3
#[test]
fn continues_after_a_time_without_eligible_backends() {
    let harness = Harness::new(&["a", "b", "c"], RoundRobin::new());
    assert_eq!(harness.picks(1), ["a"]);
    ["a", "b", "c"].iter().for_each(|name| assert!(harness.fleet.drain(name)));
    assert_eq!(harness.pick(), None);
    ["c", "b", "a"].iter().for_each(|name| assert!(harness.fleet.set_status(name, AdminStatus::Healthy)));
    assert_eq!(harness.picks(3), ["b", "c", "a"]);
}
