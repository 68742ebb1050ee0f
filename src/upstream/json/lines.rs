//! The lines of an event stream, whose data is edited as they come.

use bytes::Bytes;

/// Cuts an event stream into lines.
///
/// A line is returned as soon as its end is there: before the event, which ends with an empty line. Only a line that may
/// hold data is held back until then. What is not edited is returned byte for byte.
#[derive(Debug)]
pub(super) struct Lines {
    /// The beginning of a line that may hold data.
    held: Vec<u8>,
    /// Whether the rest of the line is passed on, since it is too long or holds no data.
    passes: bool,
    /// Whether nothing was read yet, so that a byte order mark may follow.
    is_first: bool,
    bound: usize,
}

const MARK: &[u8] = b"\xEF\xBB\xBF";
const DATA: &[u8] = b"data:";

impl Lines {
    /// A longer line than `bound` is not edited.
    pub(super) fn new(bound: usize) -> Self {
        Self { held: Vec::new(), passes: false, is_first: true, bound }
    }

    /// Reads more of the stream, and returns what of it is complete. `edit` returns the data of one line as it is to be,
    /// or `None` if it stays.
    pub(super) fn read(&mut self, more: Bytes, mut edit: impl FnMut(&[u8]) -> Option<Vec<u8>>) -> Bytes {
        // What is returned so far, and up to where `more` is in it.
        let (mut out, mut done, mut at) = (Vec::new(), 0, 0);
        while at < more.len() {
            let rest = &more[at..];
            let length = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).map(|at| at + 1);
            let end = at + length.unwrap_or(rest.len());
            let piece = &more[at..end];
            if self.passes {
                self.passes = length.is_none();
            } else if self.held.is_empty() && length.is_some() {
                if let Some(edited) = edited(piece, self.is_first, &mut edit) {
                    out.extend_from_slice(&more[done..at]);
                    out.extend_from_slice(&edited);
                    done = end;
                }
                self.is_first = false;
            } else {
                out.extend_from_slice(&more[done..at]);
                done = end;
                self.hold(piece, length.is_some(), &mut out, &mut edit);
            }
            at = end;
        }
        if out.is_empty() && done == 0 {
            return more;
        }
        out.extend_from_slice(&more[done..]);
        out.into()
    }

    /// Adds to the line that is held, and returns it if it is complete or is not to be held.
    fn hold(
        &mut self,
        piece: &[u8],
        is_complete: bool,
        out: &mut Vec<u8>,
        edit: &mut impl FnMut(&[u8]) -> Option<Vec<u8>>,
    ) {
        self.held.extend_from_slice(piece);
        let is_data = self.may_be_data() && self.held.len() <= self.bound;
        if is_data && !is_complete {
            return;
        }
        let line = std::mem::take(&mut self.held);
        // Also a line that is too long begins like one of data.
        let edited = if is_data { edited(&line, self.is_first, edit) } else { None };
        match edited {
            Some(edited) => out.extend_from_slice(&edited),
            None => out.extend_from_slice(&line),
        }
        (self.passes, self.is_first) = (!is_complete, false);
    }

    /// Whether the line that is held may be one of data, as far as it is there.
    fn may_be_data(&self) -> bool {
        let begins = |line: &[u8], with: &[u8]| line.iter().zip(with).all(|(one, other)| one == other);
        let (line, marked) = (&self.held, [MARK, DATA].concat());
        begins(line, DATA) || (self.is_first && begins(line, &marked))
    }

    /// Returns what is held when the stream ends. A line without an end is not edited.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// Returns a line with its data edited. `None` if it stays as it is.
fn edited(line: &[u8], is_first: bool, edit: &mut impl FnMut(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let unmarked = line.strip_prefix(MARK).filter(|_| is_first).unwrap_or(line);
    let data = unmarked.strip_prefix(DATA)?;
    let data = data.strip_prefix(b" ").unwrap_or(data);
    let (data, end) = data.split_at_checked(data.len().checked_sub(1)?)?;
    let edited = edit(data)?;
    let begin = line.get(..line.len() - data.len() - end.len())?;
    Some([begin, &edited, end].concat())
}
