//! Contenders, how they are measured, and the table.

use std::{hint::black_box, rc::Rc, time::Instant};

use futures::future::LocalBoxFuture;
use tokio::{runtime::Runtime, task::LocalSet};
use tower::{Service, ServiceExt};

/// One line of the table.
pub(crate) struct Row {
    /// What competes with what.
    pub(crate) group: &'static str,
    /// `ours`, `peer` or `floor`.
    pub(crate) who: &'static str,
    pub(crate) name: String,
    pub(crate) backends: usize,
    pub(crate) callers: usize,
    run: Box<dyn Fn(u64) -> LocalBoxFuture<'static, ()>>,
    ns: f64,
    allocs: f64,
}

impl Row {
    /// A door that every caller keeps.
    pub(crate) fn kept<D>(
        group: &'static str,
        who: &'static str,
        name: &str,
        backends: usize,
        callers: usize,
        door: D,
    ) -> Self
    where
        D: Service<()> + Clone + 'static,
    {
        let run = move |calls: u64| -> LocalBoxFuture<'static, ()> {
            let door = door.clone();
            Box::pin(async move {
                let tasks = LocalSet::new();
                for _ in 0..callers {
                    let mut door = door.clone();
                    tasks.spawn_local(async move { call(&mut door, calls / callers as u64).await });
                }
                tasks.await;
            })
        };
        Self::new(group, who, name, backends, callers, run)
    }

    /// A door that is cloned for each call, as axum does.
    pub(crate) fn cloned<D>(group: &'static str, who: &'static str, name: &str, backends: usize, door: D) -> Self
    where
        D: Service<()> + Clone + 'static,
    {
        let run = move |calls: u64| -> LocalBoxFuture<'static, ()> {
            let door = door.clone();
            Box::pin(async move {
                for _ in 0..calls {
                    call(&mut door.clone(), 1).await;
                }
            })
        };
        Self::new(group, who, &format!("{name}, cloned per call"), backends, 1, run)
    }

    /// A door that cannot be cloned.
    pub(crate) fn sole<D>(group: &'static str, who: &'static str, name: &str, backends: usize, door: D) -> Self
    where
        D: Service<()> + 'static,
    {
        let door = Rc::new(tokio::sync::Mutex::new(door));
        let run = move |calls: u64| -> LocalBoxFuture<'static, ()> {
            let door = Rc::clone(&door);
            Box::pin(async move { call(&mut *door.lock().await, calls).await })
        };
        Self::new(group, who, name, backends, 1, run)
    }

    fn new(
        group: &'static str,
        who: &'static str,
        name: &str,
        backends: usize,
        callers: usize,
        run: impl Fn(u64) -> LocalBoxFuture<'static, ()> + 'static,
    ) -> Self {
        let (name, run) = (name.to_owned(), Box::new(run));
        Self { group, who, name, backends, callers, run, ns: f64::MAX, allocs: f64::MAX }
    }
}

pub(crate) async fn call<D: Service<()>>(door: &mut D, calls: u64) {
    for _ in 0..calls {
        let Ok(door) = door.ready().await else { unreachable!("every backend is ready") };
        let response = door.call(()).await;
        assert!(black_box(response.is_ok()), "every backend answers");
    }
}

/// Measures every row in turn, several rounds over.
pub(crate) fn measure(runtime: &Runtime, rows: &mut [Row]) {
    const ROUNDS: u32 = 9;
    const CALLS: u64 = 64_000;
    for _ in 0..ROUNDS {
        for row in rows.iter_mut() {
            let mut ns = 0.0;
            let counted = allocation_counter::measure(|| {
                let start = Instant::now();
                runtime.block_on((row.run)(CALLS));
                ns = start.elapsed().as_nanos() as f64 / CALLS as f64;
            });
            row.ns = row.ns.min(ns);
            row.allocs = row.allocs.min(counted.count_total as f64 / CALLS as f64);
        }
    }
}

/// One object per row, or a table.
pub(crate) fn print(rows: &[Row], json: bool) {
    if !json {
        println!(
            "{:<9} {:<6} {:<44} {:>8} {:>7} {:>9} {:>7}",
            "group", "who", "name", "backends", "callers", "ns", "allocs"
        );
    }
    for Row { group, who, name, backends, callers, ns, allocs, .. } in rows {
        // What a run allocates once, for its tasks, is not a call's.
        let allocs = (allocs * 100.0).round() / 100.0;
        if json {
            println!(
                r#"{{"group":"{group}","who":"{who}","name":"{name}","backends":{backends},"callers":{callers},"ns":{ns:.1},"allocs":{allocs}}}"#
            );
        } else {
            println!("{group:<9} {who:<6} {name:<44} {backends:>8} {callers:>7} {ns:>9.1} {allocs:>7}");
        }
    }
}
