//! One line on stderr for each request with a failed attempt, at most a hundred per second.

use std::{
    fmt::Display,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

/// Lines that wait to be written; beyond these, lines are counted and dropped.
const QUEUE: usize = 100;

/// Between two lines. An outage fails thousands of requests per second, and a hundred lines tell what is wrong.
const PAUSE: Duration = Duration::from_millis(10);

/// How long the last lines may take when the gateway stops.
const FLUSH: Duration = Duration::from_secs(2);

/// The way to stderr. A thread writes, so that no request waits for a terminal or a pipe that takes nothing.
pub(crate) struct Log {
    lines: SyncSender<String>,
    dropped: AtomicU64,
}

/// The log, for one worker: no other thread changes the count of references to it.
#[derive(Clone)]
pub(crate) struct WorkerLog(pub(crate) Arc<Log>);

impl WorkerLog {
    pub(crate) fn line(&self, text: impl Display) {
        self.0.line(text);
    }
}

/// Tells when the last line was written.
pub(crate) struct Written(Receiver<()>);

impl Log {
    pub(crate) fn start() -> io::Result<(Self, Written)> {
        let (lines, queue) = sync_channel(QUEUE);
        let (writing, written) = channel::<()>();
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            let _writing = writing;
            for line in queue {
                // The other end of the pipe may be closed.
                let _ = writeln!(io::stderr(), "{line}");
                thread::sleep(PAUSE);
            }
        })?;
        Ok((Self { lines, dropped: AtomicU64::new(0) }, Written(written)))
    }

    /// Writes the text as one line. Drops it when too many wait; the next line says how many were dropped.
    pub(crate) fn line(&self, text: impl Display) {
        let mut line = format!("gateway: {text}").replace(char::is_control, " ");
        let dropped = self.dropped.swap(0, Relaxed);
        if dropped > 0 {
            line += &format!(" ({dropped} lines before this one were dropped)");
        }
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(dropped + 1, Relaxed);
        }
    }
}

impl Written {
    /// Returns when every log is dropped and all its lines are written, or after two seconds.
    pub(crate) fn wait(self) {
        // The thread sends nothing; its end closes the channel.
        let _ = self.0.recv_timeout(FLUSH);
    }
}
