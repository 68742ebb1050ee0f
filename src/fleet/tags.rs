//! The tags of a backend.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::{name::tag_fault, setting::InvalidSetting};

/// The checked tags of a backend, in ascending order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tags(Vec<Arc<str>>);

/// The tags of a member. Written under the fleet's lock; most members of a large fleet have none.
#[derive(Debug, Default)]
pub(super) struct MemberTags(ArcSwapOption<Tags>);

/// Far more than the kinds of requests that are told apart.
const MAX_TAGS: usize = 32;

impl Tags {
    /// Checks the tags of a backend. `None` if it has none.
    pub(super) fn checked(backend: &str, tags: &[Arc<str>]) -> Result<Option<Arc<Self>>, InvalidSetting> {
        if let Some((tag, reason)) = tags.iter().find_map(|tag| Some((tag, tag_fault(tag)?))) {
            return Err(InvalidSetting::of_backend(backend, "tags", format_args!("`{tag}`"), reason));
        }
        if tags.len() > MAX_TAGS {
            return Err(InvalidSetting::of_backend(backend, "tags", tags.len(), "must be at most 32"));
        }
        let mut tags = tags.to_vec();
        tags.sort_unstable();
        if let Some(twice) = tags.windows(2).find(|two| two[0] == two[1]) {
            return Err(InvalidSetting::of_backend(backend, "tags", format_args!("`{}`", twice[0]), "is set twice"));
        }
        Ok((!tags.is_empty()).then(|| Arc::new(Self(tags))))
    }
}

impl MemberTags {
    pub(super) fn list(&self) -> Vec<Arc<str>> {
        self.0.load().as_ref().map_or_else(Vec::new, |tags| tags.0.clone())
    }

    /// Returns whether these are the tags.
    pub(super) fn are(&self, tags: &Option<Arc<Tags>>) -> bool {
        *self.0.load() == *tags
    }

    /// Sets the tags. Returns whether they changed.
    pub(super) fn set(&self, tags: &Option<Arc<Tags>>) -> bool {
        let is_changed = !self.are(tags);
        if is_changed {
            self.0.store(tags.clone());
        }
        is_changed
    }

    /// Returns whether the member has this tag.
    pub(super) fn has(&self, tag: &str) -> bool {
        self.0.load().as_ref().is_some_and(|tags| tags.0.binary_search_by(|own| (**own).cmp(tag)).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Backend, Fleet};

    fn tags(fleet: &Fleet<()>) -> Vec<String> {
        fleet.snapshot()[0].tags.iter().map(|tag| tag.to_string()).collect()
    }

    // C72
    #[test]
    fn tags_change_in_place() {
        let with = |tags: &[&'static str]| tags.iter().fold(Backend::new("a", ()), |backend, tag| backend.tag(*tag));
        let fleet = Fleet::builder().build().unwrap();
        let reconcile = |tags| fleet.reconcile([with(tags)], |_| ()).unwrap();
        assert_eq!(reconcile(&["vision", "larger-context"]).inserted.len(), 1);
        assert_eq!(tags(&fleet), ["larger-context", "vision"]);
        let id = fleet.snapshot()[0].id;
        // In another order they are the same.
        assert_eq!(reconcile(&["larger-context", "vision"]).unchanged, 1);
        assert_eq!(reconcile(&["vision"]).updated, ["a"]);
        assert_eq!((tags(&fleet), fleet.snapshot()[0].id), (vec!["vision".to_owned()], id));
        assert_eq!((reconcile(&[]).updated.len(), tags(&fleet).len()), (1, 0));
        assert_eq!(reconcile(&[]).unchanged, 1);
    }

    // C72
    #[test]
    fn a_member_has_its_own_tags_only() {
        let tags = ["a", "c", "b"].map(Arc::from);
        let member = MemberTags::default();
        member.set(&Tags::checked("x", &tags).unwrap());
        assert_eq!(["a", "b", "c", "d", "", "A"].map(|tag| member.has(tag)), [true, true, true, false, false, false]);
        assert!(!MemberTags::default().has("a"));
    }

    // C58, C60, C72
    #[test]
    fn a_tag_that_is_not_safe_is_refused_by_name() {
        let refusal = |tags: Vec<String>| {
            let backend = tags.into_iter().fold(Backend::new("x", ()), |backend, tag| backend.tag(tag));
            Fleet::builder().backend(backend).build().unwrap_err().to_string()
        };
        for (tag, reason) in [
            ("", "tags `` must not be empty"),
            ("a b", "tags `a b` may hold ASCII letters, digits and -_.:/[] only"),
            ("<b>", "tags `<b>` may hold ASCII letters, digits and -_.:/[] only"),
        ] {
            assert_eq!(refusal(vec![tag.into()]), format!("backend `x`: {reason}"));
        }
        assert!(refusal(vec!["t".repeat(65)]).ends_with("must have at most 64 bytes"));
        assert!(refusal(vec!["t".repeat(100_000)]).len() < 300);
        assert_eq!(refusal(vec!["a".into(), "b".into(), "a".into()]), "backend `x`: tags `a` is set twice");
        let many = (0..33).map(|number| number.to_string()).collect();
        assert_eq!(refusal(many), "backend `x`: tags 33 must be at most 32");
    }
}
