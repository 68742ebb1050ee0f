//! The rules `[[failover.rejection]]`, and the preset before which they come.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{ConfigError, ValueError, error::safe, units::Size};
use crate::{
    failover::{Follow, Refused, Rejection, Rejections, intern},
    outcome::Statuses,
    setting::InvalidSetting,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    name: String,
    statuses: Statuses,
    json: Option<JsonKeys>,
    contains: Option<Vec<String>>,
    then: Then,
    #[serde(default)]
    counts: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonKeys {
    path: String,
    any: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Then {
    Next,
    Later,
    Answer,
    Tagged(String),
}

#[derive(Clone, Copy, Deserialize)]
pub(super) enum Preset {
    #[serde(rename = "chat-completions")]
    ChatCompletions,
}

/// Makes the rules of a file, whose backends have these tags.
pub(super) fn rejections(
    preset: Option<Preset>,
    sections: Vec<Section>,
    bound: Option<Size>,
    tags: &BTreeSet<String>,
) -> Result<Option<Rejections>, ConfigError> {
    let rules = sections.into_iter().enumerate().map(|(index, section)| {
        section.rule(tags).map_err(|(key, error)| error.at(format!("failover.rejection[{index}].{key}"), None))
    });
    let own = Rejections::checked(rules.collect::<Result<_, _>>()?).map_err(|refused| {
        let Refused { index, key, value, reason } = refused;
        let dot = if key.is_empty() { "" } else { "." };
        let error = if value.is_empty() { ValueError::hidden(reason) } else { ValueError::new(safe(&value), reason) };
        error.at(format!("failover.rejection[{index}]{dot}{key}"), None)
    })?;
    let rejections = match preset {
        Some(Preset::ChatCompletions) => own.or(Rejections::chat_completions()),
        None => own,
    };
    if rejections.iter().len() == 0 {
        let unused = || ValueError::hidden("needs a rule: set `rejections` or a [[failover.rejection]]");
        return bound.map_or(Ok(None), |_| Err(unused().at("failover.rejection_bound", None)));
    }
    let Some(Size(bytes)) = bound else { return Ok(Some(rejections)) };
    let bounded = rejections
        .bound(bytes)
        .map_err(|refused| ValueError::new(refused.value(), refused.reason()).at("failover.rejection_bound", None))?;
    Ok(Some(bounded))
}

impl Section {
    /// Makes the rule. An error comes with its key.
    fn rule(self, tags: &BTreeSet<String>) -> Result<Rejection, (&'static str, ValueError)> {
        let shown = |text: &str| format!("\"{}\"", safe(text));
        let name = intern(&self.name).ok_or_else(|| {
            let is_long = self.name.len() > 64;
            let reason = if is_long { "must have at most 64 bytes" } else { "is one name too many for this process" };
            ("name", ValueError::new(shown(&self.name), reason))
        })?;
        let follow = match self.then {
            Then::Next => Follow::Next,
            Then::Later => Follow::Later,
            Then::Answer => Follow::Answer,
            Then::Tagged(tag) => {
                let known = tags.get(&tag).and_then(|tag| intern(tag));
                let unknown = || ("then.tagged", ValueError::new(shown(&tag), "must be a tag of one of the backends"));
                Follow::Tagged(known.ok_or_else(unknown)?)
            }
        };
        let mut rule = Rejection::new(name).statuses(self.statuses).then(follow).counts(self.counts);
        if let Some(JsonKeys { path, any }) = self.json {
            let refused = |error: InvalidSetting| ("json.path", ValueError::new(shown(&path), error.reason()));
            rule = rule.json(&path, any).map_err(refused)?;
        }
        Ok(match self.contains {
            Some(texts) => rule.contains(texts),
            None => rule,
        })
    }
}
