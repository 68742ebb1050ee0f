//! The scenes, by name.

use std::ops::Range;

use crate::{
    scene::{Scene, Spec, Work},
    speed::{Antagonists, Fault},
    strategies::{HEDGES, USUAL, WEIGHTED, WITH_LATENCY},
    time::micros,
};

/// Mean work of a request, in seconds.
const MEAN: f64 = 0.010;
const WORKERS: usize = 4;

/// Returns all scenes.
pub(crate) fn all() -> Vec<Scene> {
    let slow = [(5.0..15.0, Fault::Speed(0.1))];
    let refusing = [(2.0..12.0, Fault::Refuses)];
    // Down, then back with cold caches.
    let recovering = [(3.0..8.0, Fault::Refuses), (8.0..10.0, Fault::Speed(1.0 / 3.0))];
    let hanging = [(3.0..8.0, Fault::Speed(0.0))];
    let mut scenes = vec![
        plain("healthy", "Three servers, all well", 3, 20.0).measured(5.0..15.0).load(0.5),
        Scene { strategies: WITH_LATENCY, ..plain("one_slow", "One of three is 10x slower from 5 s to 15 s", 3, 20.0) }
            .faults(1, &slow)
            .measured(5.0..15.0)
            .load(0.5),
        plain("one_refuses", "One of ten fails instantly from 2 s on, no circuits", 10, 12.0)
            .faults(1, &refusing)
            .measured(2.0..12.0)
            .load(0.5),
        plain("one_recovers", "One of five is down from 3 s to 8 s, then cold for 2 s", 5, 20.0)
            .faults(1, &recovering)
            .measured(3.0..20.0)
            .counted(8.0..20.0)
            .load(0.6),
        Scene {
            timeout: Some(micros(1.0)),
            strategies: WITH_LATENCY,
            ..plain("one_hangs", "One of ten hangs from 3 s to 8 s", 10, 15.0)
        }
        .faults(1, &hanging)
        .measured(3.0..15.0)
        .counted(3.0..8.0)
        .load(0.6),
        Scene { strategies: WEIGHTED, ..plain("uneven", "Two servers at double, four at half speed of ten", 10, 20.0) }
            .speeds(&[2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5])
            .load(0.7),
        two_refuse("two_refuse_1", "20 servers with antagonists, two fail from 5 s on, one client", 1),
        two_refuse("two_refuse_10", "20 servers with antagonists, two fail from 5 s on, ten clients", 10),
        Scene {
            work: Work::Lognormal(MEAN, 1.5),
            seeds: 5,
            ..plain("hundred", "100 servers, work with a heavy tail, load 0.7", 100, 3.0)
        }
        .load(0.7),
        // Load as if nothing were cached: more than the servers can do.
        Scene {
            keys: 20_000,
            cache: 2_000,
            ..plain("cold_cache", "Ten servers with cold caches, 20,000 keys", 10, 20.0)
        }
        .measured(0.0..20.0)
        .load(1.2),
        hedge(),
    ];
    scenes.extend(antagonists());
    scenes
}

/// Twenty servers with antagonists, of four workers each and of one.
fn antagonists() -> impl Iterator<Item = Scene> {
    let names = [
        ("antagonists_70_1", "narrow_70_1", 0.7, 1),
        ("antagonists_70_10", "narrow_70_10", 0.7, 10),
        ("antagonists_90_1", "narrow_90_1", 0.9, 1),
        ("antagonists_90_10", "narrow_90_10", 0.9, 10),
    ];
    let scenes = names.map(|(wide, narrow, load, clients)| {
        let title = |workers| -> &'static str {
            let clients = if clients == 1 { "one client" } else { "ten clients" };
            format!("20 servers with {workers} and antagonists, load {load}, {clients}").leak()
        };
        let wide = noisy(wide, title("four workers"), clients);
        let narrow = noisy(narrow, title("one worker"), clients).workers(1);
        [wide.load(load), narrow.load(load)]
    });
    scenes.into_iter().flatten()
}

/// Equal servers without faults.
fn plain(name: &'static str, title: &'static str, servers: usize, seconds: f64) -> Scene {
    let spec = Spec { workers: WORKERS, speed: 1.0, faults: Vec::new() };
    Scene {
        name,
        title,
        servers: vec![spec; servers],
        antagonists: None,
        work: Work::Exponential(MEAN),
        rate: 0.0,
        clients: 1,
        seconds,
        // Without the time in which the queues fill up.
        measured: 1.0..seconds,
        counted: None,
        timeout: None,
        circuits: false,
        keys: 0,
        cache: 0,
        strategies: USUAL,
        seeds: 10,
    }
}

/// Twenty servers; antagonists slow each to a third for 2 s at a time, 15 % of the time.
fn noisy(name: &'static str, title: &'static str, clients: usize) -> Scene {
    let antagonists = Antagonists { share: 0.15, speed: 1.0 / 3.0, length: 2.0 };
    // At high load, seeds differ by a factor of two.
    Scene { antagonists: Some(antagonists), clients, seeds: 20, ..plain(name, title, 20, 20.0) }.measured(2.0..20.0)
}

fn two_refuse(name: &'static str, title: &'static str, clients: usize) -> Scene {
    let refusing = [(5.0..20.0, Fault::Refuses)];
    Scene { circuits: true, seeds: 10, ..noisy(name, title, clients) }
        .faults(2, &refusing)
        .measured(5.0..20.0)
        .load(0.7)
}

/// 200,000 requests to servers of unlimited capacity.
fn hedge() -> Scene {
    let work = Work::Stragglers { median: 0.005, sigma: 0.3, share: 0.05, factor: 10.0 };
    let mut scene = plain("hedge", "Five servers, 5 % of the responses 10x later, hedged", 5, 100.0);
    scene.servers.iter_mut().for_each(|spec| spec.workers = 0);
    Scene { work, rate: 2_000.0, measured: 0.0..100.0, strategies: HEDGES, seeds: 5, ..scene }
}

impl Scene {
    /// Gives the first servers these faults.
    fn faults(mut self, servers: usize, faults: &[(Range<f64>, Fault)]) -> Self {
        self.servers[..servers].iter_mut().for_each(|spec| spec.faults = faults.to_vec());
        self
    }

    fn speeds(mut self, speeds: &[f64]) -> Self {
        self.servers.iter_mut().zip(speeds).for_each(|(spec, speed)| spec.speed = *speed);
        self
    }

    pub(crate) fn workers(mut self, workers: usize) -> Self {
        self.servers.iter_mut().for_each(|spec| spec.workers = workers);
        self
    }

    fn measured(self, measured: Range<f64>) -> Self {
        Self { measured, ..self }
    }

    fn counted(self, counted: Range<f64>) -> Self {
        Self { counted: Some(counted), ..self }
    }

    /// Sets the load as a share of the capacity, with antagonists and without faults.
    pub(crate) fn load(self, load: f64) -> Self {
        // Unlimited capacity has a rate of its own.
        let rate = if self.capacity() > 0.0 { load * self.capacity() } else { self.rate };
        Self { rate, ..self }
    }
}
