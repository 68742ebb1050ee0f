//! The lookups of a file, and what they have found.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{future::join_all, stream::Stream};

use super::{Config, backend::Template, lookup};
use crate::{
    dns::{Dns, Endpoint, Endpoints, ResolveError},
    fleet::Backend,
    upstream::UpstreamLayer,
};

/// The lookups of a file, and what they have found.
#[derive(Default)]
pub(super) struct Lookups(Vec<Lookup>);

/// The lookup of one backend.
struct Lookup {
    name: String,
    dns: Dns,
    endpoints: Endpoints,
    /// The last set. Before the first, that of an earlier lookup for the same backend.
    found: Vec<Endpoint>,
}

impl Lookups {
    /// Changes the lookups to those of a file. One that stays the same goes on; one that changed keeps what the earlier
    /// one has found until it finds something itself.
    pub(super) fn update(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.0);
        for Template { backend, dns } in config.templates() {
            let same_name = before.iter().position(|lookup| lookup.name == backend.name());
            let earlier = same_name.map(|index| before.swap_remove(index));
            match earlier {
                Some(earlier) if earlier.dns == *dns => self.0.push(earlier),
                earlier => {
                    // Its settings were checked when the file was read.
                    let Ok(endpoints) = dns.clone().endpoints() else { continue };
                    let found = earlier.map(|earlier| earlier.found).unwrap_or_default();
                    self.0.push(Lookup { name: backend.name().to_owned(), dns: dns.clone(), endpoints, found });
                }
            }
        }
    }

    /// Waits until a lookup finds another set.
    pub(super) async fn changed(&mut self) {
        poll_fn(|cx| self.poll_changed(cx)).await;
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut is_changed = false;
        for lookup in &mut self.0 {
            // The stream of an IP address ends after its one set.
            while let Poll::Ready(Some(found)) = Pin::new(&mut lookup.endpoints).poll_next(cx) {
                lookup.found = found;
                is_changed = true;
            }
        }
        if is_changed { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits for the first set of each lookup, at most for this time. Returns the errors of those that have none.
    pub(super) async fn first(&mut self, timeout: Duration) -> Vec<ResolveError> {
        let first = self.0.iter_mut().map(|lookup| lookup.endpoints.first(timeout));
        join_all(first).await.into_iter().filter_map(Result::err).collect()
    }

    /// Returns the backends of all endpoints, as the file sets them.
    pub(super) fn backends<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = Backend<UpstreamLayer>> + 'a {
        config.templates().iter().flat_map(|Template { backend, .. }| {
            let lookup = self.0.iter().find(|lookup| lookup.name == backend.name());
            let found = lookup.into_iter().flat_map(|lookup| &lookup.found);
            found.map(|found| lookup::endpoint(backend, found))
        })
    }
}
