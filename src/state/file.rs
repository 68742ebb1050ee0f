//! A store that is a file.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::runtime::Handle;

use super::store::Store;

/// Keeps the document in a file, which is replaced as a whole: a reader finds the document of before or of after, also
/// when the process is killed or the machine stops meanwhile.
///
/// A document is written to a temporary file beside the file, whose name begins with a dot and ends with `.tmp`, synced to
/// disk, and renamed. So the directory must be writable. Both files are readable and writable by their owner only (mode
/// 0600). Temporary files that a killed process has left are removed after ten minutes. A symbolic link at the path is
/// followed to read, and replaced by a file.
///
/// Each fleet needs a file of its own. If two processes write to one, the last document counts.
///
/// The file is accessed on the blocking threads of tokio's runtime.
#[derive(Clone, Debug)]
pub struct FileStore {
    file: Arc<FileAccess>,
}

#[derive(Debug)]
struct FileAccess {
    path: PathBuf,
    /// The number of the last save that was begun.
    begun: AtomicU64,
    writer: Mutex<Writer>,
}

#[derive(Debug, Default)]
struct Writer {
    /// The number of the last save that was written.
    written: u64,
    is_cleaned: bool,
}

impl FileStore {
    /// Creates the store of the file at this path. The file need not exist, its directory must.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let (begun, writer) = (AtomicU64::new(0), Mutex::default());
        Self { file: Arc::new(FileAccess { path: path.into(), begun, writer }) }
    }

    /// Runs an access on a blocking thread.
    async fn run<T: Send + 'static>(
        &self,
        access: impl FnOnce(&FileAccess) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let file = Arc::clone(&self.file);
        runtime.spawn_blocking(move || access(&file)).await.map_err(io::Error::other)?
    }
}

impl Store for FileStore {
    fn location(&self) -> String {
        self.file.path.display().to_string().escape_debug().collect()
    }

    async fn load(&self) -> io::Result<Option<Vec<u8>>> {
        self.run(FileAccess::load).await
    }

    async fn save(&self, document: Vec<u8>) -> io::Result<()> {
        let number = self.file.begun.fetch_add(1, Ordering::Relaxed) + 1;
        self.run(move |file| file.save(number, &document)).await
    }
}

/// The longest document that is read: that of a hundred thousand backends.
const MAX_LEN: u64 = 64 << 20;

/// The age at which a temporary file is taken for one that a killed process has left. No write takes that long.
const ABANDONED: Duration = Duration::from_secs(600);

impl FileAccess {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        let metadata = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata?,
        };
        // To open a pipe would wait for its other end.
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut document = Vec::new();
        File::open(&self.path)?.take(MAX_LEN + 1).read_to_end(&mut document)?;
        if document.len() as u64 > MAX_LEN {
            return Err(io::Error::other(format!("it is longer than {} MiB", MAX_LEN >> 20)));
        }
        Ok(Some(document))
    }

    /// Writes a document, unless one of a later save was written: the future of an earlier save may have been dropped.
    fn save(&self, number: u64, document: &[u8]) -> io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if number < writer.written {
            return Ok(());
        }
        let name =
            self.path.file_name().ok_or(io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
        // The parent of a bare name is empty.
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut prefix = OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        if !std::mem::replace(&mut writer.is_cleaned, true) {
            remove_abandoned(parent, &prefix);
        }
        let mut temporary = prefix;
        temporary.push(format!("{:016x}.tmp", fastrand::u64(..)));
        let temporary = parent.join(temporary);
        let replaced = replace(&self.path, parent, &temporary, document);
        match replaced {
            Ok(()) => writer.written = number,
            // Also if the disk is full: half a document is of no use.
            Err(_) => drop(fs::remove_file(&temporary)),
        }
        replaced
    }
}

fn replace(path: &Path, parent: &Path, temporary: &Path, document: &[u8]) -> io::Result<()> {
    // A new file, also if there is a link of this name.
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    private(&mut options);
    let mut file = options.open(temporary)?;
    file.write_all(document)?;
    file.sync_all()?;
    drop(file);
    fs::rename(temporary, path)?;
    sync_directory(parent)
}

/// Makes a new file readable and writable by its owner only, from its creation on.
#[cfg(unix)]
fn private(options: &mut OpenOptions) {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
}

#[cfg(not(unix))]
fn private(_: &mut OpenOptions) {}

/// Makes the rename durable. Some file systems cannot sync a directory; there the document is replaced all the same.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    match File::open(path).and_then(|directory| directory.sync_all()) {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Removes the temporary files that killed processes have left. Those of another writer are younger.
fn remove_abandoned(parent: &Path, prefix: &OsString) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let (prefix, now) = (prefix.as_encoded_bytes(), SystemTime::now());
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.as_encoded_bytes().strip_prefix(prefix).and_then(|name| name.strip_suffix(b".tmp"));
        let is_ours = number.is_some_and(|number| number.len() == 16 && number.iter().all(u8::is_ascii_hexdigit));
        let modified = || entry.metadata().ok().filter(fs::Metadata::is_file)?.modified().ok();
        let is_old = |modified| now.duration_since(modified).is_ok_and(|age| age > ABANDONED);
        if is_ours && modified().is_some_and(is_old) {
            // If it fails, the next start tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C54: the future of the earlier save was dropped, and its access to the file comes late.
    #[test]
    fn an_earlier_save_does_not_replace_a_later_one() {
        let path = std::env::temp_dir().join(format!("tower-fleet-late-{}", std::process::id()));
        let FileStore { file } = FileStore::new(&path);
        assert!(file.save(2, b"later").is_ok() && file.save(1, b"earlier").is_ok());
        assert_eq!(file.load().unwrap().as_deref(), Some(b"later".as_slice()));
        assert!(file.save(3, b"last").is_ok());
        assert_eq!(file.load().unwrap().as_deref(), Some(b"last".as_slice()));
        fs::remove_file(&path).unwrap();
    }
}
