//! Reads the events of a stream as its bytes arrive.

use std::{fmt, mem};

use super::block::{Fields, line_end};

/// One event of a `text/event-stream`, which is also called server-sent events.
///
/// The values are bytes as they were sent: a stream that is not UTF-8 is not refused here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event<'a> {
    /// The value of `event:`. Empty if there is none.
    pub name: &'a [u8],
    /// The values of all `data:` lines, joined by line feeds.
    pub data: &'a [u8],
    /// The value of `id:`, if this event has one.
    pub id: Option<&'a [u8]>,
    /// Whether the event has a `data:` line. A block of comments has none, and a browser would not see it.
    pub has_data: bool,
    /// Whether the event is longer than the bound of the reader, with its comments and line ends. Only its beginning is
    /// here then.
    pub is_cut: bool,
    /// Where the event ends in the bytes that were read last.
    pub end: usize,
}

/// Reads the events of a `text/event-stream` in pieces of any size, in bounded memory.
///
/// It reads the stream as [the standard](https://html.spec.whatwg.org/multipage/server-sent-events.html) describes: lines
/// end with CR, LF or CRLF, a byte order mark at the start is skipped, unknown fields are ignored. However the stream is
/// cut into pieces, the events are the same.
///
/// An event that arrives in one piece is read where it is, without a copy, unless it has several lines of data.
///
/// ```
/// use tower_fleet::content::EventReader;
///
/// let mut reader = EventReader::new(64 * 1024);
/// let mut data = Vec::new();
/// let whole = reader.read(b"data: one\n\ndata: two\ndata: lines\n", |event| data.push(event.data.to_vec()));
/// assert_eq!((data.len(), whole), (1, 11));
/// assert!(!reader.is_between_events());
///
/// reader.read(b"\n", |event| assert_eq!(event.data, b"two\nlines"));
/// assert!(reader.is_between_events());
/// ```
pub struct EventReader {
    bound: usize,
    /// The beginning of the unfinished event, from earlier pieces: at most `bound` bytes.
    kept: Vec<u8>,
    /// Whether the unfinished event is longer than what is kept.
    is_cut: bool,
    /// Whether the unfinished event has a line, or the beginning of one.
    is_in_event: bool,
    is_line_empty: bool,
    /// Whether the last byte was a CR: a LF that follows belongs to the same end of a line.
    is_after_cr: bool,
    /// How many bytes of a byte order mark the stream began with. All of them once it began otherwise.
    mark: usize,
}

const MARK: &[u8] = b"\xef\xbb\xbf";

impl EventReader {
    /// Creates a reader for one stream, which keeps at most `bound` bytes of an event.
    ///
    /// An event that is longer, with its comments and line ends, is [cut](Event::is_cut): its first `bound` bytes are
    /// read, and the others are dropped.
    pub fn new(bound: usize) -> Self {
        Self {
            bound,
            kept: Vec::new(),
            is_cut: false,
            is_in_event: false,
            is_line_empty: true,
            is_after_cr: false,
            mark: 0,
        }
    }

    /// Reads the next bytes of the stream, and calls `on` for each event that ends in them. A block of comments counts as
    /// an event [without data](Event::has_data).
    ///
    /// Returns the length of the longest prefix of `data` that belongs to whole events, with the blank lines between
    /// them: all of `data` if the reader [is between events](Self::is_between_events), 0 if `data` only continues an
    /// event.
    pub fn read(&mut self, data: &[u8], mut on: impl FnMut(Event<'_>)) -> usize {
        // Of `data`, `..at` is read, `..whole` belongs to whole events, and the unfinished event begins at `whole`.
        let (mut at, mut whole) = (0, 0);
        while let Some(&byte) = data.get(at) {
            if mem::take(&mut self.is_after_cr) && byte == b'\n' {
                at += 1;
                if !self.is_in_event {
                    whole = at;
                }
            } else if self.mark < MARK.len() {
                if byte == MARK[self.mark] {
                    (at, self.mark) = (at + 1, self.mark + 1);
                    if self.mark == MARK.len() {
                        whole = at;
                        self.clear();
                    }
                } else {
                    // The beginning of a mark only: it belongs to the first line.
                    self.has_line(self.mark > 0);
                    self.mark = MARK.len();
                }
            } else if let Some(len) = line_end(&data[at..]) {
                self.has_line(len > 0);
                at += len + 1;
                self.is_after_cr = data[at - 1] == b'\r';
                if mem::replace(&mut self.is_line_empty, true) {
                    self.end(&data[whole..at - 1], at, &mut on);
                    whole = at;
                }
            } else {
                self.has_line(true);
                at = data.len();
            }
        }
        self.keep(&data[whole..]);
        whole
    }

    /// Returns whether all that was read belongs to whole events. A stream that ends elsewhere was cut off.
    pub fn is_between_events(&self) -> bool {
        !self.is_in_event && matches!(self.mark, 0 | 3)
    }

    fn has_line(&mut self, has_bytes: bool) {
        self.is_line_empty &= !has_bytes;
        self.is_in_event |= has_bytes;
    }

    /// Ends an event at its blank line, which ends at `at`. `rest` is what follows the kept bytes.
    fn end(&mut self, rest: &[u8], at: usize, on: &mut impl FnMut(Event<'_>)) {
        if !self.is_in_event {
            return;
        }
        let is_whole = self.kept.is_empty() && !self.is_cut && rest.len() <= self.bound;
        if !is_whole {
            self.keep(rest);
        }
        let fields = Fields::of(if is_whole { rest } else { &self.kept });
        if fields.data_lines > 1 {
            if is_whole {
                self.keep(rest);
            }
            let fields = fields.join(&mut self.kept);
            on(event(&self.kept, fields, self.is_cut, at));
        } else {
            on(event(if is_whole { rest } else { &self.kept }, fields, self.is_cut, at));
        }
        self.clear();
    }

    fn keep(&mut self, bytes: &[u8]) {
        let kept = &bytes[..bytes.len().min(self.bound - self.kept.len())];
        self.is_cut |= kept.len() < bytes.len();
        let len = self.kept.len() + kept.len();
        if len > self.kept.capacity() {
            // Doubled, so that single bytes are cheap, but never beyond the bound.
            let capacity = len.max(2 * self.kept.capacity()).max(64).min(self.bound);
            self.kept.reserve_exact(capacity - self.kept.len());
        }
        self.kept.extend_from_slice(kept);
    }

    fn clear(&mut self) {
        self.kept.clear();
        self.is_cut = false;
        self.is_in_event = false;
    }
}

fn event<'a>(block: &'a [u8], fields: Fields, is_cut: bool, end: usize) -> Event<'a> {
    let Fields { name, id, data, data_lines } = fields;
    let id = id.map(|id| &block[id]);
    Event { name: &block[name], data: &block[data], id, has_data: data_lines > 0, is_cut, end }
}

/// Without what the stream holds.
impl fmt::Debug for EventReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReader")
            .field("bound", &self.bound)
            .field("kept", &self.kept.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
