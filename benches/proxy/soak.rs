//! A minute at full rate through the gateway with a fault every second.
//!
//! Half of the requests are POSTs whose bodies come back. One backend at a time misbehaves for 600 ms, then all are good
//! for 400 ms. All backends die before files are counted, so that idle connections are not taken for leaks.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use crate::{
    Options,
    backends::Backends,
    contender::{self, Contender, Proxy},
    load::{self, Tally},
};

const CONNECTIONS: usize = 64;
const BAD: Duration = Duration::from_millis(600);
const ROUND: Duration = Duration::from_secs(1);

/// What begins a fault and what ends it, `N` being the backend.
const FAULTS: [(&str, &str, &str); 5] = [
    ("killed", "kill N", "restart N"),
    ("503", "status N 503", "good N"),
    ("slow", "slow N 200ms", "good N"),
    ("hangs", "hang N", "good N"),
    // The head and half of the answer, then a reset.
    ("cut", "cut N", "good N"),
];

/// Memory may grow by a tenth and this many KiB from the first third to the last: allocators settle late.
const GROWTH: (f64, f64) = (1.1, 4096.0);
/// Files that may be open in addition.
const FILES: usize = 2;

/// Words leave out the faults that none of them names; a contender's name takes the gateway's place, which shows what
/// the soak sees.
pub(crate) fn run(options: &Options, words: &[String]) -> Result<ExitCode, String> {
    let named = |word: &String| contender::THROUGHPUT.into_iter().find(|it| it.name() == word);
    let contender = words.iter().find_map(named).unwrap_or(Contender::Gateway);
    let words = words.iter().filter(|word| named(word).is_none()).collect::<Vec<_>>();
    let faults = FAULTS.into_iter().filter(|(name, ..)| words.is_empty() || words.iter().any(|word| word == name));
    let faults = faults.collect::<Vec<_>>();
    if faults.is_empty() {
        return Err(format!("the faults are {}", FAULTS.map(|(name, ..)| name).join(", ")));
    }
    contender::build(&[contender]);
    if let Some(reason) = contender.missing() {
        return Err(format!("no soak without {}: {reason}", contender.name()));
    }
    let time = Duration::from_secs_f64(options.seconds.unwrap_or(60.0));
    let mut backends = Backends::start();
    let proxy = contender.start(&backends.ports);

    eprintln!("warming up");
    load::run(load::closed(proxy.port, CONNECTIONS, Duration::from_secs(3), load::MIXED));
    let files_before = files_at_rest(&proxy, &mut backends);
    proxy.wait_until_good(contender.name());
    eprintln!("soaking for {time:?}");
    let (tally, memory) = soak(&proxy, &mut backends, time, &faults);
    backends.assert_alive();
    proxy.wait_until_good(contender.name());
    let files_after = files_at_rest(&proxy, &mut backends);

    let third = memory.len().div_ceil(3);
    let mean = |part: &[u64]| part.iter().sum::<u64>() as f64 / part.len() as f64;
    let (first, last) = (mean(&memory[..third]), mean(&memory[memory.len() - third..]));
    let report = Report { tally, first, last, files_before, files_after };
    report.print(contender.name(), options.json);
    Ok(if report.good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn misbehave(backends: &mut Backends, end: Instant, faults: &[(&str, &str, &str)]) {
    for round in 0.. {
        let backend = (round % 3 + 1).to_string();
        // The fault moves on once all backends had it.
        let (_, begin, over) = faults[round / 3 % faults.len()];
        let start = Instant::now();
        if start + ROUND > end {
            return;
        }
        backends.tell(&begin.replace('N', &backend));
        tokio::time::sleep(BAD).await;
        backends.tell(&over.replace('N', &backend));
        tokio::time::sleep(ROUND.saturating_sub(start.elapsed())).await;
    }
}

fn soak(proxy: &Proxy, backends: &mut Backends, time: Duration, faults: &[(&str, &str, &str)]) -> (Tally, Vec<u64>) {
    let end = Instant::now() + time;
    load::run(async {
        let memory = async {
            let mut samples = Vec::new();
            while Instant::now() < end {
                samples.push(proxy.child.resident());
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            samples
        };
        let requests = load::closed(proxy.port, CONNECTIONS, time, load::MIXED);
        let (tally, memory, ()) = tokio::join!(requests, memory, misbehave(backends, end, faults));
        (tally, memory)
    })
}

/// Open files of the proxy when nobody asks and no backend is there to be connected to.
fn files_at_rest(proxy: &Proxy, backends: &mut Backends) -> usize {
    // A load that ends closes its connections; the hung and the slow have a second to give up.
    std::thread::sleep(Duration::from_millis(1500));
    (1..=3).for_each(|backend| backends.tell(&format!("kill {backend}")));
    std::thread::sleep(Duration::from_millis(500));
    let files = proxy.child.files();
    (1..=3).for_each(|backend| backends.tell(&format!("restart {backend}")));
    files
}

struct Report {
    tally: Tally,
    /// Mean memory of the first and of the last third, in KiB.
    first: f64,
    last: f64,
    files_before: usize,
    files_after: usize,
}

impl Report {
    fn good(&self) -> bool {
        let flat = self.last <= self.first * GROWTH.0 + GROWTH.1;
        self.tally.failed() == 0 && flat && self.files_after <= self.files_before + FILES
    }

    fn print(&self, name: &str, json: bool) {
        let Self { tally, first, last, files_before, files_after } = self;
        let (requests, lost, good) = (tally.requests(), tally.failed(), self.good());
        let (p50, p99, p999) = (tally.millis(50.0), tally.millis(99.0), tally.millis(99.9));
        if json {
            println!(
                r#"{{"contender":"{name}","requests":{requests},"lost":{lost},"p50_ms":{p50:.3},"p99_ms":{p99:.3},"p999_ms":{p999:.3},"rss_first_kib":{first:.0},"rss_last_kib":{last:.0},"files_before":{files_before},"files_after":{files_after},"good":{good}}}"#
            );
            return;
        }
        println!("\n{name}: {requests} requests in {:.0} s, {lost} lost", tally.elapsed.as_secs_f64());
        for (kind, count) in &tally.failures {
            println!("  {kind}: {count}");
        }
        println!("p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms");
        println!("memory {:.1} MiB in the first third, {:.1} MiB in the last", first / 1024.0, last / 1024.0);
        println!("open files {files_before} before, {files_after} after");
        println!(
            "{}",
            if good { "good" } else { "not good: the soak wants nothing lost, flat memory and no leaked file" }
        );
    }
}
