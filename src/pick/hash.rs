//! Consistent hashing by a key of the request, with bounded loads.

use std::sync::Arc;

use self::{bound::Bound, ranks::Ranks};
use super::{Candidate, Candidates, KeySource, Needs, Pick, PickContext, Strategy, hash_key};
#[cfg(feature = "http")]
use crate::key::Head;
use crate::{rng::mix, setting::InvalidSetting};

mod bound;
mod ranks;

/// Sends the requests of one key to one backend, as long as that is eligible and not overloaded.
///
/// For caches that each hold a part of the data, and for sticky sessions. The key is read from the request:
///
/// ```
/// # #[cfg(feature = "http")] {
/// use tower_fleet::{BalanceLayer, pick::{Hash, hash_key}};
///
/// // Sticky sessions.
/// let layer = BalanceLayer::new(Hash::by_cookie("session")?);
///
/// // A key of your own. A backend may have up to 1.5 times its part of the calls in flight.
/// let tenant = Hash::by(|head| head.uri.host().map(|host| hash_key(host.as_bytes())));
/// let layer = BalanceLayer::new(tenant.bound(1.5)?);
/// # let _ = layer;
/// # }
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
///
/// | event | a request is sent to |
/// |---|---|
/// | none | the first backend in the order of its key |
/// | the first backend is not eligible, not ready, or was removed | the next one in that order. Other keys do not move |
/// | it returns, or is replaced by one of the same name | the first one again |
/// | one of *n* backends is added | the new one, for about 1/*n* of the keys. Other keys do not move |
/// | the first backend has more than its part of the calls in flight | the next one that has not |
/// | an attempt of a failover failed | the next one in the order |
/// | the request has no key | a random backend by weight, within the bounds |
///
/// The order of a key depends on the names and weights of the backends only, so replicas agree on it, whatever the order
/// in which they were told of the backends. Each backend gets keys in proportion to its weight. A circuit is probed by a
/// request whose key belongs to its backend: no other key moves for a probe.
///
/// # Bounded load
///
/// A hot key would overload its backend. So a backend gets no call that would exceed its part of the calls in flight, by
/// weight and share, times a factor, rounded up: 1.25 by default. The keys of a backend that starts slowly move to it as
/// its share rises. With up to 32 candidates the bound is exact but for calls that start at the same time. With more, a
/// thread does not sum their calls for each request, but for about one of as many as there are candidates, divided by 32.
///
/// # Sticky sessions
///
/// A session that only its backend knows is lost when the backend leaves: the cookie then leads to the next backend. It
/// leads back when the backend returns, where the session may be outdated. An application that must never see a request
/// of another backend's session wants [`unbounded`](Self::unbounded), a fleet without
/// [slow start](crate::fleet::FleetBuilder::slow_start) and [outliers](crate::fleet::FleetBuilder::outliers), and a
/// check of its own, such as the name of the backend in the cookie. While a backend has a share below 1 and there is no
/// bound, some of the requests of each of its keys are sent to the next backend, at random:
///
/// ```
/// # #[cfg(feature = "http")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::convert::Infallible;
/// # use http::{Request, Response};
/// # use http_body_util::Full;
/// # use bytes::Bytes;
/// # use tower::service_fn;
/// # use tower_fleet::{AdminStatus, Backend, Balance, Fleet, pick::Hash};
/// # let shop = |name: &'static str| Backend::new(name, service_fn(move |_: Request<()>| async move {
/// #     Ok::<_, Infallible>(Response::builder().header("served-by", name).body(Full::<Bytes>::default()).unwrap())
/// # }));
/// let fleet = Fleet::builder().backends([shop("a"), shop("b"), shop("c")]).build()?;
/// let door = Balance::new(&fleet, Hash::by_cookie("session")?.unbounded());
/// let backend = async || {
///     let request = Request::builder().header("cookie", "theme=dark; session=4711").body(())?;
///     let response = door.clone().oneshot(request).await?;
///     Ok::<_, Box<dyn std::error::Error>>(response.headers()["served-by"].to_str()?.to_owned())
/// };
///
/// let first = backend().await?;
/// assert_eq!(backend().await?, first);
/// // The backend leaves: its sessions move, each to its next backend. No other session moves.
/// fleet.drain(&first);
/// let next = backend().await?;
/// assert_ne!(next, first);
/// // It returns, and so do its sessions.
/// fleet.set_status(&first, AdminStatus::Healthy);
/// assert_eq!(backend().await?, first);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "http"))]
/// # fn main() {}
/// ```
///
/// # Cost
///
/// Weighted rendezvous hashing (Thaler and Ravishankar 1996; weights by exponential variables): each backend has a rank for
/// the key, and the first one is selected. With more than 32 candidates, the first backends of recent keys are kept in a
/// table. A request through a [`Balance`](crate::Balance) took, on one core, where round robin took 22 ns:
///
/// | candidates | a recent key | another key | by weight, another key |
/// |---|---|---|---|
/// | 10 | 56 ns | 56 ns | 120 ns |
/// | 32 | 92 ns | 92 ns | 190 ns |
/// | 100 | 53 ns | 0.2 µs | 0.3 µs |
/// | 1,000 | 58 ns | 1.6 µs | 1.6 µs |
/// | 10,000 | 58 ns | 16 µs | 15 µs |
///
/// The alternatives were measured beside it. Maglev's table of 65,537 places is read in 2 to 20 ns, but takes 1.5 ms to
/// make anew after a change, and then moves 0.5 % of all keys for no reason: with 1,000 backends, five times the keys of
/// the one that left. A ring with 160 points per backend takes 18 ns for 10 and 2 µs for 10,000, where a change takes
/// 120 ms, and the loads of equal backends differ by 10 %. Rendezvous moves no key without need, its shares are exact up
/// to chance, and nothing but the hashes of the names is made anew after a change.
#[derive(Clone, Debug)]
pub struct Hash {
    source: KeySource,
    bound: Option<f64>,
}

#[cfg(feature = "http")]
impl Hash {
    /// By the value of a header, the first if there are several.
    ///
    /// # Errors
    ///
    /// The name is not that of a header.
    pub fn by_header(name: &str) -> Result<Self, InvalidSetting> {
        KeySource::header(name).map(Self::new)
    }

    /// By the value of a cookie.
    ///
    /// # Errors
    ///
    /// The name is not that of a cookie.
    pub fn by_cookie(name: &str) -> Result<Self, InvalidSetting> {
        KeySource::cookie(name).map(Self::new)
    }

    /// By the value of a parameter of the query, as it is written.
    ///
    /// # Errors
    ///
    /// The name is not that of a parameter.
    pub fn by_query(name: &str) -> Result<Self, InvalidSetting> {
        KeySource::query(name).map(Self::new)
    }

    /// By the path of the URI, without the query.
    pub fn by_path() -> Self {
        Self::new(KeySource::path())
    }

    /// By the address of the peer, which a server inserts into the extensions of the request: [`Peer`](super::Peer).
    pub fn by_peer() -> Self {
        Self::new(KeySource::peer())
    }

    /// By the key that a closure makes of the head of the request. See [`hash_key`].
    pub fn by(key: impl Fn(&Head<'_>) -> Option<u64> + Send + Sync + 'static) -> Self {
        Self::new(KeySource::head(key))
    }
}

impl Hash {
    /// By the key from this source.
    pub fn new(source: KeySource) -> Self {
        Self { source, bound: Some(DEFAULT_BOUND) }
    }

    /// By the key that the fleet's classifier makes of the request, for requests of any type: see
    /// [`keyed`](crate::outcome::keyed).
    pub fn by_classifier() -> Self {
        Self::new(KeySource::classifier())
    }

    /// Sets how many times its part of the calls in flight a backend may have, over 1 and up to 1,000. Default 1.25.
    ///
    /// Nearer to 1, more keys move under load; farther from it, loads differ more.
    ///
    /// # Errors
    ///
    /// Another factor, or NaN.
    pub fn bound(self, factor: f64) -> Result<Self, InvalidSetting> {
        if factor > 1.0 && factor <= MAX_BOUND {
            return Ok(Self { bound: Some(factor), ..self });
        }
        Err(InvalidSetting::of("hash", "bound", factor, "must be over 1 and at most 1000, such as 1.25"))
    }

    /// Lets no key move for load. A share below 1 still moves requests: see [sticky sessions](Self#sticky-sessions).
    pub fn unbounded(self) -> Self {
        Self { bound: None, ..self }
    }
}

/// As in the paper's application: a hot key moves early, and at low load the rounding up leaves room.
const DEFAULT_BOUND: f64 = 1.25;
const MAX_BOUND: f64 = 1_000.0;

/// The orders of all keys over one set of candidates. Made by a [`Hash`](struct@Hash).
#[derive(Debug)]
pub struct HashPick {
    /// Those of the whole tier, so that eligibility moves no other keys.
    ranks: Arc<Ranks>,
    weights: Arc<[u32]>,
    /// The number of the candidate at each place of the tier; `INELIGIBLE` if there is none.
    numbers: Box<[u32]>,
    bound: Option<Bound>,
}

const INELIGIBLE: u32 = u32::MAX;

impl Strategy for Hash {
    type Pick = HashPick;

    fn needs(&self) -> Needs {
        match self.bound {
            Some(_) => Needs::NOTHING.in_flight().shares(),
            None => Needs::NOTHING,
        }
    }

    fn key(&self) -> Option<&KeySource> {
        Some(&self.source)
    }

    fn make(&self, candidates: &Candidates<'_>, before: Option<(&HashPick, &Candidates<'_>)>) -> HashPick {
        let tier = candidates.tier();
        let weights: Arc<[u32]> = tier.iter().map(|candidate| candidate.weight().get()).collect();
        let same = before.filter(|(pick, before)| {
            let names = before.tier().iter().map(Candidate::name);
            pick.weights == weights && names.eq(tier.iter().map(Candidate::name))
        });
        let ranks = match same {
            Some((pick, _)) => Arc::clone(&pick.ranks),
            None => {
                let seeds = tier.iter().map(|candidate| hash_key(candidate.name().as_bytes())).collect();
                Arc::new(Ranks::new(seeds, &weights))
            }
        };
        let mut numbers: Box<[u32]> = vec![INELIGIBLE; tier.len()].into();
        (0..candidates.len()).for_each(|number| numbers[candidates.place(number)] = number as u32);
        let bound = self.bound.map(|factor| {
            let capacity = |candidate: &Candidate| f64::from(candidate.weight().get()) * f64::from(candidate.share());
            Bound::new(factor, &candidates.iter().map(capacity).collect::<Vec<_>>())
        });
        HashPick { ranks, weights, numbers, bound }
    }
}

impl Pick for HashPick {
    #[inline]
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize {
        let key = match cx.key() {
            Some(key) => mix(key),
            None => cx.random(),
        };
        let (skips_none, slot) = (cx.skips_none(), cx.slot);
        let is_skipped = |number: usize| !skips_none && cx.skips(&candidates[number]);
        let load = |number: usize| candidates[number].load();
        let mut sum = None;
        let mut accepts = |place: usize| {
            let number = self.numbers[place];
            number != INELIGIBLE && {
                let number = number as usize;
                let admits = |bound: &Bound| bound.admits(number, slot, &mut sum, load);
                !is_skipped(number) && self.bound.as_ref().is_none_or(admits)
            }
        };
        let first = self.ranks.first(key);
        let place = if accepts(first) { Some(first) } else { self.ranks.first_accepted(key, accepts) };
        match place {
            Some(place) => self.numbers[place] as usize,
            None => self.least_full(candidates, is_skipped),
        }
    }

    fn may_probe(&self, place: usize, cx: &PickContext<'_>) -> bool {
        let is_candidate = |other: usize| other == place || self.numbers[other] != INELIGIBLE;
        cx.key().is_none_or(|key| self.ranks.first_accepted(mix(key), is_candidate) == Some(place))
    }
}

impl HashPick {
    /// Returns the candidate for a request whose candidates are all at their bounds but for those that are skipped.
    #[cold]
    fn least_full(&self, candidates: &Candidates<'_>, is_skipped: impl Fn(usize) -> bool) -> usize {
        let fill = |number: &usize| {
            let bound = self.bound.as_ref();
            bound.map_or(0.0, |bound| bound.fill(*number, candidates[*number].load()))
        };
        let rest = (0..candidates.len()).filter(|number| !is_skipped(*number));
        rest.min_by(|a, b| fill(a).total_cmp(&fill(b))).unwrap_or(0)
    }
}
