//! How fast a server works over time: antagonists and faults slow it, hang it, or make it refuse requests.

use std::ops::Range;

use crate::{
    random::{Draw, draw, exponential},
    time::{Micros, micros},
};

/// What is wrong with a server for some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// It works at this share of its speed. At 0 it hangs, and works off its queue afterwards.
    Speed(f64),
    /// It refuses requests at once.
    Refuses,
}

/// Other work on the same machines, which slows each server now and then, independently of the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Antagonists {
    /// The share of the time in which a server is slowed.
    pub(crate) share: f64,
    /// The speed that remains of 1.
    pub(crate) speed: f64,
    /// How long they slow it at a time, in seconds.
    pub(crate) length: f64,
}

impl Antagonists {
    /// The speed that remains on average.
    pub(crate) fn mean_speed(self) -> f64 {
        1.0 - self.share * (1.0 - self.speed)
    }

    /// The times at which one server is slowed. The pauses between them are exponentially distributed.
    fn times(self, seed: u64, server: u64, until: f64) -> Vec<Range<f64>> {
        let mut rng = draw(seed, Draw::Antagonist, server, 0);
        let pause = self.length * (1.0 - self.share) / self.share;
        // As if it had always been so: in the beginning, this share of the servers is slowed.
        let mut at = match rng.f64() < self.share {
            true => -self.length * rng.f64(),
            false => pause * exponential(&mut rng),
        };
        let mut times = Vec::new();
        while at < until {
            times.push(at..at + self.length);
            at += self.length + pause * exponential(&mut rng);
        }
        times
    }
}

/// The speed of one server over time, piecewise constant.
pub(crate) struct Speed {
    /// From when on, and how fast; ascending. The first one begins at 0.
    pieces: Vec<(f64, f64)>,
    refuses: Vec<Range<Micros>>,
}

impl Speed {
    pub(crate) fn new(
        base: f64,
        faults: &[(Range<f64>, Fault)],
        antagonists: Option<Antagonists>,
        (seed, server): (u64, u64),
        until: f64,
    ) -> Self {
        let mut slowed: Vec<(Range<f64>, f64)> = faults
            .iter()
            .filter_map(|(time, fault)| match fault {
                Fault::Speed(speed) => Some((time.clone(), *speed)),
                Fault::Refuses => None,
            })
            .collect();
        if let Some(antagonists) = antagonists {
            let times = antagonists.times(seed, server, until);
            slowed.extend(times.into_iter().map(|time| (time, antagonists.speed)));
        }
        let mut edges: Vec<f64> = slowed.iter().flat_map(|(time, _)| [time.start, time.end]).collect();
        edges.push(0.0);
        edges.retain(|edge| *edge >= 0.0);
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        let at = |moment: f64| {
            let now = slowed.iter().filter(|(time, _)| time.contains(&moment));
            now.fold(base, |speed, (_, factor)| speed * factor)
        };
        let pieces = edges.into_iter().map(|edge| (edge * 1e6, at(edge))).collect();
        let refuses = faults
            .iter()
            .filter(|(_, fault)| *fault == Fault::Refuses)
            .map(|(time, _)| micros(time.start)..micros(time.end))
            .collect();
        Self { pieces, refuses }
    }

    pub(crate) fn refuses(&self, now: Micros) -> bool {
        self.refuses.iter().any(|time| time.contains(&now))
    }

    /// Returns when work that begins at `start` is done, both in microseconds; `None` if never.
    pub(crate) fn done(&self, start: f64, mut work: f64) -> Option<f64> {
        let after = self.pieces.partition_point(|(from, _)| *from <= start);
        let mut from = start;
        for (piece, (_, speed)) in self.pieces.iter().enumerate().skip(after.saturating_sub(1)) {
            let until = self.pieces.get(piece + 1).map_or(f64::INFINITY, |(next, _)| *next);
            let end = from + work / speed;
            if *speed > 0.0 && end <= until {
                return Some(end);
            }
            work -= (until - from) * speed;
            from = until;
        }
        None
    }
}
