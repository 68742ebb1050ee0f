//! The section `[share]`: what replicas tell each other.

use serde::Deserialize;

use super::{
    ConfigError, ValueError,
    secret::{Lookup, Secret},
    units::Span,
};
use crate::{
    replicas::{Share, ValkeyStore},
    setting::InvalidSetting,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    url: String,
    max_hint: Option<Span>,
    lease: Option<Span>,
    resync_every: Option<Span>,
    timeout: Option<Span>,
    overrides: Option<bool>,
}

impl Section {
    pub(super) fn share(self, lookup: Lookup<'_>) -> Result<Share<ValkeyStore>, ConfigError> {
        let mut share = Share::new(store(&self.url, lookup).map_err(|error| error.at("share.url", None))?);
        if let Some(Span(time)) = self.max_hint {
            share = share.max_hint(time);
        }
        if let Some(Span(time)) = self.lease {
            share = share.lease(time);
        }
        if let Some(Span(time)) = self.resync_every {
            share = share.resync_every(time);
        }
        if let Some(Span(time)) = self.timeout {
            share = share.timeout(time);
        }
        if let Some(overrides) = self.overrides {
            share = share.overrides(overrides);
        }
        share.check().map_err(|refused| {
            ValueError::new(refused.value(), refused.reason()).at(format!("share.{}", refused.field()), None)
        })?;
        Ok(share)
    }
}

/// Returns the store of a URL, or of the variable that holds one. Shows no URL.
fn store(url: &str, lookup: Lookup<'_>) -> Result<ValkeyStore, ValueError> {
    let hidden = |error: InvalidSetting| ValueError::hidden(error.reason()).because(error);
    if url.trim().starts_with("env:") {
        let secret = Secret::find(url, lookup)?;
        return ValkeyStore::new(&secret.value).map_err(|error| secret.refused(error));
    }
    if url.contains('@') {
        return Err(ValueError::hidden("must hold no user: put the URL into an environment variable, \"env:NAME\""));
    }
    ValkeyStore::new(url).map_err(hidden)
}
