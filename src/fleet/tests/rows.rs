//! Views that are patched are equal to those that are made of all members.

use super::*;

#[derive(Clone, Debug)]
enum Edit {
    Insert(i32),
    Remove(usize),
    Replace(usize, i32),
    Prioritize(usize, i32),
    Reweight(usize, u32),
    SetStatus(usize, AdminStatus),
    Trip(usize),
    Reset(usize),
    /// Removes all but this many.
    Keep(usize),
    /// A door reads the fleet.
    Read,
}

fn edit() -> impl Strategy<Value = Edit> {
    let status = prop_oneof![Just(AdminStatus::Healthy), Just(AdminStatus::Draining)];
    let priority = || -2..3_i32;
    prop_oneof![
        6 => priority().prop_map(Edit::Insert),
        3 => any::<usize>().prop_map(Edit::Remove),
        2 => (any::<usize>(), priority()).prop_map(|(which, priority)| Edit::Replace(which, priority)),
        3 => (any::<usize>(), priority()).prop_map(|(which, priority)| Edit::Prioritize(which, priority)),
        1 => (any::<usize>(), 1..9_u32).prop_map(|(which, weight)| Edit::Reweight(which, weight)),
        3 => (any::<usize>(), status).prop_map(|(which, status)| Edit::SetStatus(which, status)),
        2 => any::<usize>().prop_map(Edit::Trip),
        1 => any::<usize>().prop_map(Edit::Reset),
        1 => (0..3_usize).prop_map(Edit::Keep),
        5 => Just(Edit::Read),
    ]
}

/// Applies an edit. Those of a backend have no effect on an empty fleet.
fn apply(fleet: &Numbers, edit: &Edit, number: u32) {
    let names: Vec<_> = fleet.snapshot().into_iter().map(|backend| backend.name).collect();
    let name = |which: usize| names.get(which.checked_rem(names.len())?).map(|name| &**name);
    let trip = |which: usize| name(which).and_then(|name| fleet.switch(name));
    match *edit {
        Edit::Insert(priority) => {
            let backend = Backend::new(format!("b{number}"), number).priority(priority);
            fleet.insert(backend).expect("a valid backend");
        }
        Edit::Remove(which) => drop(name(which).map(|name| assert!(fleet.remove(name)))),
        Edit::Replace(which, priority) => drop(name(which).map(|name| {
            fleet.replace(Backend::new(name, number).priority(priority)).expect("a valid backend");
        })),
        Edit::Prioritize(which, priority) => drop(name(which).map(|name| fleet.set_priority(name, priority))),
        Edit::Reweight(which, weight) => drop(name(which).map(|name| fleet.set_weight(name, weight))),
        Edit::SetStatus(which, status) => drop(name(which).map(|name| fleet.set_status(name, status))),
        Edit::Trip(which) => drop(trip(which).map(|switch| switch.trip())),
        Edit::Reset(which) => drop(trip(which).map(|switch| switch.reset())),
        Edit::Keep(count) => drop(names.iter().skip(count).map(|name| fleet.remove(name)).collect::<Vec<_>>()),
        Edit::Read => drop(fleet.shared.selection()),
    }
}

proptest! {
    // C8, C11, C12
    #[test]
    fn a_patched_view_is_the_one_made_of_all_members(
        backends in prop_oneof![0..5_u32, 200..300_u32],
        edits in prop::collection::vec(edit(), 1..80),
    ) {
        let policy = crate::health::CircuitPolicy::new().consecutive(1).open_for(Duration::from_secs(3600));
        let first = (0..backends).map(|number| Backend::new(format!("a{number}"), number).priority(number as i32 % 3));
        let fleet = Fleet::plain().circuit_breaker(policy).backends(first).build().expect("valid backends");
        for (number, edit) in (1_000..).zip(&edits) {
            apply(&fleet, edit, number);
            if matches!(edit, Edit::Read) {
                fleet.shared.assert_derived();
            }
        }
        fleet.shared.assert_derived();
    }
}

// C11
#[test]
fn one_change_of_a_member_takes_over_the_rows_of_all_others() {
    let fleet = fleet(&["a", "b", "c"]);
    let first = fleet.shared.selection();
    assert!(fleet.set_priority("b", 1));
    let moved = fleet.shared.selection();
    assert_eq!(tier(&fleet), ["b"]);
    assert!(fleet.set_priority("b", 0));
    assert_eq!(tier(&fleet), ["a", "b", "c"]);
    fleet.set_weight("c", 5).expect("a valid weight");
    let weighted = fleet.shared.selection();
    assert!(weighted.has_view_of(&fleet.shared.selection()) && !weighted.has_view_of(&moved));
    assert!(weighted.tier_version > moved.tier_version && moved.tier_version > first.tier_version);
}

// C11
#[test]
fn the_row_of_a_backend_is_found_by_its_position() {
    let fleet = fleet(&["a", "b", "c", "d"]);
    fleet.set_priority("c", 7);
    fleet.replace(Backend::new("d", 9)).expect("a valid backend");
    fleet.drain("a");
    let selection = fleet.shared.selection();
    for member in fleet.shared.core.members() {
        let row = selection.eligible_row(member.id, member.position());
        match &*member.name {
            "a" => assert_eq!(row, None, "it is not eligible"),
            _ => assert_eq!(selection.info(row.expect("a row")).id, member.id),
        }
        let serving = selection.serving_row(member.position());
        assert_eq!(serving, row.filter(|_| &*member.name == "c"));
    }
    assert_eq!(selection.eligible_row(BackendId(4), 4), None, "it was replaced");
    assert_eq!(selection.eligible_row(BackendId(99), 99), None);
}
