//! Updates a fleet from service discovery.

use std::{collections::HashMap, hash::Hash, pin::pin};

use futures::{StreamExt, stream::poll_fn};
use tower::discover::{Change, Discover};

use super::{
    backend::Backend,
    handle::{Fleet, NewMember, insert, replace},
    registry::Registry,
    shard::OwnedMember,
};
use crate::{foreign, name::BackendName, setting::InvalidSetting, telemetry};

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> Fleet<S, C> {
    /// Adds, replaces and removes backends as a [`Discover`] stream announces them, while the returned future is
    /// polled.
    ///
    /// `backend` makes a backend of a discovered service: it sets the name, the weight and so on. If a known key is
    /// inserted again, its backend is replaced. An invalid backend is skipped with a warning of `tracing`; the earlier
    /// backend of its key stays, and following continues.
    ///
    /// # Errors
    ///
    /// The error of the stream. The future ends with the stream or with its error, and the fleet keeps its backends.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream, and the fleet keeps its backends. Changes that were not applied yet are
    /// lost.
    ///
    /// ```
    /// # use tower_fleet::{Backend, Fleet};
    /// # use tower::discover::ServiceList;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # #[derive(Clone)] struct Client;
    /// # impl tower::Service<()> for Client {
    /// #     type Response = (); type Error = std::convert::Infallible; type Future = std::future::Ready<Result<(), Self::Error>>;
    /// #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> { Ok(()).into() }
    /// #     fn call(&mut self, (): ()) -> Self::Future { std::future::ready(Ok(())) }
    /// # }
    /// let fleet = Fleet::plain().build().unwrap();
    /// let replicas = ServiceList::new(vec![Client, Client]);
    /// let following = fleet.follow(replicas, |key, client| Backend::new(format!("replica-{key}"), client));
    /// tokio::spawn(following).await.unwrap().unwrap();
    /// assert_eq!(fleet.snapshot().len(), 2);
    /// # }
    /// ```
    pub fn follow<D, F>(
        &self,
        discover: D,
        mut backend: F,
    ) -> impl Future<Output = Result<(), D::Error>> + use<S, C, D, F>
    where
        D: Discover,
        D::Key: Hash + Clone,
        F: FnMut(&D::Key, D::Service) -> Backend<S>,
    {
        let fleet = self.clone();
        async move {
            let mut discover = pin!(discover);
            let mut changes = poll_fn(|cx| discover.as_mut().poll_discover(cx)).ready_chunks(BATCH);
            let mut keys = Keys::default();
            while let Some(batch) = changes.next().await {
                let mut failed = None;
                // Outside the fleet's lock: the stream, its keys and `backend` are the caller's code.
                let mut batch = batch.into_iter().map_while(|change| change.map_err(|error| failed = Some(error)).ok());
                let batch: Vec<_> = std::iter::from_fn(|| {
                    Some(match batch.next()? {
                        Change::Remove(key) => (keys.id(&key), key, None),
                        Change::Insert(key, service) => {
                            let new = fleet.checked(backend(&key, service));
                            (keys.id(&key), key, Some(new))
                        }
                    })
                })
                .collect();
                let (ids, batch): (Vec<_>, Vec<_>) =
                    batch.into_iter().map(|(id, key, new)| ((id, key), (id, new))).unzip();
                let core = &fleet.shared.core;
                let names = &mut keys.names;
                let discarded: Vec<_> = core.edit(|registry| {
                    batch.into_iter().map(|(id, new)| follow_one(&fleet, registry, names, id, new)).collect()
                });
                keys.forget_unused(&ids);
                discarded
                    .iter()
                    .filter_map(|discarded| discarded.error.as_ref())
                    .for_each(|error| foreign::run(|| telemetry::discovered_backend_rejected(error)));
                for Discarded { removed, rejected, .. } in discarded {
                    foreign::discard(removed);
                    foreign::discard(rejected);
                }
                if let Some(error) = failed {
                    return Err(error);
                }
            }
            Ok(())
        }
    }
}

/// The most changes that are applied together, if they are available together. Ten thousand backends are thus a few new
/// views, not ten thousand.
const BATCH: usize = 1024;

/// The keys of a discovery, and the names of their backends.
///
/// A key has a number while it is in use, and its name is found by that number: hashing and comparing keys is the
/// caller's code, which must not run under the fleet's lock.
struct Keys<K> {
    ids: HashMap<K, u64>,
    names: HashMap<u64, BackendName>,
    last_id: u64,
}

impl<K> Default for Keys<K> {
    fn default() -> Self {
        Self { ids: HashMap::new(), names: HashMap::new(), last_id: 0 }
    }
}

impl<K: Hash + Eq + Clone> Keys<K> {
    fn id(&mut self, key: &K) -> u64 {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        self.last_id += 1;
        self.ids.insert(key.clone(), self.last_id);
        self.last_id
    }

    /// Forgets those of the keys that have no backend.
    fn forget_unused(&mut self, keys: &[(u64, K)]) {
        for (_, key) in keys.iter().filter(|(id, _)| !self.names.contains_key(id)) {
            self.ids.remove(key);
        }
    }
}

/// The services that a change removed or rejected, to be dropped outside the lock, and the error of a rejection.
struct Discarded<S, C> {
    removed: Option<OwnedMember<S, C>>,
    rejected: Option<NewMember<S, C>>,
    error: Option<InvalidSetting>,
}

/// Applies one change of the discovery. `None` removes the backend of the key.
fn follow_one<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static>(
    fleet: &Fleet<S, C>,
    registry: &mut Registry,
    names: &mut HashMap<u64, BackendName>,
    key: u64,
    new: Option<Result<NewMember<S, C>, InvalidSetting>>,
) -> Discarded<S, C> {
    let (mut new, error) = match new.transpose() {
        Ok(new) => (new, None),
        Err(error) => (None, Some(error)),
    };
    let Some(name) = new.as_ref().map(|new| new.name().clone()) else {
        // After an error the present backend of the key stays.
        let name = if error.is_none() { names.remove(&key) } else { None };
        let member = name.and_then(|name| registry.by_name.get(&name).cloned());
        let removed = member.and_then(|member| fleet.remove_member(registry, &member));
        return Discarded { removed, rejected: new, error };
    };
    let known = names.get(&key).cloned();
    // An operator may have removed the backend of a known key. Then it is inserted again.
    let done = if known.as_ref() == Some(&name) && registry.by_name.contains_key(&name) {
        replace(fleet, registry, &mut new)
    } else {
        insert(fleet, registry, &mut new).map(|()| {
            names.insert(key, name.clone());
            let before = known.filter(|known| *known != name).and_then(|known| registry.by_name.get(&known).cloned());
            before.and_then(|before| fleet.remove_member(registry, &before))
        })
    };
    match done {
        Ok(removed) => Discarded { removed, rejected: new, error },
        Err(error) => Discarded { removed: None, rejected: new, error: Some(error) },
    }
}
