//! A bounded queue in the order of classes. Pure.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::outcome::PriorityClass;

/// A bounded queue: the highest class first, and within a class the one that came first.
#[derive(Debug)]
pub(super) struct ClassQueue<T> {
    bound: usize,
    last: u64,
    entries: BTreeMap<Key, T>,
}

/// The place of an entry. Ascending keys are in the order of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    class: Reverse<PriorityClass>,
    number: u64,
}

impl<T> ClassQueue<T> {
    pub(super) fn new(bound: u32) -> Self {
        Self { bound: bound as usize, last: 0, entries: BTreeMap::new() }
    }

    /// Adds an entry. If the queue is full, the last entry of the lowest class is evicted for one of a higher class, and
    /// returned with its key.
    ///
    /// # Errors
    ///
    /// The queue is full of entries of this class and higher ones. Contains the entry.
    pub(super) fn push(&mut self, class: PriorityClass, entry: T) -> Result<(Key, Option<(Key, T)>), T> {
        let mut evicted = None;
        if self.entries.len() >= self.bound {
            let is_lower = |(last, _): &(&Key, &T)| last.class.0 < class;
            if self.entries.last_key_value().filter(is_lower).is_none() {
                return Err(entry);
            }
            evicted = self.entries.pop_last();
        }
        self.last += 1;
        let key = Key { class: Reverse(class), number: self.last };
        self.entries.insert(key, entry);
        Ok((key, evicted))
    }

    /// Puts an entry at the place that it has had, also if the queue is full.
    pub(super) fn put_back(&mut self, key: Key, entry: T) {
        self.entries.insert(key, entry);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes the first entry.
    pub(super) fn pop(&mut self) -> Option<(Key, T)> {
        self.entries.pop_first()
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.entries.get_mut(&key)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        self.entries.remove(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    // C68
    #[test]
    fn the_highest_class_comes_first_and_within_a_class_the_first_entry() {
        let mut queue = ClassQueue::new(10);
        for (number, class) in [1, 3, 2, 3, 1, 2].into_iter().enumerate() {
            assert!(queue.push(PriorityClass(class), number).is_ok());
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, number)| number).collect();
        assert_eq!(order, [1, 3, 2, 5, 0, 4]);
    }

    // C68
    #[test]
    fn over_the_bound_the_last_entry_of_the_lowest_class_is_evicted_or_the_new_one_is_refused() {
        let mut queue = ClassQueue::new(3);
        let mut push = |class, name| match queue.push(PriorityClass(class), name) {
            Ok((_, evicted)) => evicted.map_or("", |(_, name)| name),
            Err(_) => "refused",
        };
        assert_eq!([push(5, "a"), push(2, "b"), push(2, "c")], ["", "", ""]);
        assert_eq!([push(2, "d"), push(1, "e")], ["refused", "refused"]);
        assert_eq!([push(3, "f"), push(9, "g"), push(5, "h")], ["c", "b", "f"]);
        assert_eq!([push(5, "i"), push(6, "j")], ["refused", "h"]);
        assert_eq!(ClassQueue::new(0).push(PriorityClass(255), ()), Err(()));
    }

    // C68
    #[test]
    fn the_order_is_that_of_a_sorted_list_and_the_bound_holds() {
        let (mut rng, mut queue, mut list) = (Rng::seeded(1), ClassQueue::new(20), Vec::<(Key, u64)>::new());
        for step in 0..20_000 {
            match rng.below(5) {
                0..=2 => {
                    if let Ok((key, evicted)) = queue.push(PriorityClass(rng.below(4) as u8), step) {
                        assert_eq!(evicted, (list.len() == 20).then(|| list.pop()).flatten());
                        list.push((key, step));
                        list.sort_unstable();
                    }
                }
                3 => assert_eq!(queue.pop(), (!list.is_empty()).then(|| list.remove(0))),
                _ if list.is_empty() => {}
                _ => {
                    let (key, entry) = list.remove(rng.below(list.len()));
                    assert_eq!((queue.remove(key), queue.remove(key)), (Some(entry), None));
                    if rng.below(2) == 0 {
                        queue.put_back(key, entry);
                        list.push((key, entry));
                        list.sort_unstable();
                    }
                }
            }
            assert!(queue.entries.len() <= 20 && queue.is_empty() == list.is_empty());
        }
    }
}
