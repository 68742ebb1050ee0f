//! While one backend is pending, failing, excluded or tried already, the others keep exact shares among themselves, in the
//! order of the whole set without it: for one thread, and within as many requests as there are threads. C3, C4, C5
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use tower::{Layer, Service, ServiceExt};
use tower_fleet::{
    AdminStatus, Backend, BalanceLayer, FailoverLayer, Fleet,
    failover::{FailoverBuilder, Mode, Plain},
    outcome::ErrorsOnly,
    pick::{RoundRobin, Shuffle, Weighted},
};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const THREADS: usize = 8;

/// Answers with its name, and counts what it served.
#[derive(Clone)]
struct Site {
    name: &'static str,
    is_pending: Arc<AtomicBool>,
    fails: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
}

impl Service<()> for Site {
    type Response = &'static str;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<&'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_pending.load(Ordering::Relaxed) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, (): ()) -> Self::Future {
        if self.fails.load(Ordering::Relaxed) {
            return std::future::ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.served.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok(self.name))
    }
}

/// What keeps requests from the second backend.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Absent {
    Pending,
    Drained,
    Removed,
    CircuitOpen,
}

/// Backends a to d with these weights.
struct Set {
    fleet: Fleet<Site, ErrorsOnly>,
    sites: Vec<Site>,
}

impl Set {
    fn new(weights: [u32; 4]) -> Self {
        let site = |name| Site { name, is_pending: Arc::default(), fails: Arc::default(), served: Arc::default() };
        let sites = NAMES.map(site);
        let backends =
            sites.iter().zip(weights).map(|(site, weight)| Backend::new(site.name, site.clone()).weight(weight));
        let policy = tower_fleet::CircuitPolicy::new().failures(10_000);
        let fleet = Fleet::plain().circuit_breaker(policy).backends(backends).build().unwrap();
        Self { fleet, sites: sites.to_vec() }
    }

    /// Takes the second backend out.
    fn without_b(&self, absent: Absent) {
        match absent {
            Absent::Pending => self.sites[1].is_pending.store(true, Ordering::Relaxed),
            Absent::Drained => assert!(self.fleet.set_status("b", AdminStatus::Draining)),
            Absent::Removed => assert!(self.fleet.remove("b")),
            Absent::CircuitOpen => self.fleet.switch("b").unwrap().force_open(),
        }
    }

    fn served(&self) -> [usize; 4] {
        [0, 1, 2, 3].map(|index| self.sites[index].served.swap(0, Ordering::Relaxed))
    }
}

type Call = BoxFuture<'static, &'static str>;

/// A door of any type.
trait Door: Service<(), Response = &'static str> + Clone + Send + Sync + 'static {
    fn served_by(&self) -> Call;
}

impl<D> Door for D
where
    D: Service<(), Response = &'static str, Error: std::fmt::Debug, Future: Send> + Clone + Send + Sync + 'static,
{
    fn served_by(&self) -> Call {
        let door = self.clone();
        Box::pin(async move { door.oneshot(()).await.unwrap() })
    }
}

fn order(door: &impl Door, requests: usize) -> String {
    (0..requests).map(|_| door.served_by().now_or_never().expect("a backend is ready")).collect()
}

/// Sends so many requests from each of eight threads, through clones of one door.
fn from_threads(door: &impl Door, each: usize) {
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let (door, start) = (door.clone(), &start);
            scope.spawn(move || {
                start.wait();
                order(&door, each);
            });
        }
    });
}

const ALL: [Absent; 4] = [Absent::Pending, Absent::Drained, Absent::Removed, Absent::CircuitOpen];

// C3
#[test]
fn round_robin_goes_on_in_order_without_one() {
    for absent in ALL {
        let set = Set::new([1; 4]);
        let door = BalanceLayer::round_robin().layer(set.fleet.clone());
        assert_eq!(order(&door, 5), "abcda");
        set.without_b(absent);
        assert_eq!(order(&door, 9), "cdacdacda", "{absent:?}");
    }
}

// C5, C7
#[test]
fn weighted_keeps_the_order_of_the_whole_set_without_one() {
    for absent in [Absent::Pending, Absent::Drained, Absent::CircuitOpen] {
        let set = Set::new([3, 2, 1, 2]);
        let door = BalanceLayer::weighted().layer(set.fleet.clone());
        let whole = order(&door, 8);
        assert_eq!(order(&door, 8), whole, "one period");
        set.without_b(absent);
        let rest: String = whole.chars().filter(|name| *name != 'b').collect();
        assert_eq!(order(&door, 18), rest.repeat(3), "{absent:?}");
        assert_eq!(set.served()[1], 4);
    }
}

// C4
#[test]
fn shuffle_deals_the_others_without_one() {
    for absent in ALL {
        let set = Set::new([1; 4]);
        let door = BalanceLayer::shuffle().layer(set.fleet.clone());
        order(&door, 6);
        set.without_b(absent);
        // The rest of a deck that was begun, if the set is the same.
        order(&door, 12);
        set.served();
        for _ in 0..50 {
            order(&door, 3 * 4);
            let [a, b, c, d] = set.served();
            // Of a deck with a card that is skipped, three come up: whole decks are counted within one.
            assert!(b == 0 && [a, c, d].iter().all(|served| (3..=5).contains(served)), "{absent:?}: {a} {c} {d}");
        }
    }
}

// C3, C4, C5
#[test]
fn shares_among_the_others_are_exact_from_eight_threads() {
    for absent in ALL {
        let set = Set::new([3, 2, 1, 2]);
        let fleet = || set.fleet.clone();
        let exact = |name: &str, shares: [usize; 4], served: [usize; 4]| {
            let most = served.iter().zip(shares).map(|(served, share)| served.abs_diff(share)).max().unwrap();
            assert!(most <= THREADS, "{name}, {absent:?}: {served:?} instead of {shares:?}");
        };
        set.without_b(absent);
        from_threads(&BalanceLayer::round_robin().layer(fleet()), 300);
        exact("round robin", [800, 0, 800, 800], set.served());
        from_threads(&BalanceLayer::shuffle().layer(fleet()), 300);
        exact("shuffle", [800, 0, 800, 800], set.served());
        from_threads(&BalanceLayer::weighted().layer(fleet()), 300);
        exact("weighted", [1200, 0, 400, 800], set.served());
    }
}

// C3, C5: failing, and so tried already.
#[test]
fn further_attempts_keep_the_shares_of_the_others() {
    let doors: [(&str, FailoverBuilder<Plain>, [usize; 4]); 3] = [
        ("round robin", FailoverLayer::plain().strategy(RoundRobin), [800, 0, 800, 800]),
        ("shuffle", FailoverLayer::plain().strategy(Shuffle::seeded(7)), [800, 0, 800, 800]),
        ("weighted", FailoverLayer::plain().strategy(Weighted), [1200, 0, 400, 800]),
    ];
    for (name, failover, shares) in doors {
        let set = Set::new([3, 2, 1, 2]);
        set.sites[1].fails.store(true, Ordering::Relaxed);
        let door = failover.mode(Mode::Sequential).build().unwrap().layer(set.fleet.clone());
        from_threads(&door, 300);
        let served = set.served();
        let most = served.iter().zip(shares).map(|(served, share)| served.abs_diff(share)).max().unwrap();
        assert!(most <= THREADS, "{name}: {served:?} instead of {shares:?}");
    }
}

// C3: what one thread sends through a door and its clones, kept or not.
#[test]
fn a_thread_sees_an_exact_rotation_whatever_other_threads_do() {
    let set = Set::new([1; 4]);
    let door = BalanceLayer::round_robin().layer(set.fleet.clone());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let door = door.clone();
            scope.spawn(move || {
                let seen = order(&door, 1_000);
                assert!(
                    ["abcd", "bcda", "cdab", "dabc"].iter().any(|start| start.repeat(250) == seen),
                    "{}",
                    &seen[..20]
                );
            });
        }
    });
}
