//! Names from files that live as long as the process.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// The names of all files that were read. Ledgers hold names as `&'static str`, so that an entry costs no allocation.
static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// A file that is read again brings few new names, and a bound keeps one that always does from growing the process.
const MAX_NAMES: usize = 1024;

/// Returns the name for the rest of the process: the same one for the same text. `None` if it is longer than any name
/// may be, or if there are 1,024 others already.
pub(crate) fn intern(name: &str) -> Option<&'static str> {
    intern_in(&mut NAMES.lock().unwrap_or_else(PoisonError::into_inner), name)
}

fn intern_in(names: &mut BTreeSet<&'static str>, name: &str) -> Option<&'static str> {
    if let Some(known) = names.get(name) {
        return Some(known);
    }
    if name.len() > 64 || names.len() >= MAX_NAMES {
        return None;
    }
    let name: &'static str = Box::leak(name.into());
    names.insert(name);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    // C58, C72
    #[test]
    fn names_are_kept_once_and_bounded() {
        let mut names = BTreeSet::new();
        let first = intern_in(&mut names, "quota").unwrap();
        assert!(std::ptr::eq(first, intern_in(&mut names, &String::from("quota")).unwrap()));
        assert_eq!(intern_in(&mut names, &"x".repeat(65)), None);
        let known = (0..2000).filter(|number| intern_in(&mut names, &number.to_string()).is_some()).count();
        assert_eq!((known, names.len()), (1023, 1024));
        assert_eq!((intern_in(&mut names, "quota"), intern_in(&mut names, "other")), (Some("quota"), None));
    }
}
