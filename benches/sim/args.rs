//! The command line.

use std::{path::PathBuf, str::FromStr};

use crate::{
    scene::{Scene, Work},
    scenes, strategies,
};

/// What is to be run, and what of the scenes is changed.
pub(crate) struct Args {
    pub(crate) scenes: Vec<Scene>,
    /// In place of those of the scenes, if any.
    pub(crate) strategies: Vec<String>,
    pub(crate) seeds: Option<u64>,
    pub(crate) first_seed: u64,
    pub(crate) threads: usize,
    pub(crate) out: PathBuf,
}

pub(crate) const USAGE: &str = "\
cargo bench --bench sim -- [SCENE]... [OPTION]...
A scene is named in full or by the beginning of its name; without one, all run.
  -s, --strategy NAME[:SETTING=NUMBER,...]  in place of those of the scene; may be repeated
  -n, --seeds N          runs per scene and strategy
      --first-seed N     default 1
      --load SHARE       of the capacity
      --clients N        with a door and a fleet each
      --seconds S        the length of a run
      --workers N        per server
      --work exponential|lognormal:SIGMA
      --antagonists SHARE  of the time in which a server is slowed
      --circuits on|off  around the backends of our fleets
      --threads N        default 2
      --out DIR          for the pictures, default target/sim
      --list             scenes and strategies";

impl Args {
    /// Parses the arguments. `Err` has a message that ends the program.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self {
            scenes: Vec::new(),
            strategies: Vec::new(),
            seeds: None,
            first_seed: 1,
            threads: 2,
            out: PathBuf::from("target/sim"),
        };
        let all = scenes::all();
        let mut changes: Vec<Box<dyn Fn(Scene) -> Scene>> = Vec::new();
        let mut load = None;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match &*word {
                // From cargo.
                "--bench" => {}
                "--list" => return Err(list(&all)),
                "--help" | "-h" => return Err(USAGE.into()),
                "-s" | "--strategy" => {
                    let strategy = value()?;
                    strategies::build(&strategy)?;
                    args.strategies.push(strategy);
                }
                "-n" | "--seeds" => args.seeds = Some(number(&word, &value()?)?),
                "--first-seed" => args.first_seed = number(&word, &value()?)?,
                "--threads" => args.threads = number::<usize>(&word, &value()?)?.max(1),
                "--out" => args.out = value()?.into(),
                "--load" => load = Some(number::<f64>(&word, &value()?)?),
                "--clients" => {
                    let clients = number::<usize>(&word, &value()?)?.max(1);
                    changes.push(Box::new(move |scene| Scene { clients, ..scene }));
                }
                "--seconds" => {
                    let seconds: f64 = number(&word, &value()?)?;
                    changes.push(Box::new(move |scene| {
                        let measured = scene.measured.start.min(seconds / 2.0)..seconds;
                        Scene { seconds, measured, ..scene }
                    }));
                }
                "--workers" => {
                    let workers = number(&word, &value()?)?;
                    changes.push(Box::new(move |scene| scene.workers(workers)));
                }
                "--work" => {
                    let work = work(&value()?)?;
                    changes.push(Box::new(move |scene| Scene { work: work(scene.work.mean()), ..scene }));
                }
                "--antagonists" => {
                    let share: f64 = number(&word, &value()?)?;
                    changes.push(Box::new(move |mut scene| {
                        scene.antagonists.iter_mut().for_each(|antagonists| antagonists.share = share);
                        scene
                    }));
                }
                "--circuits" => {
                    let circuits = value()? == "on";
                    changes.push(Box::new(move |scene| Scene { circuits, ..scene }));
                }
                name => {
                    let exact = all.iter().any(|scene| scene.name == name);
                    let is_meant = |scene: &&Scene| scene.name == name || !exact && scene.name.starts_with(name);
                    let before = args.scenes.len();
                    args.scenes.extend(all.iter().filter(is_meant).cloned());
                    if args.scenes.len() == before {
                        return Err(format!("no scene or option `{name}`\n\n{USAGE}"));
                    }
                }
            }
        }
        if args.scenes.is_empty() {
            args.scenes = all;
        }
        for scene in &mut args.scenes {
            // The load stays as it is while the capacity changes.
            let before = scene.rate / scene.capacity();
            let changed = changes.iter().fold(scene.clone(), |scene, change| change(scene));
            *scene = changed.load(load.unwrap_or(before));
        }
        Ok(args)
    }
}

fn number<T: FromStr>(option: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{option}: `{value}` is not a number of its kind"))
}

fn work(text: &str) -> Result<impl Fn(f64) -> Work + use<>, String> {
    let sigma = match text.split_once(':') {
        None if text == "exponential" => None,
        Some(("lognormal", sigma)) => Some(number("--work", sigma)?),
        _ => return Err(format!("--work: `{text}` is neither exponential nor lognormal:SIGMA")),
    };
    Ok(move |mean| sigma.map_or(Work::Exponential(mean), |sigma| Work::Lognormal(mean, sigma)))
}

fn list(scenes: &[Scene]) -> String {
    let scenes: Vec<_> = scenes.iter().map(|scene| format!("  {:<18}{}", scene.name, scene.title)).collect();
    let strategies: Vec<_> = strategies::names().collect();
    format!("scenes:\n{}\nstrategies: {}", scenes.join("\n"), strategies.join(", "))
}
