//! The file. C54, C58, C59

#![cfg(unix)]

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    process::{Command, Stdio},
    time::SystemTime,
};

use tower_fleet::{AdminStatus, state::FileStore};

use super::*;

/// Saves the state of a fleet with a drained backend in a file.
async fn save(path: &Path) -> io::Result<()> {
    let fleet = fleet();
    let mut saver = fleet.restore(FileStore::new(path)).await;
    fleet.drain("a");
    saver.save().await
}

/// Restores it. Returns whether the backend is drained, and the warnings.
async fn is_restored(path: &Path) -> (bool, Vec<String>) {
    let (fleet, warnings) = (fleet(), Warnings::collect());
    let _ = fleet.restore(FileStore::new(path)).await;
    let is_drained = snapshot(&fleet, "a").status == AdminStatus::Draining;
    assert_eq!(serving(&fleet).await, if is_drained { 2 } else { 3 });
    (is_drained, warnings.take())
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

// C54
#[tokio::test]
async fn a_file_is_replaced_as_a_whole_and_readable_by_its_owner_only() {
    let directory = Directory::new("whole");
    let path = directory.file();
    assert_eq!(is_restored(&path).await, (false, vec![]));
    fs::write(&path, "an old file").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let old = fs::metadata(&path).unwrap().ino();
    save(&path).await.unwrap();
    assert_ne!(fs::metadata(&path).unwrap().ino(), old);
    assert_eq!((mode(&path), directory.names()), (0o600, vec!["state.json".to_owned()]));
    assert_eq!(is_restored(&path).await, (true, vec![]));
}

// C54, C59: the temporary file is never readable by others, not even for an instant.
#[tokio::test]
async fn the_temporary_file_is_made_with_its_mode() {
    let directory = Directory::new("mode");
    let path = directory.file();
    let is_done = Arc::<AtomicUsize>::default();
    let watcher = std::thread::spawn({
        let (is_done, path) = (Arc::clone(&is_done), directory.0.clone());
        move || {
            let mut modes = std::collections::BTreeSet::new();
            while is_done.load(Ordering::SeqCst) == 0 {
                for entry in fs::read_dir(&path).unwrap().flatten() {
                    modes.extend(entry.metadata().map(|metadata| metadata.permissions().mode() & 0o7777));
                }
            }
            modes
        }
    });
    for _ in 0..50 {
        save(&path).await.unwrap();
    }
    is_done.store(1, Ordering::SeqCst);
    assert_eq!(watcher.join().unwrap().into_iter().collect::<Vec<_>>(), [0o600]);
}

// C54: two writers at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_writers_never_leave_a_torn_file() {
    let directory = Directory::new("two");
    let path = directory.file();
    save(&path).await.unwrap();
    let writer = |name: &'static str| {
        let (fleet, path) = (fleet(), path.clone());
        tokio::spawn(async move {
            let mut saver = fleet.restore(FileStore::new(path)).await;
            for step in 1..=100 {
                // Documents of different lengths.
                fleet.cool_down(name, secs(1_000 * step));
                saver.save().await.unwrap();
            }
        })
    };
    let writers = [writer("b"), writer("c")];
    let mut reads = 0;
    while !writers.iter().all(JoinState::is_finished) {
        let (is_drained, warnings) = is_restored_at(&path).await;
        assert!(is_drained && warnings.is_empty(), "{warnings:?}");
        reads += 1;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(reads > 0);
    assert_eq!(directory.names(), ["state.json"]);
}

use tokio::task::JoinHandle as JoinState;

/// The same as `is_restored`, while other backends cool down.
async fn is_restored_at(path: &Path) -> (bool, Vec<String>) {
    let (fleet, warnings) = (fleet(), Warnings::collect());
    let _ = fleet.restore(FileStore::new(path)).await;
    (snapshot(&fleet, "a").status == AdminStatus::Draining, warnings.take())
}

// C54: an earlier save that was dropped does not overwrite a later one.
#[tokio::test]
async fn the_last_of_several_saves_counts_although_the_earlier_ones_were_dropped() {
    let directory = Directory::new("last");
    let store = FileStore::new(directory.file());
    for number in 0..200_u32 {
        let dropped = tokio::time::timeout(Duration::ZERO, store.save(vec![b'x'; 100_000])).await;
        drop(dropped);
        let last = number.to_string().into_bytes();
        store.save(last.clone()).await.unwrap();
        assert_eq!(store.load().await.unwrap(), Some(last));
    }
}

// C54: the killed process has left its temporary file.
#[tokio::test]
async fn what_a_killed_process_left_is_removed_later_and_nothing_else_is() {
    let directory = Directory::new("abandoned");
    let path = directory.file();
    let old = SystemTime::now() - secs(3_600);
    let touch = |name: &str, modified: SystemTime| {
        let file = fs::File::create(directory.0.join(name)).unwrap();
        file.set_modified(modified).unwrap();
    };
    touch(".state.json.0123456789abcdef.tmp", old);
    touch(".state.json.fedcba9876543210.tmp", SystemTime::now());
    for other in [".state.json.tmp", ".other.json.0123456789abcdef.tmp", ".state.json.0123456789abcdeg.tmp", "x.tmp"] {
        touch(other, old);
    }
    save(&path).await.unwrap();
    assert_eq!(
        directory.names(),
        [
            ".other.json.0123456789abcdef.tmp",
            ".state.json.0123456789abcdeg.tmp",
            ".state.json.fedcba9876543210.tmp",
            ".state.json.tmp",
            "state.json",
            "x.tmp",
        ]
    );
    assert_eq!(is_restored(&path).await, (true, vec![]));
}

/// Runs one of the tests below in a process of its own, behind a shell command.
fn child(test: &str, path: &Path, shell: &str) -> Command {
    let mut command = Command::new("sh");
    let run = format!("{shell} exec \"$0\" --ignored --exact --nocapture file::{test}");
    command.args(["-c", &run]).arg(std::env::current_exe().unwrap()).env("STATE_FILE", path);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn child_path() -> PathBuf {
    std::env::var_os("STATE_FILE").expect("run by another test").into()
}

// C54: killed at any moment, also between write and rename.
#[tokio::test]
async fn a_process_that_is_killed_while_it_saves_leaves_a_whole_file() {
    let directory = Directory::new("killed");
    let path = directory.file();
    save(&path).await.unwrap();
    let mut left = 0;
    for number in 0..20 {
        let mut child = child("saves_until_it_is_killed", &path, "").spawn().unwrap();
        tokio::time::sleep(millis(30 + 3 * number)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let (is_drained, warnings) = is_restored_at(&path).await;
        assert!(is_drained && warnings.is_empty(), "{warnings:?}");
        left = directory.names().len() - 1;
    }
    println!("{left} temporary files of 20 killed processes");
    // And the next process saves.
    save(&path).await.unwrap();
}

#[tokio::test]
#[ignore = "is run by another test, and does not end"]
async fn saves_until_it_is_killed() {
    let fleet = fleet();
    let mut saver = fleet.restore(FileStore::new(child_path())).await;
    for step in 1.. {
        fleet.cool_down("b", secs(step));
        saver.save().await.unwrap();
    }
}

// C54: a full disk, by a limit on the size of files.
#[tokio::test]
async fn a_full_disk_costs_one_warning_and_not_the_old_file() {
    let directory = Directory::new("full");
    let path = directory.file();
    save(&path).await.unwrap();
    let before = fs::read(&path).unwrap();
    let full = child("runs_with_a_full_disk", &path, "trap '' XFSZ; ulimit -f 0;").output().unwrap();
    assert!(full.status.success(), "{}", String::from_utf8_lossy(&full.stderr));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(directory.names(), ["state.json"]);
}

#[tokio::test]
#[ignore = "is run by another test, on a full disk"]
async fn runs_with_a_full_disk() {
    let (fleet, warnings) = (fleet(), Warnings::collect());
    let mut saver = fleet.restore(FileStore::new(child_path())).await;
    assert_eq!((serving(&fleet).await, warnings.take().len()), (2, 0));
    fleet.drain("b");
    let _ = tokio::time::timeout(millis(1_500), saver.run()).await;
    assert_eq!((serving(&fleet).await, warnings.take().len()), (1, 1));
    assert!(saver.save().await.is_err());
}

/// Runs a saver over something that is no file, and expects a served fleet and one warning.
async fn assert_one_warning(path: &Path, reason: &str) {
    let (fleet, warnings) = (fleet(), Warnings::collect());
    let mut saver = fleet.restore(FileStore::new(path)).await;
    fleet.drain("a");
    // The paused clock of other tests does not wait for blocking threads.
    let _ = tokio::time::timeout(millis(300), saver.run()).await;
    assert_eq!(serving(&fleet).await, 2);
    let texts = warnings.take();
    assert_eq!(texts.len(), 1, "{path:?}: {texts:?}");
    assert!(texts[0].contains(reason), "{path:?}: {texts:?}");
    assert!(saver.save().await.is_err());
}

// C54, C58
#[tokio::test]
async fn what_cannot_be_a_file_costs_one_warning() {
    let directory = Directory::new("places");
    let place = directory.0.join("directory");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("kept"), "").unwrap();
    assert_one_warning(&place, "it is no regular file").await;
    assert_eq!(names(&place), ["kept"]);
    assert_one_warning(Path::new("/"), "it is no regular file").await;
    assert_one_warning(Path::new(""), "the path has no file name").await;
    // Its directory is missing: the first start is silent, the first save is not.
    assert_one_warning(&directory.0.join("missing/state.json"), "state not saved").await;
    fs::write(directory.0.join("file"), "").unwrap();
    assert_one_warning(&directory.0.join("file/state.json"), "Not a directory").await;
    assert_one_warning(&directory.0.join("x".repeat(300)), "File name too long").await;
    assert_eq!(directory.names(), ["directory", "file"]);
}

// C54: a pipe at the path would wait for its other end forever.
#[tokio::test]
async fn a_pipe_is_not_opened() {
    let directory = Directory::new("pipe");
    let path = directory.file();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (is_drained, warnings) = is_restored(&path).await;
    assert!(!is_drained && warnings.len() == 1 && warnings[0].contains("it is no regular file"), "{warnings:?}");
    save(&path).await.unwrap();
    assert_eq!(is_restored(&path).await, (true, vec![]));
}

// C54
#[tokio::test]
async fn a_symbolic_link_is_read_and_then_replaced_and_its_target_is_kept() {
    let directory = Directory::new("link");
    let (path, target) = (directory.file(), directory.0.join("target"));
    save(&target).await.unwrap();
    let before = fs::read(&target).unwrap();
    symlink(&target, &path).unwrap();
    assert_eq!(is_restored(&path).await, (true, vec![]));
    let fleet = fleet();
    fleet.drain("b");
    fleet.restore(FileStore::new(&path)).await.save().await.unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
    assert_eq!(fs::read(&target).unwrap(), before);
    // A link to nothing is like no file.
    fs::remove_file(&path).unwrap();
    symlink(directory.0.join("nothing"), &path).unwrap();
    assert_eq!(is_restored(&path).await, (false, vec![]));
    save(&path).await.unwrap();
    assert_eq!((is_restored(&path).await.0, directory.0.join("nothing").exists()), (true, false));
}

// C54: unwritable by its mode; the superuser, for whom modes do not count, is stopped by a read-only file system.
#[tokio::test]
async fn an_unwritable_directory_costs_one_warning() {
    let directory = Directory::new("unwritable");
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o555)).unwrap();
    let probe = directory.0.join("probe");
    if fs::write(&probe, "").is_ok() {
        fs::remove_file(&probe).unwrap();
        // Nothing can be made in it, whatever the user.
        assert_one_warning(Path::new("/proc/state.json"), "state not saved").await;
    } else {
        assert_one_warning(&directory.file(), "state not saved").await;
    }
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o755)).unwrap();
}

// C54, C58: a file of any size.
#[tokio::test]
async fn a_huge_file_is_not_read() {
    let directory = Directory::new("huge");
    let path = directory.file();
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let (is_drained, warnings) = is_restored(&path).await;
    assert!(!is_drained && warnings.len() == 1 && warnings[0].contains("it is longer than 64 MiB"), "{warnings:?}");
}
