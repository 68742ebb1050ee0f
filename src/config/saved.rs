//! The section `[state]`: the state of the fleet in a file.

use serde::Deserialize;

use super::{ConfigError, ValueError};
use crate::state::FileStore;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    path: String,
}

impl Section {
    pub(super) fn store(self) -> Result<FileStore, ConfigError> {
        match self.path.is_empty() {
            true => Err(ValueError::hidden("must be the path of a file").at("state.path", None)),
            false => Ok(FileStore::new(self.path)),
        }
    }
}
