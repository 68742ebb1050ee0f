//! The model that a caller has asked for, and responses that name it.

use std::collections::BTreeMap;

use super::{
    Unmapped,
    edits::{Edit, Edits, Names, Text},
    path::Path,
    text::{Members, is_json, root},
};

/// The edits by which a response names the model that the caller has asked for.
#[derive(Debug)]
pub(super) struct Asked(Edits);

/// Where APIs name the model: at the root, and in the events that begin a message or a response.
const PATHS: [&[&str]; 3] = [&["model"], &["message", "model"], &["response", "model"]];

impl Asked {
    /// Reads the model from the text of a request. `None` if it names none.
    pub(super) fn of(request: &[u8]) -> Option<Self> {
        if !is_json(request) {
            return None;
        }
        let start = root(request).start;
        let is_model = |key: &[u8]| key == b"\"model\"";
        let is_object = request.get(start) == Some(&b'{');
        let members = Members::of(request, start).filter(|_| is_object);
        let model = members.filter(|member| request.get(member.key.clone()).is_some_and(is_model)).last()?;
        let model = serde_json::from_slice::<String>(request.get(model.value)?).ok()?;
        let mut edits = Edits::default();
        for path in PATHS {
            let names = Names { listed: BTreeMap::new(), others: Some(Text::of(model.clone())) };
            edits.add(&Path::of(path), Edit::Names(names)).ok()?;
        }
        Some(Self(edits))
    }

    /// Returns the text of a response or of an event with this model. `None` if it stays as it is.
    pub(super) fn named_in(&self, text: &[u8]) -> Option<Vec<u8>> {
        let may_name = text.windows(b"\"model\"".len()).any(|window| window == b"\"model\"");
        if may_name { self.0.apply(text, Unmapped::Keep).ok().flatten() } else { None }
    }
}
