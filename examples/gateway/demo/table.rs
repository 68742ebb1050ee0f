//! A line per second that a person likes to look at.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
    time::Duration,
};

use tower_fleet::CircuitState;

use super::{
    backends::{Backend, Mood},
    traffic::{Counts, millis},
};
use crate::server::Gateway;

const WIDTH: usize = 20;

/// What was printed last, to tell what is new since.
pub(crate) struct Table {
    colours: bool,
    lines: usize,
    before: Counts,
    served: Vec<u64>,
}

impl Table {
    pub(crate) fn new(before: Counts, backends: usize) -> Self {
        Self { colours: io::stdout().is_terminal(), lines: 0, before, served: vec![0; backends] }
    }

    /// Something that happened.
    pub(crate) fn event(&self, at: Duration, event: &str) {
        println!("{}", self.paint("2", &format!("{:>7.1} s  {event}", at.as_secs_f64())));
    }

    pub(crate) fn line(&mut self, now: Counts, gateway: &Gateway, backends: &[Arc<Backend>]) {
        if self.lines.is_multiple_of(20) {
            let names: String = backends.iter().map(|backend| format!("{:<WIDTH$}", backend.name)).collect();
            println!("\n{:>9} {:>9} {:>9} {:>6} {:>10}   {names}", "req/s", "p50 ms", "p99 ms", "lost", "failovers");
        }
        self.lines += 1;
        let mut latencies = now.all.clone();
        latencies.subtract(&self.before.all).expect("counts only grow");
        let cells: String = self.cells(gateway, backends).concat();
        println!(
            "{:>9} {:>9.1} {:>9.1} {:>6} {:>10}   {cells}",
            now.requests - self.before.requests,
            millis(&latencies, 0.5),
            millis(&latencies, 0.99),
            now.lost,
            gateway.tally.failovers(),
        );
        self.before = now;
    }

    fn cells(&mut self, gateway: &Gateway, backends: &[Arc<Backend>]) -> Vec<String> {
        let snapshot = gateway.fleet.snapshot();
        let cell = |((backend, now), before): ((&Arc<Backend>, _), &mut u64)| {
            let served = backend.served();
            let (new, state): (u64, CircuitState) = (served - std::mem::replace(before, served), now);
            let colour = match (state, backend.mood()) {
                (CircuitState::Closed, Mood::Good) => "32",
                (CircuitState::Closed, _) => "33",
                _ => "31",
            };
            (colour, format!("{:<WIDTH$}", format!("{new} {state}")))
        };
        let states = snapshot.iter().map(|backend| backend.state);
        let cells: Vec<_> = backends.iter().zip(states).zip(&mut self.served).map(cell).collect();
        cells.into_iter().map(|(colour, text)| self.paint(colour, &text)).collect()
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
