//! The setting of the builder.

#[cfg(test)]
use super::super::FailoverLayer;
use super::{
    super::{FailoverBuilder, Follow},
    rule::Rejection,
    rules::Rejections,
};

impl FailoverBuilder {
    /// Tells rejections apart by their status and body, and sets what follows each of them. Default none: a response is
    /// judged by its status alone.
    ///
    /// A rule that matches takes precedence over the [triggers](Self::triggers).
    pub fn rejections(mut self, rejections: Rejections) -> Self {
        self.settings.later = rejections.iter().find(|rule| rule.follow() == Follow::Later).map(Rejection::name);
        self.protocol = self.protocol.rejections(rejections);
        self
    }
}

#[cfg(test)]
impl FailoverLayer {
    /// Returns the rules, for the tests of files.
    pub(crate) fn rejections(&self) -> Option<&Rejections> {
        self.policy.protocol.rejections.as_ref()
    }
}
