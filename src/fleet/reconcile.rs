//! A wanted set, applied as a difference.

use std::{collections::HashSet, sync::Arc};

use super::{
    backend::Backend,
    books::Books,
    handle::{Added, Fleet},
    member::{MemberInfo, Settings},
};
use crate::{name::BackendName, setting::InvalidSetting};

/// What [`Fleet::reconcile`] changed, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconciled {
    /// Backends that were added.
    pub inserted: Vec<BackendName>,
    /// Backends whose key changed, and with it their service.
    pub replaced: Vec<BackendName>,
    /// Backends whose weight, priority or timeout changed, and nothing else.
    pub updated: Vec<BackendName>,
    /// Backends that were not wanted any more. What runs there finishes.
    pub removed: Vec<BackendName>,
    /// How many stayed as they were.
    pub unchanged: usize,
}

/// What is to be done for one wanted backend.
enum Step {
    Keep(Arc<MemberInfo>),
    Make,
}

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> Fleet<S, C> {
    /// Makes the fleet the wanted set, by changing as little as possible, and all of it or nothing.
    ///
    /// A wanted backend carries a key in place of a service: what its service is made of, such as an address. A backend
    /// with the name and the key of one that is there keeps its service, connections, health, load and position, and
    /// takes over the wanted weight, priority and timeout; with another key it is replaced. `make` is called for new and
    /// replaced ones only, outside of any lock. Backends that are not wanted are removed, and finish what runs there. A
    /// backend's [`status`](Backend::status) counts when it enters: the operator's later word is not undone.
    ///
    /// # Errors
    ///
    /// A bad name, weight or timeout, or a name that is wanted twice. The fleet is as it was then.
    ///
    /// ```
    /// # use tower_fleet::{Backend, Fleet};
    /// # #[derive(Clone)] struct Client(#[allow(dead_code)] String);
    /// let fleet = Fleet::plain().build()?;
    /// let wanted = |addresses: &[&str]| {
    ///     let backends = addresses.iter().map(|address| Backend::new(*address, address.to_string()));
    ///     fleet.reconcile(backends.collect::<Vec<_>>(), |backend| Client(backend.service().clone()))
    /// };
    /// wanted(&["10.0.0.1:80", "10.0.0.2:80"])?;
    /// let changed = wanted(&["10.0.0.2:80", "10.0.0.3:80"])?;
    /// assert_eq!((changed.inserted.len(), changed.removed.len(), changed.unchanged), (1, 1, 1));
    /// # Ok::<_, tower_fleet::fleet::InvalidSetting>(())
    /// ```
    pub fn reconcile<K>(
        &self,
        wanted: impl IntoIterator<Item = Backend<K>>,
        mut make: impl FnMut(&Backend<K>) -> S,
    ) -> Result<Reconciled, InvalidSetting>
    where
        K: PartialEq + Send + Sync + 'static,
    {
        let mut names = HashSet::new();
        let mut checked = Vec::new();
        for backend in wanted {
            let settings = backend.checked()?;
            if !names.insert(settings.name.clone()) {
                return Err(InvalidSetting::taken(&settings.name));
            }
            checked.push((backend, settings));
        }
        let core = &self.shared.core;
        let steps: Vec<_> = {
            let books = core.books();
            checked.iter().map(|(backend, settings)| self.step(&books, backend, settings)).collect()
        };
        // Outside of the lock: this is the caller's code.
        let services: Vec<_> = checked
            .iter()
            .zip(&steps)
            .map(|((backend, _), step)| matches!(step, Step::Make).then(|| make(backend)))
            .collect();
        let mut report = Reconciled::default();
        let gone = core.edit(|books| {
            let is_unwanted = |member: &&Arc<MemberInfo>| !names.contains(&member.name);
            let unwanted: Vec<_> = books.members.iter().filter(is_unwanted).cloned().collect();
            let mut gone = Vec::new();
            for member in unwanted {
                gone.extend(self.remove_member(books, &member));
                report.removed.push(member.name.clone());
            }
            for (((backend, settings), step), service) in checked.into_iter().zip(steps).zip(services) {
                let name = settings.name.clone();
                match (step, service) {
                    // One that was removed meanwhile stays out, as if that had come later.
                    (Step::Keep(member), _) if books.update(&member, &settings) => report.updated.push(name),
                    (Step::Keep(_), _) => report.unchanged += 1,
                    (Step::Make, Some(service)) => {
                        let before = books.by_name.get(&name).cloned();
                        let Backend { status, service: key, .. } = backend;
                        let added = Added { settings, status, service, key: Some(Box::new(key)) };
                        gone.extend(self.put_member(books, added, before.as_ref()));
                        if before.is_some() { &mut report.replaced } else { &mut report.inserted }.push(name);
                    }
                    (Step::Make, None) => {}
                }
            }
            gone
        });
        drop(gone);
        Ok(report)
    }

    fn step<K: PartialEq + 'static>(&self, books: &Books, backend: &Backend<K>, settings: &Settings) -> Step {
        match books.by_name.get(&settings.name) {
            Some(member) if self.shared.is_made_of(member.id, backend.service()) => Step::Keep(Arc::clone(member)),
            _ => Step::Make,
        }
    }
}
