//! One rule: which responses it matches, and what follows.

use super::{
    super::Follow,
    condition::{Body, Condition},
};
#[cfg(feature = "json")]
use crate::{content::JsonPath, setting::InvalidSetting};
use crate::{name::tag_fault, outcome::Statuses};

/// A rule: what a response with an error status means, told by its status and its body.
///
/// A response matches if its status is one of the rule's and all conditions on the body hold; of the texts of one
/// condition, one is enough. A rule without conditions matches by the status alone. The name is shown in the ledger.
///
/// ```
/// use tower_fleet::{failover::{Follow, Rejection, Rejections}, outcome::Statuses};
///
/// let too_long = Rejection::new("context length")
///     .statuses(Statuses::none().and(400)?.and(413)?)
///     .contains(["maximum context length", "prompt is too long"])
///     .then(Follow::Tagged("larger-context"));
/// let rejections = Rejections::new([too_long])?;
///
/// let rule = rejections.matched(400, b"Prompt is too long: 9000 tokens").expect("the text is there");
/// assert_eq!((rule.name(), rule.follow()), ("context length", Follow::Tagged("larger-context")));
/// assert!(rejections.matched(400, b"temperature must be a number").is_none());
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a rule does nothing until it is part of `Rejections`"]
pub struct Rejection {
    name: &'static str,
    statuses: Statuses,
    conditions: Vec<Condition>,
    follow: Follow,
    is_failure: bool,
}

impl Rejection {
    /// Creates a rule for no status, after which the [next](Follow::Next) backend gets the request.
    ///
    /// The name must have 1 to 64 ASCII letters, digits, spaces and `-_.:/[]`. Several rules may have the same name.
    pub fn new(name: &'static str) -> Self {
        Self { name, statuses: Statuses::none(), conditions: Vec::new(), follow: Follow::Next, is_failure: false }
    }

    /// Sets the statuses, which are error statuses: 400 and above.
    pub fn statuses(mut self, statuses: Statuses) -> Self {
        self.statuses = statuses;
        self
    }

    /// Adds a condition: a value at this [path](crate::content::JsonPath) is one of these texts. Numbers and booleans are
    /// compared as they are written.
    ///
    /// # Errors
    ///
    /// A path that is empty, or has an empty segment.
    #[cfg(feature = "json")]
    pub fn json<T: Into<String>>(
        mut self,
        path: &str,
        any: impl IntoIterator<Item = T>,
    ) -> Result<Self, InvalidSetting> {
        let path: JsonPath = path.parse()?;
        self.conditions.push(Condition::json(path, any.into_iter().map(Into::into)));
        Ok(self)
    }

    /// Adds a condition: one of these texts is somewhere in the body, in upper or lower case.
    pub fn contains<T: Into<String>>(mut self, any: impl IntoIterator<Item = T>) -> Self {
        self.conditions.push(Condition::contains(any.into_iter().map(Into::into)));
        self
    }

    /// Sets what follows. Default [`Follow::Next`].
    pub fn then(mut self, follow: Follow) -> Self {
        self.follow = follow;
        self
    }

    /// Sets whether the response is a failure of its backend, for its circuit. Default `false`: most rejections are
    /// faults of the request, and another one would be served.
    pub fn counts(mut self, is_failure: bool) -> Self {
        self.is_failure = is_failure;
        self
    }

    /// Returns the name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns what follows.
    pub fn follow(&self) -> Follow {
        self.follow
    }

    /// Returns whether the response is a failure of its backend, for its circuit.
    pub fn is_failure(&self) -> bool {
        self.is_failure
    }

    pub(super) fn concerns(&self, status: u16) -> bool {
        self.statuses.contains(status)
    }

    pub(super) fn has_conditions(&self) -> bool {
        !self.conditions.is_empty()
    }

    pub(super) fn matches(&self, status: u16, body: &Body<'_>) -> bool {
        self.concerns(status) && self.conditions.iter().all(|condition| condition.holds(body))
    }

    /// Whether one of the `earlier` rules matches whenever this one does, at each of its statuses.
    pub(super) fn is_hidden_by(&self, earlier: &[Self]) -> bool {
        // A condition of the other rule holds if one of this rule implies it.
        let follows = |other: &Condition| self.conditions.iter().any(|own| own.implies(other));
        let hiding: Vec<_> = earlier.iter().filter(|other| other.conditions.iter().all(follows)).collect();
        self.statuses.iter().all(|status| hiding.iter().any(|other| other.concerns(status)))
    }

    /// The key, the value and the reason, if the rule by itself is refused.
    pub(super) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        if let Some(reason) = name_fault(self.name) {
            return Some(("name", format!("\"{}\"", self.name), reason));
        }
        match self.statuses.iter().next() {
            None => return Some(("statuses", "[]".into(), "must not be empty: the rule never matches")),
            Some(status @ ..400) => return Some(("statuses", status.to_string(), "must be an error status, from 400")),
            Some(_) => {}
        }
        if let Follow::Tagged(tag) = self.follow
            && let Some(reason) = tag_fault(tag)
        {
            return Some(("then.tagged", format!("\"{tag}\""), reason));
        }
        self.conditions.iter().find_map(Condition::fault)
    }
}

/// The reason why a text is no name of a rule: names are shown in ledgers and logs.
pub(super) fn name_fault(name: &str) -> Option<&'static str> {
    // A space separates words; other than that, it is a tag.
    tag_fault(&name.replace(' ', "-")).map(|_| "must have 1 to 64 ASCII letters, digits, spaces and -_.:/[]")
}
