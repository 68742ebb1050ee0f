//! Every example runs, ends well and in time, and says what it is there to show.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// The files in `examples`, and what each of them says, in this order.
const EXAMPLES: &[(&str, &[&str])] = &[
    // C12, C19, C25: the doors as they are, in three servers and three clients.
    ("axum", &["red is healthy, open\ngreen is healthy, closed\n", "without green: blue\n", "without blue: 503 "]),
    ("hyper", &["200 OK by \"c\": /c/echo got message 2\n", "got message 6\n", "b is open\n"]),
    // C30
    (
        "tonic",
        &[
            "`us`: grpc status 14 (",
            "`asia` served (",
            "eu is closed\nus is open\nasia is closed\n",
            "without backends: ",
            "The service is currently unavailable",
        ],
    ),
    // C24
    (
        "reqwest",
        &[
            "`first`: status 429, retry after 20s (",
            "`second` served (",
            "/openai/chat, authorization: None, api-key: Some(\"another\"): why is the sky blue?\n",
        ],
    ),
    // C10, C50
    (
        "stack",
        &[
            "one at a time each: a, b\none at a time in all: a, service overloaded\n",
            "50 ms each: b\n50 ms in all: request timed out\n",
            "once more each: a, a again\nonce more in all: a, b, a again\n",
        ],
    ),
    // C35
    (
        "plain",
        &["sky is blue, although near is down\n", "near is open\n", "circuit of `near` is open", "half-open: new\n"],
    ),
];

/// The bound on each of them; they take a fraction of a second.
const IN_TIME: Duration = Duration::from_secs(30);

#[tokio::test]
async fn every_example_shows_what_it_says() {
    for (name, lines) in EXAMPLES {
        let run = Command::new(built(name)).kill_on_drop(true).output();
        let output = timeout(IN_TIME, run).await.unwrap_or_else(|_| panic!("{name} does not end")).unwrap();
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name}: {}\n{said}{complained}", output.status);
        let mut rest = &*said;
        for line in *lines {
            let at =
                rest.find(line).unwrap_or_else(|| panic!("{name} does not say {line:?}, after the others:\n{said}"));
            rest = &rest[at + line.len()..];
        }
    }
}

#[test]
fn every_example_is_run() {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let files: BTreeSet<_> = files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(files, EXAMPLES.iter().map(|(name, _)| (*name).to_owned()).collect());
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The program, which `cargo test` builds unless it is told which test to run.
fn built(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a path");
    let profile = test.ancestors().nth(2).expect("the test is in `deps`, in the folder of its profile");
    let program = profile.join("examples").join(name).with_extension(env::consts::EXE_EXTENSION);
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let source = folder().join(name).with_extension("rs");
    assert!(
        changed(&program) >= changed(&source),
        "{} is missing or old: run `cargo build --examples`, with the profile of the test",
        program.display()
    );
    program
}
