//! The lookups of a file, and what they have found.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{future::join_all, stream::Stream};

use super::{ClientLayer, Config, backend::Template, lookup};
use crate::{
    dns::{Dns, Endpoint, Endpoints, ResolveError},
    fleet::Backend,
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
    /// one has found until it finds something itself. Returns the lookups that the file has no more.
    pub(super) fn update(&mut self, config: &Config) -> Self {
        let mut before = std::mem::take(&mut self.0);
        for Template { backend, dns } in config.templates() {
            let earlier = before.iter().position(|lookup| lookup.name == backend.name());
            if let Some(same) = earlier.filter(|index| before[*index].dns == *dns) {
                self.0.push(before.swap_remove(same));
                continue;
            }
            // Its settings were checked when the file was read.
            let Ok(endpoints) = dns.clone().endpoints() else { continue };
            let found = earlier.map(|index| before[index].found.clone()).unwrap_or_default();
            self.0.push(Lookup { name: backend.name().to_owned(), dns: dns.clone(), endpoints, found });
        }
        Self(before)
    }

    /// Undoes an update, for the file of before and the lookups that the update returned: a refused file changes nothing,
    /// and what was found is still wanted.
    pub(super) fn undo(&mut self, ended: Self, config: &Config) {
        let mut all = ended.0;
        all.append(&mut self.0);
        for Template { backend, dns } in config.templates() {
            let same = all.iter().position(|lookup| lookup.name == backend.name() && lookup.dns == *dns);
            self.0.extend(same.map(|index| all.swap_remove(index)));
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
    pub(super) fn backends<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = Backend<ClientLayer>> + 'a {
        config.templates().iter().flat_map(|Template { backend, .. }| {
            let lookup = self.0.iter().find(|lookup| lookup.name == backend.name());
            let found = lookup.into_iter().flat_map(|lookup| &lookup.found);
            found.map(|found| lookup::endpoint(backend, found))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(backends: &[(&str, &str)]) -> Config {
        let text: String =
            backends.iter().map(|(name, dns)| format!("[[backend]]\nname = \"{name}\"\ndns = \"{dns}\"\n")).collect();
        Config::read(toml::Deserializer::parse(&text).expect("valid TOML")).expect("a valid file")
    }

    // C64, C70: what DNS has named before a refused file is wanted after it too.
    #[tokio::test]
    async fn a_refused_file_costs_no_endpoints() {
        let before = config(&[("a", "127.0.0.1:1"), ("b", "127.0.0.1:2"), ("c", "127.0.0.1:3")]);
        let mut lookups = Lookups::default();
        lookups.update(&before);
        lookups.changed().await;
        let names = |lookups: &Lookups| -> Vec<_> {
            lookups.backends(&before).map(|backend| backend.name().to_owned()).collect()
        };
        let found = names(&lookups);
        assert_eq!(found.len(), 3);
        // One stays, one changes, one is no more, and one is new.
        let refused = config(&[("a", "127.0.0.1:1"), ("b", "127.0.0.1:9"), ("d", "127.0.0.1:4")]);
        let ended = lookups.update(&refused);
        assert_eq!(ended.0.len(), 2);
        lookups.undo(ended, &before);
        assert_eq!(names(&lookups), found);
    }
}
