//! Where a document is kept.

use std::io;

/// Keeps one document. An extension point: see [`FileStore`](super::FileStore) for the one of this crate.
///
/// A document is some kilobytes of text. It holds names, numbers and words, and no secrets.
///
/// ```
/// use std::{io, sync::Mutex};
/// use tower_fleet::state::Store;
///
/// /// Keeps the document in memory, for tests.
/// #[derive(Default)]
/// struct Memory(Mutex<Option<Vec<u8>>>);
///
/// impl Store for Memory {
///     fn location(&self) -> String {
///         "memory".to_owned()
///     }
///
///     async fn load(&self) -> io::Result<Option<Vec<u8>>> {
///         Ok(self.0.lock().unwrap().clone())
///     }
///
///     async fn save(&self, document: Vec<u8>) -> io::Result<()> {
///         *self.0.lock().unwrap() = Some(document);
///         Ok(())
///     }
/// }
/// ```
pub trait Store: Send + Sync {
    /// Returns what a warning shows of the store, such as a path. Without secrets.
    fn location(&self) -> String;

    /// Returns the document that was saved last. `None` if none was.
    ///
    /// # Errors
    ///
    /// The document cannot be read. The fleet then starts without it.
    fn load(&self) -> impl Future<Output = io::Result<Option<Vec<u8>>>> + Send;

    /// Replaces the document, all of it or nothing.
    ///
    /// # Errors
    ///
    /// The document cannot be written. The earlier one stays, and a later one is tried again.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped, and the document may be replaced nevertheless, but not after a later `save`.
    fn save(&self, document: Vec<u8>) -> impl Future<Output = io::Result<()>> + Send;
}
