use std::{collections::HashMap, hash::Hash, pin::pin};

use futures::{StreamExt, stream::poll_fn};
use tower::discover::{Change, Discover};

use super::{
    Backend, BackendName, Fleet, InvalidSetting,
    registry::{Recruit, Registry},
};
use crate::telemetry;

impl<S: Send + Sync + 'static, R: 'static> Fleet<S, R> {
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
    pub fn follow<D, F>(
        &self,
        discover: D,
        mut backend: F,
    ) -> impl Future<Output = Result<(), D::Error>> + use<S, R, D, F>
    where
        D: Discover<Service = R>,
        D::Key: Hash + Clone,
        F: FnMut(&D::Key, R) -> Backend<R>,
    {
        let fleet = self.clone();
        async move {
            let mut discover = pin!(discover);
            let mut changes = poll_fn(|cx| discover.as_mut().poll_discover(cx)).ready_chunks(BATCH);
            let mut names = HashMap::new();
            while let Some(batch) = changes.next().await {
                let mut failed = None;
                // The caller's closure and layers run outside the fleet's lock.
                let mut batch = batch.into_iter().map_while(|change| change.map_err(|error| failed = Some(error)).ok());
                let batch: Vec<_> = std::iter::from_fn(|| {
                    Some(match batch.next()? {
                        Change::Remove(key) => (key, None),
                        Change::Insert(key, service) => {
                            let recruit = fleet.recruit(backend(&key, service));
                            (key, Some(recruit))
                        }
                    })
                })
                .collect();
                fleet.shared.edit(|registry| {
                    for (key, recruit) in batch {
                        if let Err(refused) = follow_one(registry, &mut names, key, recruit) {
                            telemetry::discovered_backend_refused(&refused);
                        }
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

/// A key without a recruit has gone.
fn follow_one<K: Hash + Eq, S: Send + Sync + 'static>(
    registry: &mut Registry<S>,
    names: &mut HashMap<K, BackendName>,
    key: K,
    recruit: Option<Result<Recruit<S>, InvalidSetting>>,
) -> Result<(), InvalidSetting> {
    // Who cannot come in does not cost the one who is there its place.
    let recruit = recruit.transpose()?;
    let Some(recruit) = recruit else {
        names.remove(&key).map(|name| registry.remove(&name));
        return Ok(());
    };
    let name = recruit.name.clone();
    let known = names.get(&key).cloned();
    // The operator may have removed it meanwhile: then it comes back.
    if known.as_ref() == Some(&name) && registry.knows(&name) {
        return registry.replace(recruit);
    }
    registry.insert(recruit)?;
    known.filter(|known| *known != name).map(|known| registry.remove(&known));
    names.insert(key, name);
    Ok(())
}
