//! Changes a fleet to a wanted set of backends, such as that of a file.

use std::{collections::HashSet, sync::Arc};

use super::{
    backend::Backend,
    handle::{Fleet, NewMember},
    member::{MemberInfo, Settings},
    registry::Registry,
    shard::Key,
    sources::SourceId,
};
use crate::{
    foreign,
    health::{AdminStatus, Signal},
    name::{BackendId, BackendName},
    setting::InvalidSetting,
};

/// The changes made by [`Fleet::reconcile`], by the names of the backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconciled {
    /// Backends that were added.
    pub inserted: Vec<BackendName>,
    /// Backends that were replaced, since their keys changed.
    pub replaced: Vec<BackendName>,
    /// Backends that kept their service and got another weight, priority, timeout or limit, or other tags.
    pub updated: Vec<BackendName>,
    /// Backends that were removed. Their requests in flight finish.
    pub removed: Vec<BackendName>,
    /// The number of backends that did not change.
    pub unchanged: usize,
}

/// The members that a wanted set may change: those of one source, or those of none.
#[derive(Default)]
pub(super) struct Scope {
    pub(super) source: Option<SourceId>,
    /// The wanted names of other members, which were skipped. Without a source, none is.
    pub(super) taken: Vec<BackendName>,
}

impl Scope {
    fn has(&self, registry: &Registry, member: &MemberInfo) -> bool {
        registry.sources.source(member.id) == self.source
    }
}

/// A member of a wanted name, its key, and whether it is in the scope.
type Known = (Arc<MemberInfo>, Option<Key>, bool);

/// The change for one wanted backend.
enum Step<K, S, C> {
    Keep(Arc<MemberInfo>, Settings, Backend<K>),
    Put(NewMember<S, C>),
    /// Another source has a backend of the name.
    Taken(BackendName, Backend<K>),
}

/// The most members that are read under the lock at once, so that a large set does not keep others waiting.
const MAX_READ: usize = 256;

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> Fleet<S, C> {
    /// Changes the fleet to the wanted set of backends, with as few changes as possible.
    ///
    /// A wanted backend has a key in place of a service: what its service is made from, such as an address. It is
    /// compared with the backend of the same name:
    ///
    /// | in the fleet | change |
    /// |---|---|
    /// | no such name | inserted, with the service that `make` returns |
    /// | the same key | keeps its service, health, load and position; gets the wanted weight, priority, timeout, limit and tags |
    /// | another key, or none | replaced by a backend with the service that `make` returns |
    ///
    /// Backends that are not wanted are removed, and their requests in flight finish. Those of lists that the fleet
    /// [follows](Self::follow_lists) are left alone. The [`status`](Backend::status) is used for inserted and replaced
    /// backends only, and a status that an operator has set stays. `make` runs outside of any lock.
    ///
    /// # Errors
    ///
    /// An invalid setting, a name that is wanted twice, or one of a list that the fleet follows. The fleet is unchanged
    /// then.
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
        make: impl FnMut(&Backend<K>) -> S,
    ) -> Result<Reconciled, InvalidSetting>
    where
        K: PartialEq + Send + Sync + 'static,
    {
        self.apply(wanted, make, &mut Scope::default())
    }

    /// Changes the members in a scope to the wanted set.
    pub(super) fn apply<K>(
        &self,
        wanted: impl IntoIterator<Item = Backend<K>>,
        mut make: impl FnMut(&Backend<K>) -> S,
        scope: &mut Scope,
    ) -> Result<Reconciled, InvalidSetting>
    where
        K: PartialEq + Send + Sync + 'static,
    {
        let mut names = HashSet::new();
        let mut checked = Vec::new();
        for backend in wanted {
            let settings = backend.checked()?;
            if !names.insert(settings.name.clone()) {
                return Err(InvalidSetting::of_name(&settings.name, "is taken"));
            }
            checked.push((backend, settings));
        }
        let core = &self.shared.core;
        // Before the members are read, so that a change meanwhile is seen.
        let revision = core.registry().revision;
        let unwanted = self.unwanted(&names, scope);
        let known: Vec<_> = checked.chunks(MAX_READ).flat_map(|some| self.known(some, scope)).collect();
        let is_taken = |known: &Option<Known>| known.as_ref().is_some_and(|(.., is_in_scope)| !is_in_scope);
        if let (None, Some(first)) = (scope.source, known.iter().position(is_taken)) {
            return Err(is_listed(&checked[first].1.name));
        }
        // Outside of the lock: the comparison of keys and `make` are the caller's code.
        let step = |((backend, settings), known): ((Backend<K>, Settings), Option<Known>)| match known {
            Some((_, _, false)) => Step::Taken(settings.name, backend),
            Some((member, Some(key), _)) if key.downcast_ref() == Some(backend.service()) => {
                Step::Keep(member, settings, backend)
            }
            _ => {
                let service = make(&backend);
                let Backend { status, service: key, .. } = backend;
                Step::Put(self.new_member(settings, status, service, Some(Arc::new(key))))
            }
        };
        let steps = checked.into_iter().zip(known).map(step);
        let (equal, steps): (Vec<_>, Vec<_>) = steps.partition(Step::is_equal);
        let mut report = Reconciled::default();
        let (error, removed, kept, taken, equal) = core.edit(|registry| {
            // In nearly all cases nothing else changed the fleet meanwhile, and only the differences need the lock.
            let (unwanted, steps, equal) = match registry.revision == revision {
                true => (unwanted, steps, equal),
                false => {
                    let is_unwanted =
                        |member: &&Arc<MemberInfo>| !names.contains(&member.name) && scope.has(registry, member);
                    let unwanted = registry.members.values().filter(is_unwanted).cloned().collect();
                    (unwanted, steps.into_iter().chain(equal).collect(), Vec::new())
                }
            };
            let is_taken = |step: &Step<K, S, C>| match step {
                Step::Put(new) => registry.by_name.get(new.name()).is_some_and(|member| !scope.has(registry, member)),
                Step::Keep(..) => false,
                Step::Taken(..) => true,
            };
            // Another source may have added it just now.
            let (mut taken, steps): (Vec<_>, Vec<_>) = steps.into_iter().partition(is_taken);
            if let (None, Some(first)) = (scope.source, taken.first().map(Step::name)) {
                let error = is_listed(first);
                taken.extend(steps);
                return (Some(error), Vec::new(), Vec::new(), taken, equal);
            }
            scope.taken.extend(taken.iter().map(Step::name).cloned());
            let mut removed = Vec::new();
            for member in unwanted {
                removed.extend(self.remove_member(registry, &member));
                report.removed.push(member.name.clone());
            }
            let mut kept = Vec::new();
            for step in steps {
                match step {
                    // A member that another task removed meanwhile stays removed, as if that had happened afterwards.
                    Step::Keep(member, settings, backend) => {
                        kept.push(backend);
                        match !member.health.is_removed()
                            && registry.update(&member, &settings, core.limit, core.clock.now())
                        {
                            true => report.updated.push(settings.name),
                            false => report.unchanged += 1,
                        }
                    }
                    Step::Put(new) => {
                        let name = new.name().clone();
                        let before = registry.by_name.get(&name).cloned();
                        let status = before.as_deref().and_then(set_by_operator);
                        removed.extend(self.put_member(registry, new, before.as_ref()));
                        if let Some((member, status)) = registry.by_name.get(&name).cloned().zip(status) {
                            core.write(registry, &member, Signal::Status(status));
                        }
                        registry.sources.note(BackendId(registry.last_id), scope.source);
                        if before.is_some() { &mut report.replaced } else { &mut report.inserted }.push(name);
                    }
                    Step::Taken(_, backend) => kept.push(backend),
                }
            }
            report.unchanged += equal.len();
            (None, removed, kept, taken, equal)
        });
        // Outside of the lock: services and keys are the caller's code.
        foreign::discard(removed);
        foreign::discard(kept);
        foreign::discard(taken);
        foreign::discard(equal);
        error.map_or(Ok(report), Err)
    }

    /// Returns the members of the wanted names.
    fn known<K>(&self, wanted: &[(Backend<K>, Settings)], scope: &Scope) -> Vec<Option<Known>> {
        let registry = self.shared.core.registry();
        let known = |settings: &Settings| {
            let member = registry.by_name.get(&settings.name)?;
            Some((Arc::clone(member), self.shared.key(member.id), scope.has(&registry, member)))
        };
        wanted.iter().map(|(_, settings)| known(settings)).collect()
    }

    /// Returns the members in a scope that have other names than these, in their order.
    fn unwanted(&self, names: &HashSet<BackendName>, scope: &Scope) -> Vec<Arc<MemberInfo>> {
        let (mut members, mut next) = (Vec::new(), 0);
        loop {
            let registry = self.shared.core.registry();
            let mut some = registry.members.range(next..).take(MAX_READ).map(|(_, member)| member).peekable();
            if some.peek().is_none() {
                return members;
            }
            for member in some {
                next = member.position() + 1;
                if !names.contains(&member.name) && scope.has(&registry, member) {
                    members.push(Arc::clone(member));
                }
            }
        }
    }
}

impl<K, S, C> Step<K, S, C> {
    /// Whether it changes nothing, as far as is known without the lock.
    fn is_equal(&self) -> bool {
        matches!(self, Self::Keep(member, settings, _) if member.has(settings))
    }

    fn name(&self) -> &BackendName {
        match self {
            Self::Keep(_, Settings { name, .. }, _) | Self::Taken(name, _) => name,
            Self::Put(new) => new.name(),
        }
    }
}

/// Returns the status of a member, if an operator has set it.
fn set_by_operator(member: &MemberInfo) -> Option<AdminStatus> {
    Some(member.health.status()).filter(|status| *status != member.built_status())
}

fn is_listed(name: &str) -> InvalidSetting {
    InvalidSetting::of_name(name, "is that of a backend in a list that the fleet follows")
}
