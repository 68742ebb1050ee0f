//! Probes while operators, requests and other probers change the same backends, in every order.

use proptest::prelude::*;
use tower_fleet::{
    AdminStatus, Balance, RoundRobin,
    probe::{OnSuccess, Scope},
};

use super::*;

#[derive(Clone, Debug)]
enum Edit {
    Remove,
    Insert,
    Replace,
    SetStatus(AdminStatus),
    ForceOpen,
    ForceClosed,
    Reset,
    Trip,
    Break,
    Mend,
    Hang,
    /// The prober of this number is dropped and made anew.
    Renew(usize),
    /// So many requests.
    Call(usize),
    CoolDown,
}

fn edit() -> impl Strategy<Value = Edit> {
    let status = prop_oneof![Just(AdminStatus::Healthy), Just(AdminStatus::Draining)];
    prop_oneof![
        1 => Just(Edit::Remove),
        3 => Just(Edit::Insert),
        2 => Just(Edit::Replace),
        2 => status.prop_map(Edit::SetStatus),
        2 => Just(Edit::ForceOpen),
        1 => Just(Edit::ForceClosed),
        2 => Just(Edit::Reset),
        3 => Just(Edit::Trip),
        3 => Just(Edit::Break),
        3 => Just(Edit::Mend),
        1 => Just(Edit::Hang),
        2 => (0..2_usize).prop_map(Edit::Renew),
        2 => (1..5_usize).prop_map(Edit::Call),
        1 => Just(Edit::CoolDown),
    ]
}

fn prober(fleet: &Plain, number: usize) -> JoinHandle<()> {
    match number {
        0 => spawn(fleet, probes().scope(Scope::All).unhealthy_after(1).timeout(secs(3))),
        _ => spawn(fleet, probes().on_success(OnSuccess::Close).timeout(secs(3)).healthy_after(2)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    // C41, C43: in the end, backends that are well serve, and no others do.
    #[test]
    fn probes_find_the_truth_whatever_happened_before(
        edits in prop::collection::vec((0..3_usize, edit(), 0..20_000_u64), 1..60),
        ends_well in any::<[bool; 3]>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let names = ["a", "b", "c"];
            let (fleet, remotes) = fleet::<3>();
            let mut remotes: [Vec<_>; 3] = remotes.map(|remote| vec![remote]);
            let mut probers = [0, 1].map(|number| prober(&fleet, number));
            for (which, edit, pause) in edits {
                let name = names[which];
                let remote = Arc::clone(remotes[which].last().unwrap());
                let new = || {
                    let (mock, remote) = Mock::new(name);
                    (Backend::new(name, mock), remote)
                };
                match edit {
                    Edit::Remove => drop(fleet.remove(name)),
                    Edit::Insert => {
                        let (backend, remote) = new();
                        if fleet.insert(backend).is_ok() {
                            remotes[which].push(remote);
                        }
                    }
                    Edit::Replace => {
                        let (backend, remote) = new();
                        if fleet.replace(backend).is_ok() {
                            remotes[which].push(remote);
                        }
                    }
                    Edit::SetStatus(status) => drop(fleet.set_status(name, status)),
                    Edit::ForceOpen => drop(fleet.switch(name).map(|switch| switch.force_open())),
                    Edit::ForceClosed => drop(fleet.switch(name).map(|switch| switch.force_closed())),
                    Edit::Reset => drop(fleet.switch(name).map(|switch| switch.reset())),
                    Edit::Trip => drop(fleet.switch(name).map(|switch| switch.trip())),
                    Edit::Break => remote.answer(Answer::Error),
                    Edit::Mend => remote.answer(Answer::Ok),
                    Edit::Hang => remote.answer(Answer::Never),
                    Edit::Renew(number) => {
                        probers[number].abort();
                        probers[number] = prober(&fleet, number);
                    }
                    Edit::Call(count) => {
                        let door = Balance::new(&fleet, RoundRobin::new());
                        for _ in 0..count {
                            let _ = tokio::time::timeout(secs(1), door.clone().oneshot(())).await;
                        }
                    }
                    Edit::CoolDown => drop(fleet.cool_down(name, secs(30))),
                }
                for name in names {
                    if let Some(switch) = fleet.switch(name) {
                        let one = shown(&fleet, name);
                        let is_forced_closed = switch.state() == CircuitState::ForcedClosed;
                        prop_assert!(!is_forced_closed || !one.is_failing, "{one:?}");
                    }
                }
                pass(Duration::from_millis(pause)).await;
            }
            for (remotes, is_well) in remotes.iter().zip(ends_well) {
                remotes.last().unwrap().answer(if is_well { Answer::Ok } else { Answer::Error });
            }
            // Relapses count for up to sixteen intervals.
            pass(secs(600)).await;
            for ((name, is_well), remotes) in names.into_iter().zip(ends_well).zip(&remotes) {
                let Some(switch) = fleet.switch(name) else { continue };
                let one = shown(&fleet, name);
                let is_expected = match switch.state() {
                    CircuitState::ForcedOpen => is_well != one.is_failing,
                    CircuitState::ForcedClosed => !one.is_failing,
                    state => is_well == (state == CircuitState::Closed && !one.is_failing) && is_well != one.is_failing,
                };
                prop_assert!(is_expected, "is well: {}, {:?}", is_well, one);
                let (last, earlier) = remotes.split_last().unwrap();
                prop_assert!(earlier.iter().all(|remote| remote.running() == 0 && remote.instances() == 0));
                prop_assert!(last.running() <= 2);
            }
            drop(fleet);
            pass(secs(1)).await;
            prop_assert!(probers.iter().all(JoinHandle::is_finished));
            Ok(())
        })?;
    }
}
