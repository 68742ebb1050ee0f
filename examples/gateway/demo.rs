//! The gateway in front of three small backends that it starts itself, with faults and traffic.

mod backends;
mod table;
mod traffic;

use std::{convert::Infallible, error::Error, process::ExitCode, sync::Arc, time::Duration};

use futures::StreamExt;
use serde_json::json;
use tokio::time::{Instant, interval_at, sleep};
use tower_fleet::fleet::Change;

use self::{
    backends::{Backend, Mood, misbehave},
    table::Table,
    traffic::{Counts, Outcomes, millis},
};
use crate::{Signals, server::Gateway, settings::Settings};

/// Runs until the time is up, or Ctrl-C. Fails when a request was lost.
pub(crate) fn run(time: Option<Duration>, json: bool) -> Result<ExitCode, Box<dyn Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let backends =
            [Backend::start("steady").await?, Backend::start("flaky").await?, Backend::start("moody").await?];
        let gateway = Gateway::start(read(&backends)?, None)?;
        println!("listening on http://{}, with three backends of which two have faults", gateway.address);
        let outcomes = Outcomes::new();
        let mut signals = Signals::listen()?;
        let end = async {
            match time {
                Some(time) => sleep(time).await,
                None => signals.next().await,
            }
        };
        tokio::select! {
            () = end => {}
            _ = traffic::run(gateway.address, Arc::clone(&outcomes), || is_calm(&backends)) => {}
            _ = show(&gateway, &backends, &outcomes) => {}
        }
        let (counts, failovers) = (outcomes.so_far(), gateway.tally.failovers());
        // What still runs needs its backends, which are on this thread.
        tokio::task::spawn_blocking(|| gateway.stop()).await?;
        summary(&counts, failovers, json);
        Ok(ExitCode::from(u8::from(counts.lost > 0)))
    })
}

/// The same file that would serve for real, with the ports that were free.
fn settings(backends: &[Arc<Backend>]) -> String {
    let mut text = String::from(include_str!("demo/fleet.toml"));
    for backend in backends {
        text.push_str(&format!("[[backend]]\nname = \"{}\"\norigin = \"http://{}\"\n", backend.name, backend.address));
    }
    text
}

fn read(backends: &[Arc<Backend>]) -> Result<Settings, Box<dyn Error>> {
    Settings::read(&settings(backends)).map_err(|error| -> Box<dyn Error> { error })
}

fn is_calm(backends: &[Arc<Backend>]) -> bool {
    backends.iter().all(|backend| backend.mood() == Mood::Good)
}

/// Has the backends misbehave, and tells what is going on.
async fn show(gateway: &Gateway, backends: &[Arc<Backend>; 3], outcomes: &Outcomes) -> Infallible {
    let began = Instant::now();
    let mut changes = gateway.fleet.changes();
    let mut seconds = interval_at(began + Duration::from_secs(1), Duration::from_secs(1));
    let mut table = Table::new(outcomes.so_far(), backends.len());
    let (faults, mut news) = tokio::sync::mpsc::unbounded_channel();
    let [_, flaky, moody] = backends;
    let faults = misbehave(Arc::clone(flaky), Arc::clone(moody), move |backend, mood| {
        // The receiver is dropped when the demo is over.
        let _ = faults.send(format!("{} {mood}", backend.name));
    });
    tokio::pin!(faults);
    loop {
        tokio::select! {
            biased;
            never = &mut faults => return never,
            Some(news) = news.recv() => table.event(began.elapsed(), &news),
            Some(change) = changes.next() => if let Change::Circuit(name, transition) = change {
                let (from, to) = (transition.from, transition.to);
                table.event(began.elapsed(), &format!("{name}: {from} -> {to}"));
            },
            _ = seconds.tick() => table.line(outcomes.so_far(), gateway, backends),
        }
    }
}

fn summary(counts: &Counts, failovers: u64, json: bool) {
    let Counts { requests, lost, all, healthy } = counts;
    let (p50, p99, healthy_p50, healthy_p99) =
        (millis(all, 0.5), millis(all, 0.99), millis(healthy, 0.5), millis(healthy, 0.99));
    println!("\n{requests} requests, {lost} lost, {failovers} saved by another backend");
    println!("p50 {p50:.1} ms, p99 {p99:.1} ms; while all was well p50 {healthy_p50:.1} ms, p99 {healthy_p99:.1} ms");
    if json {
        let line = json!({
            "requests": requests, "lost": lost, "failovers": failovers,
            "p50_ms": p50, "p99_ms": p99, "healthy_p99_ms": healthy_p99,
        });
        println!("{line}");
    }
}
