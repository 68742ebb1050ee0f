//! The machine that the figures of a bench belong to.

use std::{fs, process::Command, thread};

/// One line: processor, cores, kernel and compiler, as far as they can be read.
pub(crate) fn describe() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let kernel = read("/proc/sys/kernel/osrelease");
    let rustc = Command::new("rustc").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let cores = thread::available_parallelism().map_or(0, |cores| cores.get());
    format!(
        "{}, {cores} cores, {} {}, {}",
        model.unwrap_or(std::env::consts::ARCH).trim(),
        std::env::consts::OS,
        kernel.trim(),
        String::from_utf8_lossy(&rustc).trim()
    )
}
