//! The section `[resume]`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{ConfigError, ValueError, backend::Backends};
use crate::resume::{ByteRanges, ChatContinuation, ResumeLayer};

/// What the layer of a file resumes: downloads, chats, both or nothing.
pub type FileResume = (Option<ByteRanges>, Option<ChatContinuation>);

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Section {
    ranges: bool,
    continue_chats: Option<Chats>,
    most: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chats {
    backends: Vec<String>,
    message_flags: Option<BTreeMap<String, bool>>,
    #[serde(default)]
    request_flags: BTreeMap<String, bool>,
    #[serde(default)]
    keep_ids: bool,
}

impl Section {
    /// Makes the layer, for a file with these backends.
    pub(super) fn layer(self, backends: &Backends) -> Result<ResumeLayer<FileResume>, ConfigError> {
        let ranges = self.ranges.then(ByteRanges::new);
        let chats = self.continue_chats.map(|chats| chats.continuation(backends)).transpose()?;
        if ranges.is_none() && chats.is_none() {
            let reason = "resumes nothing: it needs `ranges = true` or `continue_chats`";
            return Err(ValueError::hidden(reason).at("resume", None));
        }
        let layer = ResumeLayer::new((ranges, chats));
        match self.most {
            Some(0) => Err(ValueError::new(0, "must be at least 1").at("resume.most", None)),
            most => Ok(most.into_iter().fold(layer, ResumeLayer::most)),
        }
    }
}

impl Chats {
    fn continuation(self, backends: &Backends) -> Result<ChatContinuation, ConfigError> {
        let path = "resume.continue_chats.backends";
        if self.backends.is_empty() {
            return Err(ValueError::hidden("must name a backend that continues chats").at(path, None));
        }
        for (index, name) in self.backends.iter().enumerate() {
            if !backends.fixed.iter().any(|backend| backend.name() == name.as_str()) {
                let reason = "must be the name of a backend of this file, without `dns`";
                return Err(ValueError::new(format_args!("{name:?}"), reason).at(format!("{path}[{index}]"), None));
            }
        }
        let mut chats = ChatContinuation::new(&self.backends).keep_ids(self.keep_ids);
        if let Some(message) = &self.message_flags {
            chats = chats.message_flags(message.iter().map(|(name, value)| (name.as_str(), *value)));
        }
        Ok(chats.request_flags(self.request_flags.iter().map(|(name, value)| (name.as_str(), *value))))
    }
}
