//! The rules of a failover, in their order.

use std::sync::Arc;

use super::{super::invalid::invalid, condition::Body, rule::Rejection};
use crate::setting::InvalidSetting;

/// The rules that tell rejections apart, in their order: the first one that matches a response decides what follows.
///
/// For conditions on the body, up to 64 KiB of it are read before the response is final, which [`bound`](Self::bound)
/// changes. **Rules with such conditions match no body that is longer, or that is compressed** (`content-encoding`);
/// rules by status alone match those too.
#[derive(Clone, Debug)]
pub struct Rejections {
    rules: Arc<[Rejection]>,
    bound: usize,
}

/// Why a rule is refused.
pub(crate) struct Refused {
    /// The index of the rule.
    pub(crate) index: usize,
    /// Its key. Empty for the rule as a whole.
    pub(crate) key: &'static str,
    pub(crate) value: String,
    pub(crate) reason: &'static str,
}

/// An error with its cause is rarely longer.
const DEFAULT_BOUND: usize = 64 * 1024;
const MAX_BOUND: usize = 16 * 1024 * 1024;
const MAX_RULES: usize = 256;

impl Rejections {
    /// Creates the rules.
    ///
    /// # Errors
    ///
    /// A rule that can never match: it has no statuses, or a list of no texts, or an earlier rule matches all its
    /// responses. Also a name or a tag that is not safe to show, a status below 400, and more than 256 rules.
    pub fn new(rules: impl IntoIterator<Item = Rejection>) -> Result<Self, InvalidSetting> {
        let rules: Vec<_> = rules.into_iter().collect();
        Self::checked(rules.clone()).map_err(|Refused { index, key, value, reason }| {
            let name = rules[index].name();
            let value = if key.is_empty() { format!("`{name}` {value}") } else { format!("`{name}`.{key} {value}") };
            let value = value.trim_end();
            invalid("rejection", value, reason)
        })
    }

    pub(crate) fn checked(rules: Vec<Rejection>) -> Result<Self, Refused> {
        for (index, rule) in rules.iter().enumerate() {
            let fault = if index >= MAX_RULES {
                Some(("", (index + 1).to_string(), "must be at most 256 rules"))
            } else if let Some(fault) = rule.fault() {
                Some(fault)
            } else {
                let is_hidden = rule.is_hidden_by(&rules[..index]);
                is_hidden.then(|| ("", String::new(), "never matches: earlier rules match all its responses"))
            };
            if let Some((key, value, reason)) = fault {
                return Err(Refused { index, key, value, reason });
            }
        }
        Ok(Self { rules: rules.into(), bound: DEFAULT_BOUND })
    }

    /// Adds the rules of others after these, such as a preset after one's own. Those that can never match now are no
    /// error.
    pub fn or(self, others: Self) -> Self {
        Self { rules: self.rules.iter().chain(&*others.rules).cloned().collect(), ..self }
    }

    /// Sets how many bytes of a body are read at most. Default 64 KiB.
    ///
    /// # Errors
    ///
    /// A bound that is zero, or over 16 MiB.
    pub fn bound(mut self, bytes: usize) -> Result<Self, InvalidSetting> {
        if !(1..=MAX_BOUND).contains(&bytes) {
            return Err(invalid("rejection_bound", bytes, "must be from 1 byte to 16 MiB"));
        }
        self.bound = bytes;
        Ok(self)
    }

    /// Returns how many bytes of a body are read at most.
    pub fn body_bound(&self) -> usize {
        self.bound
    }

    /// Returns whether a rule concerns responses with this status.
    pub fn concerns(&self, status: u16) -> bool {
        self.rules.iter().any(|rule| rule.concerns(status))
    }

    /// Returns whether the body decides which rule matches a response with this status.
    pub fn needs_body(&self, status: u16) -> bool {
        self.rules.iter().find(|rule| rule.concerns(status)).is_some_and(Rejection::has_conditions)
    }

    /// Returns the first rule that matches a response. The body is empty if it could not be read: then no condition on it
    /// holds.
    pub fn matched(&self, status: u16, body: &[u8]) -> Option<&Rejection> {
        let body = Body::new(body);
        self.rules.iter().find(|rule| rule.matches(status, &body))
    }

    /// Returns the rules in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Rejection> {
        self.rules.iter()
    }
}
