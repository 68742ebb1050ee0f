//! A note about one attempt.

use std::fmt;

/// A note for the [ledger](crate::Ledger), in the extensions of an HTTP response: what a service in front of a backend did
/// otherwise than usual.
///
/// A [`Failover`](crate::Failover) takes it out of the response that it returns, and puts it into the entry of the attempt.
///
/// ```
/// # #[cfg(feature = "http")] {
/// # use tower_fleet::outcome::Note;
/// # let mut response = http::Response::new(());
/// response.extensions_mut().insert(Note::new("sent without a system prompt"));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note(&'static str);

impl Note {
    /// Creates a note with this text.
    pub const fn new(text: &'static str) -> Self {
        Self(text)
    }

    /// Returns the text.
    pub const fn text(&self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
