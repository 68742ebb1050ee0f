//! A simulated server: workers behind one queue, a cache, and whatever is wrong with it.

use std::{
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tower::{BoxError, Service, timeout::error::Elapsed};

use crate::{
    random::{Draw, draw},
    scene::{Scene, Work},
    speed::Speed,
    time::{Clock, Micros},
};

/// A request. Its work is drawn by the server from its number, so that it is the same under every strategy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) number: u64,
    pub(crate) client: usize,
    pub(crate) key: u64,
    /// When it arrives.
    pub(crate) at: Micros,
}

/// How long a server takes to refuse a request.
const REFUSAL: Micros = 100;

/// What a request costs whose key is in the server's cache, as a share of its work.
const CACHED: f64 = 0.2;

/// The client of one server. Always ready: requests wait in the queue of the server.
#[derive(Clone)]
pub(crate) struct Server(Arc<Machine>);

struct Machine {
    number: u64,
    seed: u64,
    clock: Clock,
    speed: Speed,
    work: Work,
    timeout: Option<Micros>,
    /// The time in which requests are counted.
    counted: Range<Micros>,
    state: Mutex<State>,
}

struct State {
    /// When each worker will be free, by the queue as it is. Empty if the capacity is unlimited.
    free_at: Vec<f64>,
    /// The key in each place of the cache, which is determined by the key.
    cache: Vec<Option<u64>>,
    sent: u64,
    counted: u64,
}

impl Server {
    pub(crate) fn new(scene: &Scene, number: usize, seed: u64, clock: Clock) -> Self {
        let spec = &scene.servers[number];
        let subject = (seed, number as u64);
        // Antagonists also slow what is still queued in the end.
        let until = scene.seconds * 2.0;
        Self(Arc::new(Machine {
            number: number as u64,
            seed,
            clock,
            speed: Speed::new(spec.speed, &spec.faults, scene.antagonists, subject, until),
            work: scene.work,
            timeout: scene.timeout,
            counted: scene.shares(),
            state: Mutex::new(State {
                free_at: vec![0.0; spec.workers],
                cache: vec![None; scene.cache],
                sent: 0,
                counted: 0,
            }),
        }))
    }

    /// Returns when a request would be done that is sent now, in microseconds; infinite if it would not succeed.
    pub(crate) fn would_end(&self, request: Request) -> f64 {
        let Machine { clock, speed, .. } = &*self.0;
        let now = clock.now();
        let end = if speed.refuses(now) { None } else { self.0.end(&self.0.state(), request, now) };
        end.unwrap_or(f64::INFINITY)
    }

    /// Returns how many requests it was sent.
    pub(crate) fn sent(&self) -> u64 {
        self.0.state().sent
    }

    /// Returns how many of them were sent while shares were counted.
    pub(crate) fn counted(&self) -> u64 {
        self.0.state().counted
    }
}

impl Machine {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no simulated server panics")
    }

    /// Queues a request. Returns when it is done; `None` if never.
    ///
    /// The speed is known in advance, so the end of a request is known when it arrives. A request whose client stops
    /// waiting is worked on nevertheless.
    fn queue(&self, request: Request, now: Micros) -> Option<f64> {
        let mut state = self.state();
        let end = self.end(&state, request, now);
        if let Some(place) = state.place(request.key) {
            state.cache[place] = Some(request.key);
        }
        if let Some(free) = state.free_at.iter_mut().min_by(|a, b| a.total_cmp(b)) {
            *free = end.unwrap_or(f64::INFINITY);
        }
        end
    }

    /// Returns when a request would be done that arrives now; `None` if never.
    fn end(&self, state: &State, request: Request, now: Micros) -> Option<f64> {
        let mut rng = draw(self.seed, Draw::Work, request.number, self.work.part(self.number));
        let is_cached = state.place(request.key).is_some_and(|place| state.cache[place] == Some(request.key));
        let work = self.work.draw(&mut rng) * if is_cached { CACHED } else { 1.0 };
        let free = state.free_at.iter().copied().min_by(f64::total_cmp).unwrap_or(0.0);
        self.speed.done(free.max(now as f64), work).filter(|end| end.is_finite())
    }
}

impl State {
    fn place(&self, key: u64) -> Option<usize> {
        key.checked_rem(self.cache.len() as u64).map(|place| place as usize)
    }
}

impl Service<Request> for Server {
    type Response = ();
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Machine { clock, speed, timeout, counted, .. } = &*self.0;
        let (clock, now) = (*clock, clock.now());
        {
            let mut state = self.0.state();
            state.sent += 1;
            state.counted += u64::from(counted.contains(&now));
        }
        let answer = |at| tokio::time::sleep_until(clock.instant(at));
        if speed.refuses(now) {
            let refused = answer(now + REFUSAL);
            return Box::pin(async move {
                refused.await;
                Err(io::Error::from(io::ErrorKind::ConnectionRefused).into())
            });
        }
        // Rounded up: what takes time takes at least one step of the clock.
        let end = self.0.queue(request, now).map(|end| end.ceil() as Micros);
        let late = timeout.map(|timeout| now + timeout);
        match (end, late) {
            (Some(end), late) if late.is_none_or(|late| end <= late) => {
                let done = answer(end);
                Box::pin(async move {
                    done.await;
                    Ok(())
                })
            }
            (_, Some(late)) => {
                let late = answer(late);
                Box::pin(async move {
                    late.await;
                    Err(Elapsed::new().into())
                })
            }
            (_, None) => Box::pin(std::future::pending()),
        }
    }
}
