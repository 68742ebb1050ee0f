//! The section `[events]`, and the keys `time_limits`.

use serde::Deserialize;

use super::{ConfigError, ValueError, error::safe, units::Span};
use crate::{content::EventRules, outcome::TimeLimits};

/// What the events of a stream mean.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Events {
    format: Option<Format>,
    paths: Vec<String>,
    end_data: Option<String>,
    end_event: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Format {
    ChatCompletions,
    Messages,
    Responses,
}

impl Events {
    pub(super) fn rules(self) -> Result<EventRules, ConfigError> {
        let mut rules = match self.format {
            None => EventRules::new(),
            Some(Format::ChatCompletions) => EventRules::chat_completions(),
            Some(Format::Messages) => EventRules::messages(),
            Some(Format::Responses) => EventRules::responses(),
        };
        for (path, marker) in [("events.end_data", &self.end_data), ("events.end_event", &self.end_event)] {
            if marker.as_ref().is_some_and(|marker| marker.is_empty() || marker.contains(['\r', '\n'])) {
                return Err(ValueError::hidden("must be a line that is not empty").at(path, None));
            }
        }
        for (index, path) in self.paths.into_iter().enumerate() {
            if !path.starts_with('/') {
                let error =
                    ValueError::new(format_args!("\"{}\"", safe(&path)), "must be a path such as /chat/completions");
                return Err(error.at(format!("events.paths[{index}]"), None));
            }
            rules = rules.path(path);
        }
        if let Some(data) = self.end_data {
            rules = rules.end_data(data);
        }
        if let Some(name) = self.end_event {
            rules = rules.end_event(name);
        }
        Ok(rules)
    }
}

/// The limits on the parts of a response.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    head: Option<Span>,
    first_byte: Option<Span>,
    first_content: Option<Span>,
    idle: Option<Span>,
}

impl Limits {
    pub(super) fn time_limits(self) -> TimeLimits {
        let time = |span: Option<Span>| span.map(|Span(time)| time);
        TimeLimits::new()
            .head(time(self.head))
            .first_byte(time(self.first_byte))
            .first_content(time(self.first_content))
            .idle(time(self.idle))
    }
}

/// The section of a setting of a backend or a failover, with a dot: the limits on the parts of a response have one.
pub(super) fn section_of(field: &str) -> &'static str {
    if ["head", "first_byte", "first_content", "idle"].contains(&field) { "time_limits." } else { "" }
}
