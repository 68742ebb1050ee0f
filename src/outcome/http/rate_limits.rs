//! What a response states of the rate limits of its backend.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};

use super::{
    super::Headroom,
    times::{decimal, number, text, time_until},
};

/// The three headers of one rate limit, by what their names have before and after the word that tells them apart.
#[derive(Clone, Copy)]
struct Family<'a> {
    before: &'a str,
    after: &'a str,
}

/// One rate limit of a `RateLimit` field.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Item<'a> {
    /// The name of its policy, with its quotes.
    name: &'a str,
    limit: Option<f64>,
    /// What is left of it, if that is stated.
    remaining: Option<f64>,
    /// The time until it is whole again.
    reset: Option<Duration>,
}

/// Returns the time until the rate limit that is used up is whole again; of several, the last one. `None` if no header
/// states one that is ahead.
///
/// | headers | of |
/// |---|---|
/// | `x-ratelimit-reset`, `x-ratelimit-reset-requests`, `-tokens` and others | most APIs |
/// | `anthropic-ratelimit-requests-reset`, `-tokens-` and others | Anthropic |
/// | `ratelimit-reset`, and `RateLimit` in both its forms | the IETF drafts |
///
/// A limit with a `remaining` of 0 is used up. Without any of those, each limit that states no `remaining` may be the
/// one. What a limit with a rest states is no time after which the request would be served: another limit rejected it,
/// or the request is larger than the rest.
pub(super) fn reset(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let (mut exhausted, mut unmarked) = (None, None);
    let mut add = |remaining: Option<f64>, reset: Duration| {
        let latest = match remaining {
            Some(0.0) => &mut exhausted,
            None => &mut unmarked,
            Some(_) => return,
        };
        if !reset.is_zero() {
            *latest = (*latest).max(Some(reset));
        }
    };
    for (name, value) in headers {
        let Some(value) = text(value) else { continue };
        if name == "ratelimit" {
            items(value).for_each(|Item { remaining, reset, .. }| reset.into_iter().for_each(|it| add(remaining, it)));
        } else if let Some(family) = Family::of(name.as_str(), "reset")
            && let Some(reset) = time_until(value, now)
        {
            add(family.number(headers, "remaining"), reset);
        }
    }
    exhausted.or(unmarked)
}

/// Returns what a response states to be left of the rate limit with the least left, and when that is whole again. `None`
/// if it states none.
///
/// Of the same families as those of [`reset`], with `limit` in place of `reset`. A `RateLimit` field states its limits
/// itself, or in a `RateLimit-Policy` with the same name. A limit that is not stated counts if nothing is left of it. One
/// of 0 is not in force.
pub(super) fn headroom(headers: &HeaderMap, now: impl Fn() -> SystemTime) -> Option<Headroom> {
    let mut least: Option<Headroom> = None;
    let mut add = |remaining, limit, reset: &dyn Fn() -> Option<Duration>| {
        let Some(left) = part(remaining, limit) else { return };
        let so_far = least.map_or(f64::INFINITY, Headroom::left);
        if left < so_far {
            least = Some(Headroom::new(left).until_reset(reset()));
        } else if left == so_far {
            // Both must be whole again.
            let reset = least.and_then(Headroom::reset).max(reset());
            least = Some(Headroom::new(left).until_reset(reset));
        }
    };
    for (name, value) in headers {
        let Some(value) = text(value) else { continue };
        if name == "ratelimit" {
            for Item { name, limit, remaining, reset } in items(value).take(MAX_ITEMS) {
                let Some(remaining) = remaining else { continue };
                add(remaining, limit.or_else(|| policy(headers, name)), &|| reset);
            }
        } else if let Some(family) = Family::of(name.as_str(), "remaining")
            && let Some(remaining) = first_number(value)
        {
            let reset = || time_until(text(family.get(headers, "reset")?)?, now());
            add(remaining, family.number(headers, "limit"), &reset);
        }
    }
    least
}

/// Returns which part of a limit is left, up to 1. `None` if that is not known.
fn part(remaining: f64, limit: Option<f64>) -> Option<f64> {
    match limit {
        Some(limit) => (limit > 0.0 && limit.is_finite()).then(|| (remaining / limit).min(1.0)),
        None => (remaining == 0.0).then_some(0.0),
    }
}

/// The longest name of a header that is looked for. No API has a longer one.
const MAX_NAME: usize = 64;

impl<'a> Family<'a> {
    /// Returns the family of the header with this name and word. `None` if it is in none.
    fn of(name: &'a str, word: &str) -> Option<Self> {
        const X: &str = "x-ratelimit-";
        const ANTHROPIC: &str = "anthropic-ratelimit-";
        if let Some(rest) = name.strip_prefix(X) {
            let after = rest.strip_prefix(word).filter(|after| after.is_empty() || after.starts_with('-'))?;
            return Some(Self { before: X, after });
        }
        let before = name.strip_suffix(word)?;
        let of = before.strip_prefix(ANTHROPIC).and_then(|of| of.strip_suffix('-'));
        (before == "ratelimit-" || of.is_some()).then_some(Self { before, after: "" })
    }

    /// Returns the header of the family with another word. Does not allocate.
    fn get<'h>(&self, headers: &'h HeaderMap, word: &str) -> Option<&'h HeaderValue> {
        let (mut name, mut length) = ([0; MAX_NAME], 0);
        for part in [self.before, word, self.after] {
            name.get_mut(length..length + part.len())?.copy_from_slice(part.as_bytes());
            length += part.len();
        }
        headers.get(std::str::from_utf8(&name[..length]).ok()?)
    }

    fn number(&self, headers: &HeaderMap, word: &str) -> Option<f64> {
        first_number(text(self.get(headers, word)?)?)
    }
}

/// Parses the number that a value begins with. Some services add the window, such as `100;w=60`, or further limits.
fn first_number(value: &str) -> Option<f64> {
    number(value.split([',', ';']).next()?.trim())
}

/// The limits of a `RateLimit` field: `"name";r=0;t=30` for each, or `limit=10, remaining=0, reset=30` in the older
/// form.
fn items(value: &str) -> impl Iterator<Item = Item<'_>> {
    let mut older = Item::default();
    let mut members = split(value, ',');
    std::iter::from_fn(move || {
        for member in members.by_ref() {
            let mut item = Item::default();
            for (at, parameter) in split(member, ';').enumerate() {
                if at == 0 && (parameter.trim().starts_with('"') || !parameter.contains('=')) {
                    item.name = parameter.trim();
                    continue;
                }
                match parameter.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
                    Some(("r", value)) => item.remaining = number(value),
                    Some(("t", value)) => item.reset = decimal(value, 1.0),
                    Some(("remaining", value)) => older.remaining = number(value),
                    Some(("limit", value)) => older.limit = number(value),
                    Some(("reset", value)) => older.reset = decimal(value, 1.0),
                    _ => {}
                }
            }
            if item.remaining.is_some() || item.reset.is_some() {
                return Some(item);
            }
        }
        Some(std::mem::take(&mut older)).filter(|older| *older != Item::default())
    })
}

/// Returns the quota of the policy with this name, with its quotes.
fn policy(headers: &HeaderMap, name: &str) -> Option<f64> {
    let members = headers.get_all("ratelimit-policy").iter().filter_map(text).flat_map(|value| split(value, ','));
    members.take(MAX_ITEMS).find_map(|member| {
        let mut parts = split(member, ';');
        parts.next().filter(|own| own.trim() == name)?;
        parts.find_map(|part| number(part.trim().strip_prefix("q=")?))
    })
}

/// The most limits of a field, and policies, that are compared, so that two long fields cost no product of their lengths.
const MAX_ITEMS: usize = 32;

/// Splits a field at a separator, but not within quotes.
fn split(value: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    value.split(move |char| {
        is_quoted ^= char == '"';
        char == separator && !is_quoted
    })
}

#[cfg(test)]
mod tests;
