//! Edits at work on the text of a document. What they do not concern stays byte for byte.

use std::{borrow::Cow, ops::Range};

use super::{
    Unmapped,
    edits::{Change, Edits, Field, Names, Node},
    text::{Members, is_json, root},
};

/// Why a body is not edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotEdited {
    NotJson,
    NotAnObject,
    NoSuchElement,
    UnknownName,
    TooLarge,
    NoMemory,
    Compressed,
}

impl NotEdited {
    /// The reason as errors and the ledger show it.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::NotJson => "body not edited: not JSON",
            Self::NotAnObject => "body not edited: not an object",
            Self::NoSuchElement => "body not edited: no such element",
            Self::UnknownName => "body not edited: name not in the map",
            Self::TooLarge => "body not edited: too large",
            Self::NoMemory => "body not edited: memory used up",
            Self::Compressed => "body not edited: compressed",
        }
    }
}

/// A piece of the text, and what replaces it.
struct Splice<'a> {
    at: Range<usize>,
    by: Cow<'a, str>,
}

/// Collects the changes of a document, in the order of its text.
struct Editor<'a> {
    text: &'a [u8],
    unmapped: Unmapped,
    splices: Vec<Splice<'a>>,
}

impl Edits {
    /// Returns the edited text. `None` if nothing changes.
    pub(super) fn apply(&self, text: &[u8], unmapped: Unmapped) -> Result<Option<Vec<u8>>, NotEdited> {
        if !is_json(text) {
            return Err(NotEdited::NotJson);
        }
        let mut editor = Editor { text, unmapped, splices: Vec::new() };
        editor.edit(self, root(text))?;
        Ok((!editor.splices.is_empty()).then(|| editor.edited()))
    }
}

impl<'a> Editor<'a> {
    /// Edits what is below a value.
    fn edit(&mut self, edits: &'a Edits, value: Range<usize>) -> Result<(), NotEdited> {
        match self.text.get(value.start) {
            Some(b'{') => self.edit_object(edits, value),
            Some(b'[') => self.edit_array(edits, value),
            // Nothing is there to be removed or mapped.
            _ if !edits.fills() => Ok(()),
            Some(b'n') => {
                self.splice(value, edits.object());
                Ok(())
            }
            _ => Err(NotEdited::NotAnObject),
        }
    }

    fn edit_object(&mut self, edits: &'a Edits, value: Range<usize>) -> Result<(), NotEdited> {
        let mut found = vec![false; edits.0.len()];
        let node_of = |text: &[u8], key: Range<usize>| {
            let key = decoded(text.get(key).unwrap_or_default())?;
            edits.0.iter().position(|(segment, _)| **segment == *key)
        };
        let place = self.edit_members(value.start, |text, _, key| {
            let index = node_of(text, key)?;
            found[index] = true;
            Some(&edits.0[index].1)
        })?;
        let mut added = String::new();
        for ((key, node), is_found) in edits.0.iter().zip(found) {
            if !is_found && node.fills() {
                if place.has_members || !added.is_empty() {
                    added.push(',');
                }
                node.write_member(key, &mut added);
            }
        }
        if !added.is_empty() {
            self.splice(place.end..place.end, added);
        }
        Ok(())
    }

    fn edit_array(&mut self, edits: &'a Edits, value: Range<usize>) -> Result<(), NotEdited> {
        let mut found = vec![false; edits.0.len()];
        self.edit_members(value.start, |_, at, _| {
            let index = edits.0.iter().position(|(segment, _)| index(segment) == Some(at))?;
            found[index] = true;
            Some(&edits.0[index].1)
        })?;
        let missing = edits.0.iter().zip(found).find(|((_, node), is_found)| !is_found && node.fills());
        match missing {
            None => Ok(()),
            Some(((segment, _), _)) if index(segment).is_some() => Err(NotEdited::NoSuchElement),
            Some(_) => Err(NotEdited::NotAnObject),
        }
    }

    /// Edits the members of the object or array that begins at `start`. `node_of` returns what happens to each, by its
    /// position and key.
    fn edit_members(
        &mut self,
        start: usize,
        mut node_of: impl FnMut(&[u8], usize, Range<usize>) -> Option<&'a Node>,
    ) -> Result<Place, NotEdited> {
        let mut place = Place { has_members: false, end: start + 1 };
        // Where the members begin that are removed before the first one that stays.
        let mut removed = None;
        for (at, member) in Members::of(self.text, start).enumerate() {
            let node = node_of(self.text, at, member.key.clone());
            let begin = member.key.start;
            if let Some(Node::Field(Field { change: Some(Change::Remove), .. })) = node {
                match place.has_members {
                    // With the comma in front of it.
                    true => self.splice(place.end..member.value.end, ""),
                    false => _ = removed.get_or_insert(begin),
                }
                place.end = member.value.end;
                continue;
            }
            if let Some(from) = removed.take() {
                self.splice(from..begin, "");
            }
            place = Place { has_members: true, end: member.value.end };
            match node {
                None => {}
                Some(Node::Branch(below)) => self.edit(below, member.value)?,
                Some(Node::Field(field)) => self.edit_field(field, member.value)?,
            }
        }
        if let Some(from) = removed {
            self.splice(from..place.end, "");
        }
        Ok(place)
    }

    /// Edits a field that is there.
    fn edit_field(&mut self, field: &'a Field, value: Range<usize>) -> Result<(), NotEdited> {
        if let Some(Change::Set(text)) = &field.change {
            self.splice(value, &*text.0);
        } else if let Some(names) = &field.names {
            self.rename(names, value)?;
        }
        Ok(())
    }

    fn rename(&mut self, names: &'a Names, value: Range<usize>) -> Result<(), NotEdited> {
        let name = decoded(self.text.get(value.clone()).unwrap_or_default());
        let others = names.others.as_ref().filter(|_| name.is_some());
        match name.and_then(|name| names.listed.get(&*name)).or(others) {
            Some(text) => self.splice(value, &*text.0),
            None if self.unmapped == Unmapped::Refuse => return Err(NotEdited::UnknownName),
            None => {}
        }
        Ok(())
    }

    fn splice(&mut self, at: Range<usize>, by: impl Into<Cow<'a, str>>) {
        let by = by.into();
        if self.text.get(at.clone()) != Some(by.as_bytes()) {
            self.splices.push(Splice { at, by });
        }
    }

    fn edited(self) -> Vec<u8> {
        let (added, removed) = self
            .splices
            .iter()
            .fold((0, 0), |(added, removed), splice| (added + splice.by.len(), removed + splice.at.len()));
        let mut edited = Vec::with_capacity((self.text.len() + added).saturating_sub(removed));
        let mut from = 0;
        for Splice { at, by } in self.splices {
            edited.extend_from_slice(self.text.get(from..at.start).unwrap_or_default());
            edited.extend_from_slice(by.as_bytes());
            from = at.end;
        }
        edited.extend_from_slice(self.text.get(from..).unwrap_or_default());
        edited
    }
}

/// Where a member can be added.
struct Place {
    /// Whether there is one before it.
    has_members: bool,
    end: usize,
}

/// The content of a string, by its text with quotes. `None` for another value, or for half a surrogate pair.
fn decoded(text: &[u8]) -> Option<Cow<'_, str>> {
    let inner = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !inner.contains(&b'\\') {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice(text).ok().map(Cow::Owned)
}

/// The index that a segment is in an array.
fn index(segment: &str) -> Option<usize> {
    let is_index = segment == "0" || (segment.bytes().all(|byte| byte.is_ascii_digit()) && !segment.starts_with('0'));
    if is_index { segment.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
