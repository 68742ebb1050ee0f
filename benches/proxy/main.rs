//! Reverse proxies over real sockets, in one run: this crate's gateway, a bare hyper proxy, nginx and HAProxy.
//!
//! `cargo bench --bench proxy` builds the gateway and prints two tables: closed loop at 32 and 128 connections, and open
//! loop at a fixed rate while one of three backends misbehaves. Words choose contenders (`gateway`, `nginx`) and columns
//! (`32`, `128`, `no-fault`, `killed`, `503`, `slow`, `hangs`). `--json` prints one object per cell, `--seconds N` sets
//! the length of a closed loop (an open one takes twice that), `--rounds N` how often each cell is measured: the best is
//! shown, and every failure. `--quick` looks once and shortly. nginx and HAProxy take part where they are installed.
//!
//! `cargo bench --bench proxy -- soak` runs the gateway at full rate for a minute with a fault every second, and fails
//! if a request was lost, memory grew or a file descriptor leaked.
//!
//! Backends and contenders are processes of their own; the load is made in this one.

mod backends;
mod bare;
mod child;
mod contender;
mod load;
#[path = "../versus/machine.rs"]
mod machine;
mod peers;
mod soak;
mod table;

use std::{process::ExitCode, time::Duration};

use backends::Backends;
use contender::Contender;
use table::{Cell, Fault, Throughput};

const CONNECTIONS: [usize; 2] = [32, 128];
/// Of the open loop, per second: what the slowest contender serves with ease.
const RATE: u32 = 1_500;
/// Before anything is counted.
const WARM_UP: Duration = Duration::from_millis(500);

pub(crate) struct Options {
    words: Vec<String>,
    pub(crate) json: bool,
    pub(crate) seconds: Option<f64>,
    quick: bool,
    rounds: Option<usize>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if let Some(role) = arguments.peek().and_then(|first| first.strip_prefix("--as=")).map(str::to_owned) {
        let ports = arguments.skip(1).map(|port| port.parse().expect("a port")).collect::<Vec<u16>>();
        match role.as_str() {
            "backends" => backends::run(&ports),
            bare => bare::run(bare, &ports),
        }
        return ExitCode::SUCCESS;
    }
    let run = Options::parse(arguments).and_then(|options| match options.words.first() {
        Some(word) if word == "soak" => soak::run(&options, &options.words[1..]),
        _ => compare(&options).map(|()| ExitCode::SUCCESS),
    });
    run.unwrap_or_else(|complaint| {
        eprintln!("{complaint}");
        ExitCode::from(2)
    })
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { words: Vec::new(), json: false, seconds: None, quick: false, rounds: None };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // cargo's own.
                "--bench" => {}
                "--json" => options.json = true,
                "--quick" => options.quick = true,
                "--seconds" => {
                    let seconds = arguments.next().and_then(|number| number.parse().ok());
                    options.seconds = Some(seconds.filter(|&it| it > 0.0).ok_or("--seconds wants a number")?);
                }
                "--rounds" => {
                    let rounds = arguments.next().and_then(|number| number.parse().ok());
                    options.rounds = Some(rounds.filter(|&it| it > 0).ok_or("--rounds wants a number")?);
                }
                option if option.starts_with("--") => return Err(format!("unknown option `{option}`")),
                word => options.words.push(word.to_owned()),
            }
        }
        Ok(options)
    }

    /// Whether the words leave this name in: those that speak of its kind, if any does.
    fn keeps(&self, name: &str, kind: &[&str]) -> bool {
        let mut words = self.words.iter().filter(|word| kind.iter().any(|name| name.contains(*word))).peekable();
        words.peek().is_none() || words.any(|word| name.contains(word))
    }
}

/// Measures everybody in turn, round by round, so that what else the machine does hits all alike.
fn compare(options: &Options) -> Result<(), String> {
    let contenders = contender::THROUGHPUT.iter().chain(&contender::FAULTS).map(|it| it.name()).collect::<Vec<_>>();
    let loops = CONNECTIONS.map(|number| number.to_string());
    let columns = loops.iter().map(String::as_str).chain(Fault::ALL.map(Fault::name)).collect::<Vec<_>>();
    let known = |word: &String| contenders.iter().chain(&columns).any(|name| name.contains(word.as_str()));
    if let Some(word) = options.words.iter().find(|word| !known(word)) {
        return Err(format!("`{word}` is none of {} and none of {}", contenders.join(", "), columns.join(", ")));
    }
    let wanted = |all: &[Contender]| {
        let kept = all.iter().copied().filter(|it| options.keeps(it.name(), &contenders));
        kept.collect::<Vec<_>>()
    };
    let (mut throughput, mut faults) = (wanted(&contender::THROUGHPUT), wanted(&contender::FAULTS));
    contender::build(&throughput);
    for (number, list) in [&mut throughput, &mut faults].into_iter().enumerate() {
        list.retain(|contender| match contender.missing() {
            Some(reason) if number == 0 => {
                eprintln!("without {}: {reason}", contender.name());
                false
            }
            reason => reason.is_none(),
        });
    }
    let seconds = options.seconds.unwrap_or(if options.quick { 1.2 } else { 5.0 });
    let mut backends = Backends::start();

    let mut cells = Vec::<Throughput>::new();
    for round in 0..options.rounds.unwrap_or(if options.quick { 1 } else { 2 }) {
        for connections in CONNECTIONS.into_iter().filter(|it| options.keeps(&it.to_string(), &columns)) {
            for &contender in &throughput {
                eprintln!("round {}: {}, {connections} connections", round + 1, contender.name());
                let cell = closed(contender, &mut backends, connections, Duration::from_secs_f64(seconds));
                table::keep_best(&mut cells, cell);
            }
        }
    }
    if !options.json {
        println!("{}", machine::describe());
    }
    table::print_throughput(&cells, options.json);

    let time = Duration::from_secs_f64(seconds * 2.0);
    let mut cells = Vec::<Cell>::new();
    for round in 0..options.rounds.unwrap_or(1) {
        for fault in Fault::ALL.into_iter().filter(|fault| options.keeps(fault.name(), &columns)) {
            for &contender in &faults {
                eprintln!("round {}: {}, {}", round + 1, fault.name(), contender.name());
                table::keep_calmest(&mut cells, open(contender, &mut backends, fault, time));
            }
        }
    }
    table::print_faults(&cells, time, options.json);
    Ok(())
}

fn closed(contender: Contender, backends: &mut Backends, connections: usize, time: Duration) -> Throughput {
    let proxy = contender.start(&backends.ports);
    load::run(load::closed(proxy.port, connections, WARM_UP, load::GETS));
    let before = proxy.child.cpu();
    let tally = load::run(load::closed(proxy.port, connections, time, load::GETS));
    let cpu = (proxy.child.cpu() - before).as_secs_f64() * 1e6 / tally.requests() as f64;
    backends.assert_alive();
    Throughput { contender, connections, tally, cpu }
}

/// The first backend misbehaves from a fifth of the time to seven tenths of it.
fn open(contender: Contender, backends: &mut Backends, fault: Fault, time: Duration) -> Cell {
    let proxy = contender.start(&backends.ports);
    load::run(load::open(proxy.port, RATE, WARM_UP));
    let tally = load::run(async {
        let misbehave = async {
            if let Some((begin, end)) = fault.commands() {
                tokio::time::sleep(time.mul_f64(0.2)).await;
                backends.tell(begin);
                tokio::time::sleep(time.mul_f64(0.5)).await;
                backends.tell(end);
            }
        };
        tokio::join!(load::open(proxy.port, RATE, time), misbehave).0
    });
    backends.assert_alive();
    Cell { contender, fault, tally }
}
