//! A reverse proxy in front of many backends, made of this crate.
//!
//! ```text
//! cargo run --release --example gateway                          three small backends, faults, traffic, a live table
//! cargo run --release --example gateway -- --demo 10s            the same for ten seconds, then a summary
//! cargo run --release --example gateway -- --config fleet.toml   serves for real
//! ```
//!
//! See `fleet.toml` and `llm.toml` beside this file for everything that can be set.

mod args;
mod demo;
mod greeting;
mod headers;
mod patience;
mod problem;
mod proxy;
mod server;
mod settings;
mod tally;
mod upstream;

use std::{
    error::Error,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::{Args, Task},
    server::Gateway,
    settings::Settings,
};

fn main() -> ExitCode {
    let done = match Args::parse(std::env::args().skip(1)) {
        Ok(Args { task: Task::Help, .. }) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Args { task: Task::Serve(path), .. }) => serve(&path),
        Ok(Args { task: Task::Demo(time), json }) => demo::run(time, json),
        Err(error) => Err(error.into()),
    };
    done.unwrap_or_else(|error| {
        eprintln!("gateway: {error}");
        ExitCode::from(2)
    })
}

fn serve(path: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let named = |error| format!("{}: {error}", path.display());
    let gateway = Gateway::start(&Settings::load(path)?).map_err(named)?;
    // Nobody may be reading.
    let _ = writeln!(io::stdout(), "listening on http://{}", gateway.address);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        until_told().await?;
        // Told again, it ends at once.
        tokio::select! {
            done = tokio::task::spawn_blocking(|| gateway.stop()) => Ok(done.map(|()| ExitCode::SUCCESS)?),
            told = until_told() => {
                told?;
                std::process::exit(1)
            }
        }
    })
}

/// Ctrl-C, or the polite signal of whoever runs services.
async fn until_told() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        told = tokio::signal::ctrl_c() => told,
        _ = terminate.recv() => Ok(()),
    }
}
