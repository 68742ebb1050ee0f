//! Keeps a part of a fleet like the latest of the lists that a source yields.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use futures::Stream;

use super::{backend::Backend, changes::Changes, core::FleetCore, handle::Fleet, reconcile::Scope, sources::SourceId};
use crate::{foreign, telemetry};

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> Fleet<S, C> {
    /// Keeps the backends of one source like its latest list, while the returned future is polled.
    ///
    /// Each item of the stream is the whole set of the source's backends. It is applied as by
    /// [`reconcile`](Self::reconcile): unchanged backends keep their service, connections, health, load and position;
    /// a changed weight, priority, timeout or limit is updated in place; a backend with another key is replaced by one
    /// with the service that `make` returns.
    ///
    /// Only backends that came from this source are changed and removed, and `reconcile` leaves these alone. So a fleet
    /// may follow several sources, beside backends of its own:
    ///
    /// | in the list | change |
    /// |---|---|
    /// | the name of another backend, or of one that was [replaced](Self::replace) | skipped with a warning; the rest of the list is applied |
    /// | a backend that was removed by [`remove`](Self::remove) | inserted again by the next list: to keep it out, [`drain`](Self::drain) it |
    /// | an invalid backend, or a name twice | the whole list is refused with a warning, and the previous one stays |
    ///
    /// The future ends with the stream or with the fleet, which is when its last handle and door were dropped. When the
    /// stream ends, the backends stay as if they had been inserted.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is the end of the stream: the backends stay. A list is applied whole or not at all. A new
    /// future does not know the backends of an earlier one, so their names are taken until `reconcile` or
    /// [`remove`](Self::remove) removes them.
    ///
    /// ```
    /// # use futures::stream;
    /// # use tower_fleet::{Backend, Fleet};
    /// # #[derive(Clone)] struct Client(u16);
    /// # futures::executor::block_on(async {
    /// let fleet = Fleet::plain().backend(Backend::new("static", Client(80))).build()?;
    /// let list = |ports: &[u16]| ports.iter().map(|port| Backend::new(format!("port-{port}"), *port)).collect::<Vec<_>>();
    /// let lists = stream::iter([list(&[8001, 8002]), list(&[8002, 8003])]);
    /// fleet.follow_lists(lists, |backend| Client(*backend.service())).await;
    /// let names: Vec<_> = fleet.snapshot().into_iter().map(|backend| backend.name).collect();
    /// assert_eq!(names, ["static", "port-8002", "port-8003"]);
    /// # Ok::<_, tower_fleet::InvalidSetting>(())
    /// # }).unwrap();
    /// ```
    pub fn follow_lists<L, K, F>(&self, lists: L, mut make: F) -> impl Future<Output = ()> + use<S, C, L, K, F>
    where
        L: Stream<Item = Vec<Backend<K>>>,
        K: PartialEq + Send + Sync + 'static,
        F: FnMut(&Backend<K>) -> S,
    {
        let mut changes = self.changes();
        // Weakly, so that the fleet ends although it is followed.
        let shared = Arc::downgrade(&self.shared);
        let source = Source::join(&self.shared.core);
        async move {
            // The whole of it, since its drop is the end.
            let source = source;
            let mut lists = pin!(lists);
            let mut scope = Scope { source: Some(source.id), taken: Vec::new() };
            while let Some(list) = poll_fn(|cx| poll_list(&mut changes, lists.as_mut(), cx)).await {
                let Some(shared) = shared.upgrade() else { return };
                if let Err(error) = (Fleet { shared }).apply(list, &mut make, &mut scope) {
                    foreign::run(|| telemetry::list_refused(&error));
                }
                for name in scope.taken.drain(..) {
                    foreign::run(|| telemetry::listed_name_taken(&name));
                }
            }
        }
    }
}

/// A source that the fleet follows, until it is dropped.
struct Source {
    id: SourceId,
    core: Weak<FleetCore>,
}

impl Source {
    fn join(core: &Arc<FleetCore>) -> Self {
        Self { id: core.registry().sources.join(), core: Arc::downgrade(core) }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            let mut registry = core.registry();
            registry.sources.end(self.id);
            registry.revision += 1;
        }
    }
}

/// Polls the next list. `None` once the stream or the fleet has ended.
fn poll_list<L: Stream>(changes: &mut Changes, lists: Pin<&mut L>, cx: &mut Context<'_>) -> Poll<Option<L::Item>> {
    if changes.poll_ended(cx).is_ready() {
        return Poll::Ready(None);
    }
    Poll::Ready(ready!(lists.poll_next(cx)))
}
