//! A wanted set, applied as a difference.

use std::{collections::HashSet, sync::Arc};

use super::{
    backend::Backend,
    handle::{Added, Fleet},
    member::{MemberInfo, Settings},
    view::Key,
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
enum Step<K, S, C> {
    Keep(Arc<MemberInfo>, Settings, Backend<K>),
    Put(Added<S, C>),
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
    /// # #[derive(Clone)] struct Client(String);
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
        let known: Vec<_> = {
            let books = core.books();
            let known = |settings: &Settings| {
                let member = books.by_name.get(&settings.name)?;
                Some((Arc::clone(member), self.shared.key(member.id)?))
            };
            checked.iter().map(|(_, settings)| known(settings)).collect()
        };
        // Outside of the lock: keys and services are the caller's code.
        let step = |((backend, settings), known): ((Backend<K>, Settings), Option<(_, Key)>)| match known {
            Some((member, key)) if key.downcast_ref() == Some(backend.service()) => {
                Step::Keep(member, settings, backend)
            }
            _ => {
                let service = make(&backend);
                let Backend { status, service: key, .. } = backend;
                Step::Put(self.made(settings, status, service, Some(Arc::new(key))))
            }
        };
        let steps: Vec<_> = checked.into_iter().zip(known).map(step).collect();
        let mut report = Reconciled::default();
        let gone = core.edit(|books| {
            let is_unwanted = |member: &&Arc<MemberInfo>| !names.contains(&member.name);
            let unwanted: Vec<_> = books.members.iter().filter(is_unwanted).cloned().collect();
            let mut gone = Vec::new();
            for member in unwanted {
                gone.extend(self.remove_member(books, &member));
                report.removed.push(member.name.clone());
            }
            let mut kept = Vec::new();
            for step in steps {
                match step {
                    // One that was removed meanwhile stays out, as if that had come later.
                    Step::Keep(member, settings, backend) => {
                        kept.push(backend);
                        match books.update(&member, &settings) {
                            true => report.updated.push(settings.name),
                            false => report.unchanged += 1,
                        }
                    }
                    Step::Put(added) => {
                        let name = added.name().clone();
                        let before = books.by_name.get(&name).cloned();
                        gone.extend(self.put_member(books, added, before.as_ref()));
                        if before.is_some() { &mut report.replaced } else { &mut report.inserted }.push(name);
                    }
                }
            }
            (gone, kept)
        });
        drop(gone);
        Ok(report)
    }
}
