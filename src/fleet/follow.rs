use std::{collections::HashMap, hash::Hash, pin::pin};

use futures::{StreamExt, stream::poll_fn};
use tower::discover::{Change, Discover};

use super::{
    backend::Backend,
    books::Books,
    handle::{Added, Fleet, insert, replace},
    view::Entry,
};
use crate::{name::BackendName, setting::InvalidSetting, telemetry};

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> Fleet<S, C> {
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
            let mut names = HashMap::new();
            while let Some(batch) = changes.next().await {
                let mut failed = None;
                // The caller's closure and layers run outside the fleet's lock.
                let mut batch = batch.into_iter().map_while(|change| change.map_err(|error| failed = Some(error)).ok());
                let batch: Vec<_> = std::iter::from_fn(|| {
                    Some(match batch.next()? {
                        Change::Remove(key) => (key, None),
                        Change::Insert(key, service) => {
                            let added = fleet.added(backend(&key, service));
                            (key, Some(added))
                        }
                    })
                })
                .collect();
                let core = &fleet.shared.core;
                // What is given up is dropped outside the lock.
                let gone: Vec<_> = core.edit(|books| {
                    batch.into_iter().map(|(key, added)| follow_one(&fleet, books, &mut names, key, added)).collect()
                });
                gone.iter()
                    .filter_map(|gone| gone.refused.as_ref())
                    .for_each(|refused| telemetry::discovered_backend_refused(refused));
                drop(gone);
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

/// What a change gave up: a service that was removed, or one that was refused, and why.
#[expect(dead_code, reason = "dropped outside the lock")]
struct Gone<S, C> {
    removed: Option<Entry<S, C>>,
    added: Option<Added<S, C>>,
    refused: Option<InvalidSetting>,
}

/// Makes one change of the discovery. Nothing to add removes the key.
fn follow_one<K: Hash + Eq, S: Send + Sync + 'static, C: Clone + Send + Sync + 'static>(
    fleet: &Fleet<S, C>,
    books: &mut Books,
    names: &mut HashMap<K, BackendName>,
    key: K,
    added: Option<Result<Added<S, C>, InvalidSetting>>,
) -> Gone<S, C> {
    // A refused replacement leaves the present backend in place.
    let (mut added, refused) = match added.transpose() {
        Ok(added) => (added, None),
        Err(refused) => (None, Some(refused)),
    };
    let Some(name) = added.as_ref().map(|added| added.name().clone()) else {
        let name = if refused.is_none() { names.remove(&key) } else { None };
        let member = name.and_then(|name| books.by_name.get(&name).cloned());
        let removed = member.and_then(|member| fleet.remove_member(books, &member));
        return Gone { removed, added, refused };
    };
    let known = names.get(&key).cloned();
    // The operator may have removed it meanwhile: then it comes back.
    let done = if known.as_ref() == Some(&name) && books.by_name.contains_key(&name) {
        replace(fleet, books, &mut added)
    } else {
        insert(fleet, books, &mut added).map(|()| {
            names.insert(key, name.clone());
            let before = known.filter(|known| *known != name).and_then(|known| books.by_name.get(&known).cloned());
            before.and_then(|before| fleet.remove_member(books, &before))
        })
    };
    match done {
        Ok(removed) => Gone { removed, added, refused },
        Err(refused) => Gone { removed: None, added, refused: Some(refused) },
    }
}
