//! A breaker with one circuit for each key of the requests.

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

use super::{CircuitBreakerLayer, CircuitOpen, ResponseFuture};
use crate::{
    attempt::Attempt,
    fleet::{Shard, Switch},
    foreign,
    health::Circuit,
    name::BackendName,
    outcome::{Classify, Guard},
};

/// A [`Layer`] that puts a [`KeyedCircuitBreaker`] around a service. Made by [`CircuitBreakerLayer::keyed`].
#[must_use = "a layer does nothing until it is given a service"]
pub struct KeyedCircuitBreakerLayer<C, F> {
    keys: Arc<Keys<C>>,
    key: F,
}

/// A [`Service`] with one circuit for each key of its requests. Made with [`CircuitBreakerLayer::keyed`].
///
/// Clones share the circuits.
pub struct KeyedCircuitBreaker<S, C, F> {
    inner: S,
    keys: Arc<Keys<C>>,
    key: F,
}

/// The circuits by key, a bounded number of them.
struct Keys<C> {
    layer: CircuitBreakerLayer<C>,
    max: NonZeroUsize,
    circuits: RwLock<HashMap<Arc<str>, Entry<C>>>,
}

struct Entry<C> {
    member: Arc<Shard<(), C>>,
    /// Whether the key came again since entries were last evicted.
    used: AtomicBool,
}

impl<C> CircuitBreakerLayer<C> {
    /// Makes one circuit for each key of the requests, such as a route, a model or a tenant.
    ///
    /// At most `max` circuits are kept. Beyond that, closed circuits that were not used recently are evicted; an open
    /// one is evicted only if all are open. An evicted circuit starts anew when its key comes again.
    ///
    /// The key is the name of the circuit in errors and events. Since it is only known in `call`, an open circuit always
    /// rejects: [`waiting`](Self::waiting) has no effect.
    ///
    /// ```
    /// # use tower_fleet::{CircuitBreakerLayer, CircuitPolicy};
    /// # use std::num::NonZeroUsize;
    /// struct Prompt { model: String }
    ///
    /// let max = NonZeroUsize::new(1_000).unwrap();
    /// let layer = CircuitBreakerLayer::plain(CircuitPolicy::new())?
    ///     .keyed(max, |prompt: &Prompt| prompt.model.as_str().into());
    /// # let _ = layer;
    /// # Ok::<_, tower_fleet::InvalidSetting>(())
    /// ```
    pub fn keyed<F, Req>(self, max: NonZeroUsize, key: F) -> KeyedCircuitBreakerLayer<C, F>
    where
        F: for<'a> Fn(&'a Req) -> Cow<'a, str>,
    {
        KeyedCircuitBreakerLayer::new(self, max, key)
    }
}

impl<C, F> KeyedCircuitBreakerLayer<C, F> {
    fn new(layer: CircuitBreakerLayer<C>, max: NonZeroUsize, key: F) -> Self {
        Self { keys: Arc::new(Keys { layer, max, circuits: RwLock::default() }), key }
    }
}

impl<C: Clone + Send + Sync + 'static> Keys<C> {
    /// The circuit of a key, made if there is none.
    fn member(&self, key: &str) -> Arc<Shard<(), C>> {
        let circuits = self.circuits.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = circuits.get(key) {
            // Written once between two evictions, not by every call.
            if !entry.used.load(Ordering::Relaxed) {
                entry.used.store(true, Ordering::Relaxed);
            }
            return Arc::clone(&entry.member);
        }
        drop(circuits);
        let member = self.layer.member_named(BackendName::lossy(key));
        let mut circuits = self.circuits.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = circuits.get(key) {
            let known = Arc::clone(&entry.member);
            drop(circuits);
            return known;
        }
        let evicted = if circuits.len() >= self.max.get() { evict(&mut circuits) } else { Vec::new() };
        // Unused until the key comes again, so that keys that come only once are evicted first.
        circuits.insert(Arc::from(key), Entry { member: Arc::clone(&member), used: AtomicBool::new(false) });
        // Outside of the lock: the classifiers are the caller's code, and so are the readers of transitions.
        drop(circuits);
        foreign::discard(evicted);
        member
    }
}

/// Evicts all closed circuits that were not used since the last eviction: only their counters are lost. If there are
/// none, evicts an arbitrary one, closed if possible. Returns the evicted ones, to be dropped outside of the lock.
fn evict<C>(circuits: &mut HashMap<Arc<str>, Entry<C>>) -> Vec<Entry<C>> {
    let serves = |entry: &Entry<C>| entry.member.info().circuit().is_some_and(Circuit::serves);
    let is_unused = |_: &Arc<str>, entry: &mut Entry<C>| !entry.used.swap(false, Ordering::Relaxed) && serves(entry);
    let evicted: Vec<_> = circuits.extract_if(is_unused).map(|(_, entry)| entry).collect();
    if !evicted.is_empty() {
        return evicted;
    }
    let serving = circuits.iter().find(|(_, entry)| serves(entry));
    let any = serving.or_else(|| circuits.iter().next()).map(|(key, _)| Arc::clone(key));
    any.and_then(|key| circuits.remove(&key)).into_iter().collect()
}

impl<S, C, F> KeyedCircuitBreaker<S, C, F> {
    /// Returns the handle of a key's circuit, or `None` if no call had that key or its circuit was evicted.
    pub fn switch(&self, key: &str) -> Option<Switch> {
        let circuits = self.keys.circuits.read().unwrap_or_else(PoisonError::into_inner);
        circuits.get(key).and_then(|entry| Switch::new(Arc::clone(entry.member.info())))
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

    /// That of the inner service. The circuit is only known in `call`, from the key of the request.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Req) -> ResponseFuture<S, C, Req> {
        let member = self.keys.member(&(self.key)(&request));
        let info = member.info();
        match info.admit(|| info.clock.now()) {
            Ok(ticket) => {
                ResponseFuture::admitted(Attempt::begin(Guard::begin(member, ticket), &mut self.inner, request))
            }
            Err(retry_after) => ResponseFuture::rejected(CircuitOpen::new(info.name.clone(), retry_after)),
        }
    }
}

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
        f.debug_struct("KeyedCircuitBreakerLayer").field("max", &self.keys.max).finish_non_exhaustive()
    }
}

impl<S, C, F> fmt::Debug for KeyedCircuitBreaker<S, C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCircuitBreaker").field("max", &self.keys.max).finish_non_exhaustive()
    }
}
