//! A scene: the servers, what is wrong with them, and the load.

use std::ops::Range;

use fastrand::Rng;

use crate::{
    random::{Draw, draw, exponential, normal},
    server::Request,
    speed::{Antagonists, Fault},
    time::{Micros, SECOND, micros},
};

/// The distribution of the work of a request: how long a worker takes at full speed without a cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Work {
    /// Exponential, with this mean in seconds.
    Exponential(f64),
    /// Lognormal, with this mean in seconds, and the standard deviation of the logarithm.
    Lognormal(f64, f64),
    /// Lognormal, with this median in seconds and standard deviation of the logarithm. A share of the requests takes
    /// longer by a factor. Drawn anew at each server.
    Stragglers { median: f64, sigma: f64, share: f64, factor: f64 },
}

impl Work {
    /// The mean in seconds.
    pub(crate) fn mean(self) -> f64 {
        match self {
            Self::Exponential(mean) | Self::Lognormal(mean, _) => mean,
            Self::Stragglers { median, sigma, share, factor } => {
                median * (sigma * sigma / 2.0).exp() * (1.0 + share * (factor - 1.0))
            }
        }
    }

    /// Which generator the work is drawn from, beside the number of the request.
    pub(crate) fn part(self, server: u64) -> u64 {
        if matches!(self, Self::Stragglers { .. }) { server + 1 } else { 0 }
    }

    /// Draws the work of a request, in microseconds.
    pub(crate) fn draw(self, rng: &mut Rng) -> f64 {
        let seconds = match self {
            Self::Exponential(mean) => mean * exponential(rng),
            Self::Lognormal(mean, sigma) => mean * (sigma * normal(rng) - sigma * sigma / 2.0).exp(),
            Self::Stragglers { median, sigma, share, factor } => {
                let slow = if rng.f64() < share { factor } else { 1.0 };
                slow * median * (sigma * normal(rng)).exp()
            }
        };
        seconds * SECOND
    }
}

/// One server of a scene.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// 0 is an unlimited number.
    pub(crate) workers: usize,
    pub(crate) speed: f64,
    /// In seconds since the start. A server with a fault is listed apart from the others.
    pub(crate) faults: Vec<(Range<f64>, Fault)>,
}

/// Servers, faults and load.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) servers: Vec<Spec>,
    pub(crate) antagonists: Option<Antagonists>,
    pub(crate) work: Work,
    /// Requests a second, of all clients together.
    pub(crate) rate: f64,
    /// Clients with a door and a fleet each, that do not know of each other.
    pub(crate) clients: usize,
    /// Until when requests arrive, in seconds.
    pub(crate) seconds: f64,
    /// The time whose requests are measured, in seconds.
    pub(crate) measured: Range<f64>,
    /// The time in which the shares of the backends are counted, if it is not the measured one.
    pub(crate) counted: Option<Range<f64>>,
    pub(crate) timeout: Option<Micros>,
    /// Whether our fleets have circuits, with default settings. tower has none.
    pub(crate) circuits: bool,
    /// Number of keys, of which some are requested more often than others.
    pub(crate) keys: u64,
    /// Places in the cache of each server.
    pub(crate) cache: usize,
    /// The strategies that it is run with by default.
    pub(crate) strategies: &'static [&'static str],
    pub(crate) seeds: u64,
}

impl Scene {
    /// How much work the servers do a second, on average and without faults.
    pub(crate) fn capacity(&self) -> f64 {
        let slowed = self.antagonists.map_or(1.0, Antagonists::mean_speed);
        let workers: f64 = self.servers.iter().map(|spec| spec.workers as f64 * spec.speed).sum();
        workers * slowed / self.work.mean()
    }

    pub(crate) fn shares(&self) -> Range<Micros> {
        let Range { start, end } = self.counted.as_ref().unwrap_or(&self.measured);
        micros(*start)..micros(*end)
    }

    pub(crate) fn is_faulty(&self, server: usize) -> bool {
        !self.servers[server].faults.is_empty()
    }

    /// The requests of a run, by the time of their arrival.
    pub(crate) fn requests(&self, seed: u64) -> impl Iterator<Item = Request> + use<'_> {
        let mut at = 0.0;
        let arrivals = (0..).map(move |number| {
            at += exponential(&mut draw(seed, Draw::Arrival, number, 0)) / self.rate * SECOND;
            let client = draw(seed, Draw::Client, number, 0).usize(0..self.clients);
            Request { number, client, key: self.key(seed, number), at: at as Micros }
        });
        arrivals.take_while(|request| (request.at as f64) < self.seconds * SECOND)
    }

    /// Log-uniform: one of the first ten keys is as likely as one of the next ninety.
    fn key(&self, seed: u64, number: u64) -> u64 {
        match self.keys {
            0 => number,
            keys => {
                let rank = (keys as f64).powf(draw(seed, Draw::Key, number, 0).f64()) as u64;
                // Spread, so that neighbours do not share a place of the cache.
                rank.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16
            }
        }
    }
}
