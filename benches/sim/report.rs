//! One table per scene.

use crate::{
    figures::{Figures, median, spread},
    scene::Scene,
    strategies::BASELINE,
};

/// A strategy and the figures of its runs, by seed.
pub(crate) type Row = (String, Vec<Figures>);

const HEADS: [&str; 11] = [
    "strategy",
    "p50 ms",
    "p99 ms [min-max]",
    "p99.9 ms [min-max]",
    "p99 / tower_ewma",
    "failed %",
    "of share %",
    "last failure s",
    "faulty %",
    "others %",
    "extra %",
];

/// Prints the table of a scene: medians over the seeds, and from the least to the greatest seed.
pub(crate) fn print(scene: &Scene, rows: &[Row]) {
    let seeds = rows.first().map_or(0, |(_, runs)| runs.len());
    println!("\n## {}: {}\n", scene.name, scene.title);
    println!("{:.0} requests/s for {} s, {seeds} seeds\n", scene.rate, scene.seconds);
    let baseline = rows.iter().find(|(strategy, _)| strategy == BASELINE);
    let lines: Vec<_> = rows.iter().map(|row| cells(scene, row, baseline)).collect();
    let heads = HEADS.map(str::to_owned);
    let empty = |column: usize| lines.iter().all(|cells| cells[column].is_empty());
    let columns: Vec<_> = (0..HEADS.len()).filter(|column| !empty(*column)).collect();
    let width = |column: usize| {
        let lengths = lines.iter().chain([&heads]).map(|cells| cells[column].chars().count());
        lengths.max().unwrap_or(0)
    };
    let print = |cells: &[String]| {
        let padded = columns.iter().map(|column| match column {
            0 => format!("{:<1$}", cells[0], width(0)),
            _ => format!("{:>1$}", cells[*column], width(*column)),
        });
        println!("| {} |", padded.collect::<Vec<_>>().join(" | "));
    };
    print(&heads);
    let rules = columns.iter().map(|column| match column {
        0 => "-".repeat(width(0) + 2),
        _ => "-".repeat(width(*column) + 1) + ":",
    });
    println!("|{}|", rules.collect::<Vec<_>>().join("|"));
    lines.iter().for_each(|cells| print(cells));
}

fn cells(scene: &Scene, (strategy, runs): &Row, baseline: Option<&Row>) -> [String; HEADS.len()] {
    let of = |figure: fn(&Figures) -> f64| runs.iter().map(figure);
    let with_spread = |figure| {
        let [least, middle, greatest] = spread(of(figure)).map(milliseconds);
        if runs.len() > 1 { format!("{middle} [{least}-{greatest}]") } else { middle }
    };
    let ratio = baseline.map(|(_, others)| {
        let [least, middle, greatest] = spread(runs.iter().zip(others).map(|(run, other)| run.p99 / other.p99));
        if runs.len() > 1 { format!("{middle:.2} [{least:.2}-{greatest:.2}]") } else { format!("{middle:.2}") }
    });
    let last_failure = median(runs.iter().filter_map(|run| run.last_failure));
    let (faulty, others): (Vec<_>, Vec<_>) = (0..scene.servers.len())
        .map(|server| (server, median(share(runs, server))))
        .partition(|(server, _)| scene.is_faulty(*server));
    let range = |shares: &[(usize, f64)]| match spread(shares.iter().map(|(_, share)| *share)) {
        [least, _, greatest] if least.is_nan() || greatest.is_nan() => String::new(),
        [least, _, greatest] if percent(least) == percent(greatest) => percent(least),
        [least, _, greatest] => format!("{}-{}", percent(least), percent(greatest)),
    };
    let fair = faulty.len() as f64 / scene.servers.len() as f64;
    let extra = median(of(|run| run.extra));
    [
        strategy.clone(),
        milliseconds(median(of(|run| run.p50))),
        with_spread(|run| run.p99),
        with_spread(|run| run.p999),
        ratio.unwrap_or_default(),
        percent(median(of(|run| run.failed))),
        // What a strategy that does not notice the fault lets fail is 100.
        if faulty.is_empty() { String::new() } else { percent(median(of(|run| run.failed)) / fair) },
        if last_failure.is_nan() { String::new() } else { format!("{last_failure:.2}") },
        range(&faulty),
        range(&others),
        if extra > 0.0 { percent(extra) } else { String::new() },
    ]
}

/// The share of a server in each run.
fn share(runs: &[Figures], server: usize) -> impl Iterator<Item = f64> {
    runs.iter().map(move |run| run.shares[server])
}

fn milliseconds(value: f64) -> String {
    if value < 99.95 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 {
        "0".into()
    } else if percent < 0.995 {
        format!("{percent:.2}")
    } else {
        format!("{percent:.1}")
    }
}
