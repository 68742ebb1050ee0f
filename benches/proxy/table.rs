//! The columns and the two tables.

use std::time::Duration;

use crate::{RATE, contender::Contender, load::Tally};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Killed,
    Unavailable,
    Slow,
    Hangs,
}

impl Fault {
    pub(crate) const ALL: [Self; 5] = [Self::None, Self::Killed, Self::Unavailable, Self::Slow, Self::Hangs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "no-fault",
            Self::Killed => "killed",
            Self::Unavailable => "503",
            Self::Slow => "slow",
            Self::Hangs => "hangs",
        }
    }

    /// What begins it and what ends it.
    pub(crate) fn commands(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::None => None,
            Self::Killed => Some(("kill 1", "restart 1")),
            Self::Unavailable => Some(("status 1 503", "good 1")),
            Self::Slow => Some(("slow 1 200ms", "good 1")),
            Self::Hangs => Some(("hang 1", "good 1")),
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::None => "no fault",
            Self::Killed => "killed",
            Self::Unavailable => "answers 503",
            Self::Slow => "+200 ms",
            Self::Hangs => "hangs",
        }
    }
}

/// A cell of the closed loop.
pub(crate) struct Throughput {
    pub(crate) contender: Contender,
    pub(crate) connections: usize,
    pub(crate) tally: Tally,
    /// Microseconds of processor time that the proxy spent per request.
    pub(crate) cpu: f64,
}

/// A cell of the open loop.
pub(crate) struct Cell {
    pub(crate) contender: Contender,
    pub(crate) fault: Fault,
    pub(crate) tally: Tally,
}

/// The better of two rounds: noise only ever takes.
pub(crate) fn keep_best(cells: &mut Vec<Throughput>, cell: Throughput) {
    let same = |it: &&mut Throughput| it.contender == cell.contender && it.connections == cell.connections;
    match cells.iter_mut().find(same) {
        Some(kept) if kept.tally.per_second() >= cell.tally.per_second() => {}
        Some(kept) => *kept = cell,
        None => cells.push(cell),
    }
}

/// The latencies of the calmer round, since noise only ever adds; failures of all rounds.
pub(crate) fn keep_calmest(cells: &mut Vec<Cell>, mut cell: Cell) {
    let same = |it: &&mut Cell| it.contender == cell.contender && it.fault == cell.fault;
    let Some(kept) = cells.iter_mut().find(same) else { return cells.push(cell) };
    if kept.tally.millis(99.0) > cell.tally.millis(99.0) {
        std::mem::swap(kept, &mut cell);
    }
    for (failure, count) in cell.tally.failures {
        *kept.tally.failures.entry(failure).or_default() += count;
    }
}

pub(crate) fn print_throughput(cells: &[Throughput], json: bool) {
    if json {
        for Throughput { contender, connections, tally, cpu } in cells {
            println!(
                r#"{{"contender":"{}","connections":{connections},"requests_per_second":{:.0},"failed":{},"p50_ms":{:.3},"p99_ms":{:.3},"cpu_us":{cpu:.1}}}"#,
                contender.name(),
                tally.per_second(),
                tally.failed(),
                tally.millis(50.0),
                tally.millis(99.0),
            );
        }
        return;
    }
    let columns = distinct(cells.iter().map(|cell| cell.connections));
    if columns.is_empty() {
        return;
    }
    println!(
        "\nclosed loop: requests/s, of the bare proxy's, p50 and p99 in ms, processor time of the proxy per request\n"
    );
    print!("{:<14}", "");
    columns.iter().for_each(|connections| print!("{:<46}", format!("| {connections} connections")));
    print!("\n{:<14}", "contender");
    columns.iter().for_each(|_| print!("| {:>8} {:>7} {:>7} {:>7} {:>9}  ", "req/s", "of bare", "p50", "p99", "cpu"));
    println!();
    for contender in distinct(cells.iter().map(|cell| cell.contender)) {
        print!("{:<14}", contender.name());
        for &connections in &columns {
            let of = |who| cells.iter().find(|it| it.contender == who && it.connections == connections);
            let Some(cell) = of(contender) else { continue };
            let rate = cell.tally.per_second();
            let share =
                of(Contender::Bare).map_or("-".to_owned(), |bare| format!("{:.2}", rate / bare.tally.per_second()));
            let (p50, p99) = (cell.tally.millis(50.0), cell.tally.millis(99.0));
            print!("| {rate:>8.0} {share:>7} {p50:>7.2} {p99:>7.2} {:>6.1} µs  ", cell.cpu);
        }
        println!();
    }
    let tallies = cells.iter().map(|cell| (format!("{} {}", cell.contender.name(), cell.connections), &cell.tally));
    print_failures(tallies);
}

pub(crate) fn print_faults(cells: &[Cell], time: Duration, json: bool) {
    if json {
        for Cell { contender, fault, tally } in cells {
            println!(
                r#"{{"contender":"{}","fault":"{}","requests":{},"failed":{},"p50_ms":{:.3},"p99_ms":{:.3},"p999_ms":{:.3},"max_ms":{:.3}}}"#,
                contender.name(),
                fault.name(),
                tally.requests(),
                tally.failed(),
                tally.millis(50.0),
                tally.millis(99.0),
                tally.millis(99.9),
                tally.millis(100.0),
            );
        }
        return;
    }
    let columns = distinct(cells.iter().map(|cell| cell.fault));
    if columns.is_empty() {
        return;
    }
    let (from, to) = (time.mul_f64(0.2).as_secs_f64(), time.mul_f64(0.7).as_secs_f64());
    println!(
        "\nopen loop, {RATE} requests/s for {time:?}; one of three backends misbehaves from {from:.1} s to {to:.1} s\n\
         requests that failed, p99 / p99.9 in ms, and p99 in terms of its own without a fault\n"
    );
    print!("{:<14}", "contender");
    columns.iter().for_each(|fault| print!("| {:<26}", fault.title()));
    println!();
    for contender in distinct(cells.iter().map(|cell| cell.contender)) {
        print!("{:<14}", contender.name());
        for &fault in &columns {
            let of = |fault| cells.iter().find(|it| it.contender == contender && it.fault == fault);
            let Some(Cell { tally, .. }) = of(fault) else { continue };
            let p99 = tally.millis(99.0);
            let mut text = format!("{}, {}/{}", tally.failed(), short(p99), short(tally.millis(99.9)));
            if let Some(calm) = of(Fault::None).filter(|_| fault != Fault::None) {
                text += &format!(" ×{}", short(p99 / calm.tally.millis(99.0)));
            }
            print!("| {text:<26}");
        }
        println!();
    }
    let tallies = cells.iter().map(|cell| (format!("{} {}", cell.contender.name(), cell.fault.name()), &cell.tally));
    print_failures(tallies);
}

/// What failed, by kind.
fn print_failures<'a>(tallies: impl Iterator<Item = (String, &'a Tally)>) {
    let failures = tallies.filter(|(_, tally)| tally.failed() > 0).collect::<Vec<_>>();
    if !failures.is_empty() {
        println!("\nfailures");
    }
    for (name, tally) in failures {
        let share = 100.0 * tally.failed() as f64 / tally.requests() as f64;
        let kinds = tally.failures.iter().map(|(kind, count)| format!("{kind}: {count}")).collect::<Vec<_>>();
        println!("  {name}: {share:.2} % ({})", kinds.join(", "));
    }
}

fn short(number: f64) -> String {
    if number < 100.0 { format!("{number:.1}") } else { format!("{number:.0}") }
}

/// Each once, in order of appearance.
fn distinct<T: Copy + PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.fold(Vec::new(), |mut seen, it| {
        if !seen.contains(&it) {
            seen.push(it);
        }
        seen
    })
}
