//! The name and the id of a backend.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

use crate::setting::InvalidSetting;

/// The name of a backend: unique in its fleet, cheap to clone, safe to show.
///
/// It has 1 to 128 bytes of ASCII letters, digits and `-_.:/[]`, so it can be put into headers, logs, metrics and pages
/// without escaping. It derefs to `str` and compares with one.
///
/// ```
/// # use tower_fleet::{Backend, Fleet};
/// let fleet = Fleet::plain().backend(Backend::new("eu-1", ())).build()?;
/// assert_eq!(fleet.snapshot()[0].name, "eu-1");
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
#[derive(Clone)]
pub struct BackendName(Arc<str>);

impl BackendName {
    const MAX_LEN: usize = 128;

    /// Checks a name that the caller chose.
    ///
    /// # Errors
    ///
    /// A name that is empty, too long, or not safe to show.
    pub(crate) fn checked(name: &Arc<str>) -> Result<Self, InvalidSetting> {
        if name.is_empty() {
            Err(InvalidSetting::of_name("", "must not be empty"))
        } else if name.len() > Self::MAX_LEN {
            Err(InvalidSetting::of_name(name, "must have at most 128 bytes"))
        } else if !name.bytes().all(Self::is_safe) {
            Err(InvalidSetting::of_name(name, "may hold ASCII letters, digits and -_.:/[] only"))
        } else {
            Ok(Self(Arc::clone(name)))
        }
    }

    /// Copies the name into an allocation of its own, so that one thread counts its references on cache lines that no
    /// other thread writes to.
    ///
    /// The text is padded to `MAX_LEN` bytes, and its length follows in one more byte.
    pub(crate) fn padded(&self) -> Self {
        let len = char::from(u8::try_from(self.len()).expect("a name is at most MAX_LEN bytes long"));
        if self.len() < Self::MAX_LEN {
            Self(format!("{:<1$}{len}", &**self, Self::MAX_LEN).into())
        } else {
            self.clone()
        }
    }

    /// Converts any text to a name that is safe to show: unsafe bytes become `_`, and a long text is cut off. For keys
    /// that come with requests.
    pub(crate) fn lossy(name: &str) -> Self {
        let safe = |byte: u8| if Self::is_safe(byte) { char::from(byte) } else { '_' };
        Self(name.bytes().take(Self::MAX_LEN).map(safe).collect::<String>().into())
    }

    fn is_safe(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || b"-_.:/[]".contains(&byte)
    }
}

impl Deref for BackendName {
    type Target = str;

    fn deref(&self) -> &str {
        match self.0.as_bytes().get(Self::MAX_LEN) {
            Some(len) => &self.0[..usize::from(*len)],
            None => &self.0,
        }
    }
}

impl PartialEq for BackendName {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for BackendName {}

impl PartialOrd for BackendName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for BackendName {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(other)
    }
}

impl Hash for BackendName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// A name is equal to its text and has the same hash.
impl Borrow<str> for BackendName {
    fn borrow(&self) -> &str {
        self
    }
}

impl PartialEq<str> for BackendName {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for BackendName {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Returns the reason why a text is no tag of a backend: tags are shown where names are.
pub(crate) fn tag_fault(tag: &str) -> Option<&'static str> {
    if tag.is_empty() {
        Some("must not be empty")
    } else if tag.len() > 64 {
        Some("must have at most 64 bytes")
    } else {
        let is_safe = tag.bytes().all(BackendName::is_safe);
        (!is_safe).then_some("may hold ASCII letters, digits and -_.:/[] only")
    }
}

/// The id of a backend in its fleet. A name may be used again for another backend; an id never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub(crate) u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_name_equals_the_original() {
        for len in [1, 2, 10, 127, 128] {
            let name = BackendName::lossy(&"a".repeat(len));
            let padded = name.padded();
            assert_eq!((padded.len(), &padded, padded.padded()), (len, &name, name.clone()));
            assert_eq!((padded.to_string(), format!("{padded:?}")), (name.to_string(), format!("{name:?}")));
            assert!(std::collections::HashSet::from([name]).contains(&*padded));
        }
    }
}
