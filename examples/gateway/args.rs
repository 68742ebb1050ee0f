//! The command line.

use std::{path::PathBuf, time::Duration};

pub(crate) const HELP: &str = "\
A reverse proxy in front of many backends, made of tower-fleet.

  gateway                        three small backends with faults, traffic, a table every second; until Ctrl-C
  gateway --demo 10s [--json]    the same for that long, then a summary; fails if a request was lost
  gateway --config FILE          serves what the file says; SIGTERM or Ctrl-C lets what runs finish
";

#[derive(Debug, PartialEq)]
pub(crate) struct Args {
    pub(crate) task: Task,
    /// Ends the demo with a line of JSON.
    pub(crate) json: bool,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Task {
    /// So long, or until Ctrl-C.
    Demo(Option<Duration>),
    Serve(PathBuf),
    Help,
}

impl Args {
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut args = Self { task: Task::Demo(None), json: false };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word}: needs a value"));
            match word.as_str() {
                "--demo" => {
                    let time = value()?;
                    let time = humantime::parse_duration(&time)
                        .map_err(|error| format!("--demo: {time}: {error}; write 10s or 1min"))?;
                    args.task = Task::Demo(Some(time));
                }
                "--config" => args.task = Task::Serve(value()?.into()),
                "--json" => args.json = true,
                "--help" | "-h" => args.task = Task::Help,
                other => return Err(format!("{other}: is not known; see --help")),
            }
        }
        Ok(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn words_become_a_task() {
        let demo = |time| Task::Demo(time);
        assert_eq!(parse(""), Ok(Args { task: demo(None), json: false }));
        assert_eq!(parse("--demo 10s --json"), Ok(Args { task: demo(Some(Duration::from_secs(10))), json: true }));
        assert_eq!(parse("--config a.toml"), Ok(Args { task: Task::Serve("a.toml".into()), json: false }));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, named) in
            [("--demo", "--demo: needs a value"), ("--demo ten", "--demo: ten"), ("--fast", "--fast: is not known")]
        {
            let error = parse(line).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
