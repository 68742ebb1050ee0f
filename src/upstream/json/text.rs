//! The places of the members of a JSON object, and of the elements of an array, in its text.
//!
//! Only text that [`is_json`] holds is read. So a value is skipped by its brackets and quotes alone, without recursion,
//! however deep it is.

use std::ops::Range;

use serde_json::value::RawValue;

/// Whether a text is one JSON value.
pub(super) fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(text).is_ok()
}

/// The place of the value that a text consists of.
pub(super) fn root(text: &[u8]) -> Range<usize> {
    let start = skip_space(text, 0);
    start..end_of_value(text, start)
}

/// A member of an object, or an element of an array.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// The key with its quotes. Empty in an array.
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

/// The members of the object or array that begins at a place.
pub(super) struct Members<'a> {
    text: &'a [u8],
    at: usize,
    has_keys: bool,
}

impl<'a> Members<'a> {
    /// `start` is the place of the opening bracket.
    pub(super) fn of(text: &'a [u8], start: usize) -> Self {
        Self { text, at: start.saturating_add(1), has_keys: text.get(start) == Some(&b'{') }
    }
}

impl Iterator for Members<'_> {
    type Item = Member;

    fn next(&mut self) -> Option<Member> {
        let mut at = skip_space(self.text, self.at);
        if self.text.get(at) == Some(&b',') {
            at = skip_space(self.text, at + 1);
        }
        if matches!(self.text.get(at), None | Some(b'}' | b']')) {
            return None;
        }
        let start = at;
        if self.has_keys {
            at = end_of_string(self.text, at);
        }
        let key = start..at;
        if self.has_keys {
            // The colon.
            at = skip_space(self.text, skip_space(self.text, at) + 1);
        }
        let end = end_of_value(self.text, at);
        self.at = end;
        (end > at).then_some(Member { key, value: at..end })
    }
}

fn skip_space(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count()
}

fn end_of_value(text: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = end_of_string(text, at),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ if depth > 0 => at += 1,
            // A number or a literal.
            _ => {
                let rest = text.get(at..).unwrap_or_default();
                let is_inside = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
                return at + rest.iter().take_while(is_inside).count();
            }
        }
        if depth == 0 {
            break;
        }
    }
    at.min(text.len())
}

/// The place after the closing quote of the string that begins at `start`.
fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}
