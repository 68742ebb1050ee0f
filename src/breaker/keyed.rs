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

use super::{CircuitBreakerLayer, CircuitOpen, Misconfigured, ResponseFuture};
use crate::{
    attempt::Attempt,
    fleet::{Shard, Switch},
    health::Circuit,
    name::BackendName,
    outcome::{Classify, Guard},
};

/// Puts a [`KeyedCircuitBreaker`] around a service; made by [`CircuitBreakerLayer::keyed`].
#[must_use = "a layer does nothing until it is given a service"]
pub struct KeyedCircuitBreakerLayer<C, F> {
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
    member: Arc<Shard<(), C>>,
    /// Asked for again since the last time one had to be dropped.
    used: AtomicBool,
}

impl<C> CircuitBreakerLayer<C> {
    /// One circuit per key of the request: a route, a model, a tenant. At most `most` are kept; beyond that closed
    /// ones that were not used of late are forgotten, and an open one only when all are open.
    ///
    /// ```
    /// # use tower_fleet::{CircuitBreakerLayer, outcome::ErrorsOnly};
    /// # use std::num::NonZeroUsize;
    /// struct Ask { model: String }
    /// let most = NonZeroUsize::new(1_000).unwrap();
    /// let layer = CircuitBreakerLayer::with_classifier(ErrorsOnly).keyed(most, |ask: &Ask| ask.model.as_str().into());
    /// # let _ = layer;
    /// ```
    pub fn keyed<F, Req>(self, most: NonZeroUsize, key: F) -> KeyedCircuitBreakerLayer<C, F>
    where
        F: for<'a> Fn(&'a Req) -> Cow<'a, str>,
    {
        KeyedCircuitBreakerLayer::new(self, most, key)
    }
}

impl<C, F> KeyedCircuitBreakerLayer<C, F> {
    pub(super) fn new(layer: CircuitBreakerLayer<C>, most: NonZeroUsize, key: F) -> Self {
        Self { keys: Arc::new(Keys { layer, most, circuits: RwLock::default() }), key }
    }
}

impl<C: Clone + Send + Sync + 'static> Keys<C> {
    fn member(&self, key: &str) -> Result<Arc<Shard<(), C>>, Misconfigured> {
        let circuits = self.circuits.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = circuits.get(key) {
            // Written once between two departures, not by every call.
            if !kept.used.load(Ordering::Relaxed) {
                kept.used.store(true, Ordering::Relaxed);
            }
            return Ok(Arc::clone(&kept.member));
        }
        drop(circuits);
        let (member, refused) = self.layer.make_named(BackendName::lossy(key));
        refused.map_or(Ok(()), Err)?;
        let mut circuits = self.circuits.write().unwrap_or_else(PoisonError::into_inner);
        if circuits.len() >= self.most.get() && !circuits.contains_key(key) {
            make_room(&mut circuits);
        }
        // Not in use before it is asked for again: keys that come once only go before those that come back.
        let fresh = || Kept { member, used: AtomicBool::new(false) };
        Ok(Arc::clone(&circuits.entry(Arc::from(key)).or_insert_with(fresh).member))
    }
}

/// Forgets the circuits that nobody asked for since the last time, and are closed: nothing is lost but a count of
/// failures. With none of that kind, one at random goes.
fn make_room<C>(circuits: &mut HashMap<Arc<str>, Kept<C>>) {
    let serves = |kept: &Kept<C>| kept.member.info().circuit().is_some_and(Circuit::serves);
    let before = circuits.len();
    circuits.retain(|_, kept| kept.used.swap(false, Ordering::Relaxed) || !serves(kept));
    if circuits.len() == before {
        let serving = circuits.iter().find(|(_, kept)| serves(kept));
        let goes = serving.or_else(|| circuits.iter().next()).map(|(key, _)| Arc::clone(key));
        goes.map(|key| circuits.remove(&key));
    }
}

impl<S, C, F> KeyedCircuitBreaker<S, C, F> {
    /// The handle of a key's circuit. None when no call had that key, or its circuit was forgotten since.
    pub fn switch(&self, key: &str) -> Option<Switch> {
        let circuits = self.keys.circuits.read().unwrap_or_else(PoisonError::into_inner);
        circuits.get(key).and_then(|kept| Switch::new(Arc::clone(kept.member.info())))
    }
}

impl<S, C, F: Clone> Layer<S> for KeyedCircuitBreakerLayer<C, F> {
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
        let member = match self.keys.member(&(self.key)(&request)) {
            Ok(member) => member,
            Err(refused) => return ResponseFuture::rejected(refused),
        };
        let info = member.info();
        match info.admit(|| info.clock.now()) {
            Ok(ticket) => {
                ResponseFuture::admitted(Attempt::begin(Guard::begin(member, ticket), &mut self.inner, request))
            }
            Err(retry_after) => ResponseFuture::rejected(CircuitOpen::new(info.name.clone(), retry_after)),
        }
    }
}

/// A clone shares the circuits.
impl<S: Clone, C, F: Clone> Clone for KeyedCircuitBreaker<S, C, F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), keys: Arc::clone(&self.keys), key: self.key.clone() }
    }
}

impl<C, F: Clone> Clone for KeyedCircuitBreakerLayer<C, F> {
    fn clone(&self) -> Self {
        Self { keys: Arc::clone(&self.keys), key: self.key.clone() }
    }
}

impl<C, F> fmt::Debug for KeyedCircuitBreakerLayer<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCircuitBreakerLayer").field("most", &self.keys.most).finish_non_exhaustive()
    }
}

impl<S, C, F> fmt::Debug for KeyedCircuitBreaker<S, C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCircuitBreaker").field("most", &self.keys.most).finish_non_exhaustive()
    }
}
