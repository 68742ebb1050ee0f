use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::{CircuitBreakerLayer, Misconfigured, ResponseFuture, Switch, duty::Post};
use crate::{fleet::BackendName, outcome::Classify};

/// Puts a [`KeyedCircuitBreaker`] around a service; made by [`CircuitBreakerLayer::keyed`].
#[must_use = "a layer does nothing until it is given a service"]
pub struct Keyed<C, F> {
    keys: Arc<Keys<C>>,
    key: F,
}

/// One circuit per key of the request. See [`CircuitBreakerLayer::keyed`].
pub struct KeyedCircuitBreaker<S, C, F> {
    inner: S,
    keys: Arc<Keys<C>>,
    key: F,
}

/// The circuits in use, a bounded number of them.
struct Keys<C> {
    layer: CircuitBreakerLayer<C>,
    most: NonZeroUsize,
    circuits: RwLock<HashMap<Arc<str>, Kept<C>>>,
}

struct Kept<C> {
    post: Arc<Post<C>>,
    /// Asked for again since the last time somebody had to go.
    used: AtomicBool,
}

impl<C, F> Keyed<C, F> {
    pub(super) fn new(layer: CircuitBreakerLayer<C>, most: NonZeroUsize, key: F) -> Self {
        Self { keys: Arc::new(Keys { layer, most, circuits: RwLock::default() }), key }
    }
}

impl<C: Clone> Keys<C> {
    fn post(&self, key: &str) -> Result<Arc<Post<C>>, Misconfigured> {
        let circuits = self.circuits.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = circuits.get(key) {
            // Written once between two departures, not by every call.
            if !kept.used.load(Ordering::Relaxed) {
                kept.used.store(true, Ordering::Relaxed);
            }
            return Ok(Arc::clone(&kept.post));
        }
        drop(circuits);
        let (core, refused) = self.layer.make_named(BackendName::lossy(key));
        refused.map_or(Ok(()), Err)?;
        let mut circuits = self.circuits.write().unwrap_or_else(PoisonError::into_inner);
        if circuits.len() >= self.most.get() && !circuits.contains_key(key) {
            make_room(&mut circuits);
        }
        // Not in use before it is asked for again: keys that come once only go before those that come back.
        let fresh = || Kept { post: self.layer.post(core), used: AtomicBool::new(false) };
        Ok(Arc::clone(&circuits.entry(Arc::from(key)).or_insert_with(fresh).post))
    }
}

/// Forgets the circuits that nobody asked for since the last time, and are closed: nothing is lost but a count of
/// failures. With none of that kind, one at random goes.
fn make_room<C>(circuits: &mut HashMap<Arc<str>, Kept<C>>) {
    let before = circuits.len();
    circuits.retain(|_, kept| kept.used.swap(false, Ordering::Relaxed) || !kept.post.core.circuit().serves());
    if circuits.len() == before {
        let serving = circuits.iter().find(|(_, kept)| kept.post.core.circuit().serves());
        let goes = serving.or_else(|| circuits.iter().next()).map(|(key, _)| Arc::clone(key));
        goes.map(|key| circuits.remove(&key));
    }
}

impl<S, C: Clone, F> KeyedCircuitBreaker<S, C, F> {
    /// The handle of a key's circuit. None when no call had that key, or its circuit was forgotten since.
    pub fn switch(&self, key: &str) -> Option<Switch> {
        let circuits = self.keys.circuits.read().unwrap_or_else(PoisonError::into_inner);
        circuits.get(key).map(|kept| Switch::new(Arc::clone(&kept.post.core)))
    }
}

impl<S, C, F: Clone> Layer<S> for Keyed<C, F> {
    type Service = KeyedCircuitBreaker<S, C, F>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedCircuitBreaker { inner, keys: Arc::clone(&self.keys), key: self.key.clone() }
    }
}

impl<S, C, F, Req> Service<Req> for KeyedCircuitBreaker<S, C, F>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
    C: Classify<Req, S::Response>,
    F: for<'a> Fn(&'a Req) -> Cow<'a, str>,
{
    type Response = C::Watched;
    type Error = BoxError;
    type Future = ResponseFuture<S, C, Req>;

    /// The service's own: whose circuit is asked is known with the request.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Req) -> ResponseFuture<S, C, Req> {
        let post = match self.keys.post(&(self.key)(&request)) {
            Ok(post) => post,
            Err(refused) => return ResponseFuture::rejected(Box::new(refused.into())),
        };
        match post.admit() {
            Ok(admitted) => ResponseFuture::begin(&mut self.inner, request, admitted.begun()),
            Err(open) => ResponseFuture::rejected(Box::new(open.into())),
        }
    }
}

/// A clone shares the circuits.
impl<S: Clone, C, F: Clone> Clone for KeyedCircuitBreaker<S, C, F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), keys: Arc::clone(&self.keys), key: self.key.clone() }
    }
}

impl<C, F: Clone> Clone for Keyed<C, F> {
    fn clone(&self) -> Self {
        Self { keys: Arc::clone(&self.keys), key: self.key.clone() }
    }
}

impl<C, F> fmt::Debug for Keyed<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").field("most", &self.keys.most).finish_non_exhaustive()
    }
}

impl<S, C, F> fmt::Debug for KeyedCircuitBreaker<S, C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCircuitBreaker").field("most", &self.keys.most).finish_non_exhaustive()
    }
}
