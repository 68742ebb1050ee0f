//! Keeps a part of a fleet like the latest of the lists that a source yields.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::Stream;

use super::{backend::Backend, changes::Changes, handle::Fleet, reconcile::Scope};
use crate::{foreign, telemetry};

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> Fleet<S, C> {
    /// Keeps the backends of one source like its latest list, while the returned future is polled.
    ///
    /// Each item of the stream is the whole set of the source's backends. It is applied as by
    /// [`reconcile`](Self::reconcile): unchanged backends keep their service, connections, health, load and position;
    /// a changed weight, priority, timeout or limit is updated in place; a backend with another key is replaced by one
    /// with the service that `make` returns.
    ///
    /// Only backends that came from this source are changed and removed, so a fleet may hold static backends and follow
    /// several sources:
    ///
    /// | in the list | change |
    /// |---|---|
    /// | the name of a backend of another source, or one added or replaced by [`insert`](Self::insert) or [`replace`](Self::replace) | skipped with a warning; the rest of the list is applied |
    /// | a backend that was removed by [`remove`](Self::remove) | inserted again by the next list: to keep it out, [`drain`](Self::drain) it |
    /// | an invalid backend, or a name twice | the whole list is refused with a warning, and the previous one stays |
    ///
    /// The future ends with the stream or with the fleet, which is when its last handle and door were dropped. The
    /// backends stay when the stream ends.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream, and the fleet keeps its backends. A list is applied whole or not at all.
    /// A new future does not know the backends of an earlier one: their names are taken.
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
        async move {
            let mut lists = pin!(lists);
            let mut scope = Scope::of_source();
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

/// Polls the next list. `None` once the stream or the fleet has ended.
fn poll_list<L: Stream>(changes: &mut Changes, lists: Pin<&mut L>, cx: &mut Context<'_>) -> Poll<Option<L::Item>> {
    loop {
        // The changes do not matter here, only their end: it is that of the fleet.
        match Pin::new(&mut *changes).poll_next(cx) {
            Poll::Ready(Some(_)) => {}
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => break,
        }
    }
    Poll::Ready(ready!(lists.poll_next(cx)))
}
