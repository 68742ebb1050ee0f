//! A process that ends with its owner, and what `/proc` says about it.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::PathBuf,
    process::{ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

pub(crate) struct Child {
    process: std::process::Child,
    stdin: ChildStdin,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Child {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdin = process.stdin.take().expect("stdin is piped");
        let stdout = process.stdout.take().map(BufReader::new);
        Self { process, stdin, stdout }
    }

    /// This very program in another role.
    pub(crate) fn again(role: &str, words: impl Iterator<Item = String>) -> Self {
        let program = std::env::current_exe().expect("a running program");
        Self::start(Command::new(program).arg(format!("--as={role}")).args(words))
    }

    pub(crate) fn tell(&mut self, line: &str) {
        if let Err(error) = writeln!(self.stdin, "{line}") {
            panic!("cannot say `{line}`: {error}; ended: {:?}", self.process.wait());
        }
    }

    /// Whatever was measured after its end is worth nothing.
    pub(crate) fn assert_alive(&mut self) {
        if let Some(status) = self.process.try_wait().expect("a child can be waited for") {
            panic!("process {} has ended: {status}", self.process.id());
        }
    }

    /// The next line of its output; empty when it has ended.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.stdout.as_mut().expect("its output is not ignored yet");
        stdout.read_line(&mut line).expect("a child writes text");
        line.truncate(line.trim_end().len());
        line
    }

    /// Lets further output go nowhere, so that a talkative child is not held up by a full pipe.
    pub(crate) fn ignore_output(&mut self) {
        if let Some(mut stdout) = self.stdout.take() {
            std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        }
    }

    /// Processor time spent so far by it and by its own children: nginx works in those.
    pub(crate) fn cpu(&self) -> Duration {
        let stats = fs::read_dir("/proc").expect("a Linux machine").flatten();
        let stats = stats.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
        let ticks = stats.filter_map(|stat| {
            // The name, in parentheses, may hold anything; state, parent and so on follow it.
            let (pid, rest) = (stat.split(' ').next()?, stat.rsplit_once(") ")?.1);
            let fields = rest.split(' ').collect::<Vec<_>>();
            let mine = self.process.id().to_string();
            (pid == mine || fields[1] == mine)
                .then(|| fields[11].parse::<u64>().ok()?.checked_add(fields[12].parse().ok()?))?
        });
        // USER_HZ is 100 on every architecture that this runs on.
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// Memory in use, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Open file descriptors.
    pub(crate) fn files(&self) -> usize {
        fs::read_dir(self.proc("fd")).map_or(0, Iterator::count)
    }

    fn proc(&self, file: &str) -> PathBuf {
        format!("/proc/{}/{file}", self.process.id()).into()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Asked first: nginx's master must have the time to end its workers.
        let _ = Command::new("kill").arg(self.process.id().to_string()).stderr(Stdio::null()).status();
        let patience = Instant::now() + Duration::from_secs(2);
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ports outside the range from which connections get theirs: a killed backend finds its own free again.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    let free = (first..32_000).chain(10_000..first).filter(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    let ports = free.take(count).collect::<Vec<_>>();
    assert_eq!(ports.len(), count, "not enough free ports");
    ports
}
