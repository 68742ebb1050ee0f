//! The edits of a JSON document, as a tree of their paths.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use super::path::Path;

/// The edits of a document. No two of them concern the same value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Edits(pub(super) Vec<(Box<str>, Node)>);

/// What happens below a key or an index.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Branch(Edits),
    Field(Field),
}

/// What happens to one field.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Field {
    pub(super) change: Option<Change>,
    pub(super) names: Option<Names>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Set(Text),
    Default(Text),
    Remove,
}

/// The names that replace other names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Names {
    pub(super) listed: BTreeMap<String, Text>,
    /// What every other name becomes.
    pub(super) others: Option<Text>,
}

/// One edit, before it has its place in the tree.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    Change(Change),
    Names(Names),
}

/// A value as JSON text. Not shown: it may be a secret.
#[derive(Clone, PartialEq)]
pub(super) struct Text(pub(super) Box<str>);

impl Text {
    pub(super) fn of(value: impl Into<Value>) -> Self {
        Self(value.into().to_string().into())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

impl Edits {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an edit.
    ///
    /// # Errors
    ///
    /// Returns why it contradicts another one.
    pub(super) fn add(&mut self, path: &Path, edit: Edit) -> Result<(), &'static str> {
        let Some((last, above)) = path.segments().split_last() else { return Ok(()) };
        let mut edits = self;
        for segment in above {
            match edits.entry(segment, || Node::Branch(Self::default())) {
                Node::Branch(below) => edits = below,
                Node::Field(_) => return Err("must not be below a path that is edited as a whole"),
            }
        }
        match edits.entry(last, || Node::Field(Field::default())) {
            Node::Field(field) => field.add(edit),
            Node::Branch(_) => Err("must not be above a path that is edited too"),
        }
    }

    /// Adds the edits of others that contradict none of these.
    pub(super) fn add_all(&mut self, others: &Self) {
        others.for_each(&mut Vec::new(), &mut |segments, field| {
            let path = Path::of(segments);
            for edit in field.edits() {
                // A contradiction is one that these edits win. It may leave branches without a field, so it is tried on
                // a copy.
                let mut tried = self.clone();
                if tried.add(&path, edit).is_ok() {
                    *self = tried;
                }
            }
        });
    }

    fn for_each<'a>(&'a self, above: &mut Vec<&'a str>, run: &mut impl FnMut(&[&str], &Field)) {
        for (segment, node) in &self.0 {
            above.push(segment);
            match node {
                Node::Branch(below) => below.for_each(above, run),
                Node::Field(field) => run(above, field),
            }
            above.pop();
        }
    }

    fn entry(&mut self, segment: &str, new: impl FnOnce() -> Node) -> &mut Node {
        let index = self.0.iter().position(|(known, _)| **known == *segment);
        let index = index.unwrap_or_else(|| {
            self.0.push((segment.into(), new()));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }

    /// Whether a missing object has to be made, since a field below is set.
    pub(super) fn fills(&self) -> bool {
        self.0.iter().any(|(_, node)| node.fills())
    }

    /// Writes the object of the fields that are set.
    fn write(&self, text: &mut String) {
        text.push('{');
        let mut is_first = true;
        for (key, node) in self.0.iter().filter(|(_, node)| node.fills()) {
            if !is_first {
                text.push(',');
            }
            is_first = false;
            node.write_member(key, text);
        }
        text.push('}');
    }

    /// Returns the object of the fields that are set.
    pub(super) fn object(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }
}

impl Node {
    /// Whether a value that is missing is filled in.
    pub(super) fn fills(&self) -> bool {
        match self {
            Self::Branch(below) => below.fills(),
            Self::Field(field) => matches!(field.change, Some(Change::Set(_) | Change::Default(_))),
        }
    }

    /// Writes the key and the value that is filled in.
    pub(super) fn write_member(&self, key: &str, text: &mut String) {
        text.push_str(&Text::of(key).0);
        text.push(':');
        match self {
            Self::Branch(below) => below.write(text),
            Self::Field(Field { change: Some(Change::Set(value) | Change::Default(value)), .. }) => {
                text.push_str(&value.0);
            }
            Self::Field(_) => text.push_str("null"),
        }
    }
}

impl Field {
    fn add(&mut self, edit: Edit) -> Result<(), &'static str> {
        let is_mapped = |change: &Change| matches!(change, Change::Default(_));
        match edit {
            Edit::Change(change) if self.change.is_none() && (self.names.is_none() || is_mapped(&change)) => {
                self.change = Some(change);
            }
            Edit::Names(names) if self.names.is_none() && self.change.as_ref().is_none_or(is_mapped) => {
                self.names = Some(names);
            }
            _ => return Err("must not be edited twice; only a default and a map go together"),
        }
        Ok(())
    }

    fn edits(&self) -> impl Iterator<Item = Edit> {
        let change = self.change.clone().map(Edit::Change);
        change.into_iter().chain(self.names.clone().map(Edit::Names))
    }
}
