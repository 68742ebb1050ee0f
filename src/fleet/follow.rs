use std::{collections::HashMap, hash::Hash, pin::pin, sync::Arc};

use futures::{StreamExt, stream::poll_fn};
use tower::discover::{Change, Discover};

use super::{Backend, Fleet, registry::Registry};
use crate::telemetry;

impl<S: Send + Sync + 'static> Fleet<S> {
    /// Lets a [`Discover`] say who is part of the fleet, for as long as the returned future is polled.
    ///
    /// `backend` makes a backend of what was discovered: its name, its weight and so on. A known key that comes again
    /// replaces its backend. A backend that the fleet refuses is left out with a warning, what its key stood for before
    /// stays, and the rest goes on. The future ends with the stream, or with the stream's error; the fleet then stays
    /// as it is.
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
    /// let fleet = Fleet::new();
    /// let replicas = ServiceList::new(vec![Client, Client]);
    /// let following = fleet.follow(replicas, |key, client| Backend::new(format!("replica-{key}"), client));
    /// tokio::spawn(following).await.unwrap().unwrap();
    /// assert_eq!(fleet.snapshot().len(), 2);
    /// # }
    /// ```
    pub fn follow<D, F>(&self, discover: D, mut backend: F) -> impl Future<Output = Result<(), D::Error>> + use<S, D, F>
    where
        D: Discover<Service = S>,
        D::Key: Hash + Clone,
        F: FnMut(&D::Key, S) -> Backend<S>,
    {
        let fleet = self.clone();
        async move {
            let mut discover = pin!(discover);
            let mut changes = poll_fn(|cx| discover.as_mut().poll_discover(cx)).ready_chunks(BATCH);
            let mut names = HashMap::new();
            while let Some(batch) = changes.next().await {
                let mut failed = None;
                // The caller's closure runs outside the fleet's lock.
                let batch: Vec<_> = batch
                    .into_iter()
                    .map_while(|change| change.map_err(|error| failed = Some(error)).ok())
                    .map(|change| match change {
                        Change::Insert(key, service) => {
                            let made = backend(&key, service);
                            (key, Some(made))
                        }
                        Change::Remove(key) => (key, None),
                    })
                    .collect();
                fleet.edit(|registry| {
                    for (key, made) in batch {
                        follow_one(registry, &mut names, key, made);
                    }
                });
                if let Some(error) = failed {
                    return Err(error);
                }
            }
            Ok(())
        }
    }
}

/// Changes that are there at once are made at once: ten thousand backends are one new view, not ten thousand.
const BATCH: usize = 1024;

fn follow_one<K: Hash + Eq, S: Send + Sync + 'static>(
    registry: &mut Registry<S>,
    names: &mut HashMap<K, Arc<str>>,
    key: K,
    made: Option<Backend<S>>,
) {
    let Some(made) = made else {
        names.remove(&key).map(|name| registry.remove(&name));
        return;
    };
    let name = Arc::clone(&made.name);
    let known = names.get(&key).cloned();
    // The operator may have removed it meanwhile: then it comes back.
    let same = known.as_ref() == Some(&name) && registry.knows(&name);
    match if same { registry.replace(made) } else { registry.insert(made) } {
        Ok(()) => {
            known.filter(|known| *known != name).map(|known| registry.remove(&known));
            names.insert(key, name);
        }
        // What the key stood for before goes on, and can still be removed.
        Err(refused) => telemetry::discovered_backend_refused(&refused),
    }
}
