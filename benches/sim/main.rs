//! Strategies in virtual time: the real doors, ours and tower's, over simulated servers.
//!
//! `cargo bench --bench sim` runs all scenes, prints a table for each and writes its picture to `target/sim/`;
//! `cargo bench --bench sim -- --help` shows the options. Time is tokio's paused one, so a run takes as long as its
//! computations, and the same seeds print the same figures.
//!
//! A server has four workers behind one queue. Arrivals, work and antagonists are drawn by seed and number, so that
//! they are the same under every strategy (common random numbers).

mod args;
mod figures;
mod oracle;
mod random;
mod report;
mod run;
mod scene;
mod scenes;
mod server;
mod speed;
mod strategies;
mod svg;
mod time;

use std::{
    fs,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{args::Args, figures::Figures, report::Row, scene::Scene};

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    for scene in &args.scenes {
        let rows = rows(scene, &args);
        report::print(scene, &rows);
        let path = args.out.join(scene.name).with_extension("svg");
        let written = fs::create_dir_all(&args.out).and_then(|()| fs::write(&path, svg::draw(scene, &rows)));
        if let Err(error) = written {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs all strategies and seeds of a scene, on a few threads.
fn rows(scene: &Scene, args: &Args) -> Vec<Row> {
    let strategies: Vec<String> = match &*args.strategies {
        [] => scene.strategies.iter().map(|&strategy| strategy.into()).collect(),
        strategies => strategies.to_vec(),
    };
    let seeds = args.seeds.unwrap_or(scene.seeds) as usize;
    let next = AtomicUsize::new(0);
    let runs: Vec<Mutex<Option<Figures>>> = (0..strategies.len() * seeds).map(|_| Mutex::default()).collect();
    thread::scope(|scope| {
        for _ in 0..args.threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(run) = runs.get(number) else { break };
                    let (strategy, seed) = (&strategies[number / seeds], args.first_seed + (number % seeds) as u64);
                    *run.lock().expect("no run panics") = Some(run::run(scene, strategy, seed));
                }
            });
        }
    });
    let mut runs = runs.into_iter().map(|run| run.into_inner().expect("no run panics").expect("every run was made"));
    strategies.into_iter().map(|strategy| (strategy, runs.by_ref().take(seeds).collect())).collect()
}
