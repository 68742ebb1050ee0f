//! What a request costs: this crate, its peers and the bare service, in one run.
//!
//! `cargo bench --bench versus` prints a table, `cargo bench --bench versus -- --json` one object per row. Any other
//! word leaves out the rows without it in their name.
//!
//! A request is ready + call + await of a unit request over a service that is always ready, on a current-thread
//! runtime. With one caller the door is kept; of 64 callers each is a task with its own clone. Rows are measured in
//! turn, several rounds over, and the fastest round of each counts: noise only ever adds.

mod balance;
mod breaker;
mod machine;
mod row;
mod shared;
mod streams;
mod threads;
mod transitions;

fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (shared_rows, _sharing) = shared::rows();
    let mut rows = {
        let _inside = runtime.enter();
        balance::rows()
            .into_iter()
            .chain(breaker::rows())
            .chain(breaker::fleets())
            .chain(shared_rows)
            .chain(streams::rows())
            .collect::<Vec<_>>()
    };
    let words = || std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    rows.retain(|row| words().all(|word| row.name.contains(&word)));
    row::measure(&runtime, &mut rows);
    if !json {
        println!("{}\n", machine::describe());
    }
    row::print(&rows, json);
    if !json && words().next().is_none() {
        threads::print();
        transitions::print();
    }
}
