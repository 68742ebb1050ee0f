//! Edits of several threads while doors pick.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

// C8, C11, C12: no panic, no removed backend, and in the end the view that is made of all members.
#[test]
fn views_are_whole_while_threads_edit_and_pick() {
    let policy = crate::CircuitPolicy::new().consecutive(1).open_for(Duration::from_millis(1));
    let first = (0..40).map(|number| Backend::new(format!("b{number}"), number).priority(number % 3));
    let fleet =
        Fleet::plain().circuit_breaker(policy).max_ejected(0.5).backends(first).build().expect("valid backends");
    let (is_over, picks) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    fleet.shared.core.process_due();
                    let selection = fleet.shared.selection();
                    for row in selection.rows() {
                        let info = selection.info(*row);
                        // A service is dropped with its removal, so no removed backend is called.
                        let service = selection.shard(*row, slot()).map(|it| *it.service());
                        assert!(service.is_none_or(|number| number < 4_000), "`{}`", info.name);
                    }
                    assert!(selection.serving_tier().iter().count() <= selection.rows().len());
                    picks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let editors: Vec<_> = (0..3_u64)
            .map(|seed| {
                let fleet = &fleet;
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(seed);
                    for step in 0..4_000 {
                        let name = format!("b{}", rng.u32(..60));
                        let backend = Backend::new(name.clone(), step).priority(rng.i32(0..4));
                        let member = fleet.shared.core.find(&name);
                        match rng.u32(..12) {
                            0 => drop(fleet.insert(backend)),
                            1 => drop(fleet.remove(&name)),
                            2 => drop(fleet.replace(backend)),
                            3 => drop(fleet.set_priority(&name, rng.i32(0..4))),
                            4 => drop(fleet.set_weight(&name, rng.u32(1..9))),
                            5 => drop(fleet.drain(&name)),
                            6 => drop(fleet.set_status(&name, AdminStatus::Healthy)),
                            7 => drop(fleet.switch(&name).map(|switch| switch.trip())),
                            8 => drop(fleet.switch(&name).map(|switch| switch.reset())),
                            9 => drop(member.map(|it| fleet.shared.core.probe_failed(&it, Duration::from_millis(2)))),
                            10 => drop(member.map(|it| fleet.shared.core.hint(&it, Duration::from_millis(2), true))),
                            _ => drop(member.map(|it| fleet.shared.core.probe_succeeded(&it, false))),
                        }
                        if step % 997 == 0 {
                            for number in 0..300 {
                                drop(fleet.insert(Backend::new(format!("c{seed}-{number}"), number)));
                            }
                            for number in 0..300 {
                                assert!(fleet.remove(&format!("c{seed}-{number}")));
                            }
                        }
                    }
                })
            })
            .collect();
        let ended = editors.into_iter().map(|editor| editor.join()).collect::<Vec<_>>();
        is_over.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|ended| ended.expect("no panic"));
    });
    let core = &fleet.shared.core;
    let now = core.clock.now();
    core.edit(|registry| registry.process_due(now));
    core.registry().assert_recounted(now);
    fleet.shared.assert_derived();
    assert!(picks.load(Ordering::Relaxed) > 0);
}
