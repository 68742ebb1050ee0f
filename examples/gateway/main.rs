//! A reverse proxy in front of many backends, made of this crate.
//!
//! ```text
//! cargo run --release --example gateway                          three small backends, faults, traffic, a live table
//! cargo run --release --example gateway -- --demo 10s            the same for ten seconds, then a summary
//! cargo run --release --example gateway -- --config fleet.toml   serves for real
//! ```
//!
//! See `fleet.toml`, `llm.toml` and `llm-safe.toml` beside this file for everything that can be set.

mod args;
mod demo;
mod error_format;
mod events;
mod greeting;
mod headers;
mod keeper;
mod log;
mod patience;
mod problem;
mod proxy;
mod reported;
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

use tokio::signal::unix::{Signal, SignalKind, signal};
use tower_fleet::config::ConfigFile;

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
    let mut file = ConfigFile::new(path, Settings::read);
    let gateway = Gateway::start(file.read()?, Some(file)).map_err(named)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        // Before the address is printed: a process that waits for it may send a signal at once.
        let mut signals = Signals::listen()?;
        let mut hangups = signal(SignalKind::hangup())?;
        // The other end of the pipe may be closed.
        let _ = writeln!(io::stdout(), "listening on http://{}", gateway.address);
        loop {
            tokio::select! {
                () = signals.next() => break,
                // Service managers send it to have a file read again, and terminals when they are closed.
                _ = hangups.recv() => gateway.keeper.reload(),
            }
        }
        // At a second signal it ends at once.
        tokio::select! {
            done = tokio::task::spawn_blocking(|| gateway.stop()) => Ok(done.map(|()| ExitCode::SUCCESS)?),
            () = signals.next() => std::process::exit(1),
        }
    })
}

/// Ctrl-C, and the signal by which service managers stop a process.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
