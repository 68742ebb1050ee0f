//! A classifier that makes the keys of requests, which may be of any type.

use std::fmt;

use super::{BoxError, CallGuard, Classify, Headroom, Outcome, PriorityClass, Verdict};
use crate::{body::Upload, key::KeySource};

/// Adds keys to a classifier: `key` makes the key of a request, for the strategy
/// [`Hash::by_classifier`](crate::pick::Hash::by_classifier). The outcomes are those of `classifier`.
///
/// Equal keys are sent to one backend. Keys need not be spread evenly. For text, see
/// [`hash_key`](crate::pick::hash_key). A request for which `key` returns `None` has no key.
///
/// ```
/// # use tower_fleet::{Backend, Balance, Fleet, outcome::{ErrorsOnly, keyed}, pick::Hash};
/// # use tower::service_fn;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// struct Lookup {
///     user: u64,
/// }
///
/// # let client = |name| service_fn(move |_: Lookup| async move { Ok::<_, std::convert::Infallible>(name) });
/// let fleet = Fleet::plain()
///     .backend(Backend::new("a", client("a")))
///     .backend(Backend::new("b", client("b")))
///     .classify(keyed(ErrorsOnly, |lookup: &Lookup| Some(lookup.user)))
///     .build()?;
/// let door = Balance::new(&fleet, Hash::by_classifier());
///
/// let first = door.clone().oneshot(Lookup { user: 17 }).await?;
/// assert_eq!(door.clone().oneshot(Lookup { user: 17 }).await?, first);
/// # Ok(())
/// # }
/// ```
pub fn keyed<C, Req, F>(classifier: C, key: F) -> Keyed<C, F>
where
    F: Fn(&Req) -> Option<u64> + Clone + Send + Sync + 'static,
{
    Keyed { classifier, key }
}

/// A classifier with keys. Made by [`keyed`].
#[derive(Clone, Copy)]
pub struct Keyed<C, F> {
    classifier: C,
    key: F,
}

impl<C, F, Req, Res> Classify<Req, Res> for Keyed<C, F>
where
    C: Classify<Req, Res>,
    F: Fn(&Req) -> Option<u64> + Clone + Send + Sync + 'static,
{
    type Call = C::Call;
    type Watched = C::Watched;
    const WATCHES: bool = C::WATCHES;
    const REPORTS_FIRST_BYTE: bool = C::REPORTS_FIRST_BYTE;

    /// From a source of its own, a request has the key of the inner classifier.
    fn key(&self, request: &Req, source: &KeySource) -> Option<u64> {
        if source.is_classifier() { (self.key)(request) } else { self.classifier.key(request, source) }
    }

    #[inline]
    fn request(&self, request: &Req) -> Self::Call {
        self.classifier.request(request)
    }

    #[inline]
    fn upload(&self, request: &Req) -> Option<Upload> {
        self.classifier.upload(request)
    }

    fn class(&self, request: &Req) -> PriorityClass {
        self.classifier.class(request)
    }

    #[inline]
    fn response(&self, call: &mut Self::Call, response: &Res) -> Verdict {
        self.classifier.response(call, response)
    }

    fn headroom(&self, response: &Res) -> Option<Headroom> {
        self.classifier.headroom(response)
    }

    fn error(&self, call: Self::Call, error: &BoxError) -> Outcome {
        self.classifier.error(call, error)
    }

    #[inline]
    fn watch(call: Self::Call, response: Res, guard: CallGuard) -> Self::Watched {
        C::watch(call, response, guard)
    }

    fn guard(watched: &mut Self::Watched) -> Option<&mut CallGuard> {
        C::guard(watched)
    }
}

impl<C: fmt::Debug, F> fmt::Debug for Keyed<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyed").field(&self.classifier).finish()
    }
}
