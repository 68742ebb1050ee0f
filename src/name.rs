//! How a backend is called, and which one it is.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

use crate::setting::{Field, InvalidSetting};

/// The name of a backend: unique in its fleet, cheap to clone, safe to show.
#[derive(Clone)]
pub struct BackendName(Arc<str>);

impl BackendName {
    const LONGEST: usize = 128;

    /// Refuses what is not safe to show everywhere.
    pub(crate) fn checked(name: &Arc<str>) -> Result<Self, InvalidSetting> {
        if name.is_empty() {
            Err(InvalidSetting::new("", Field::Name, "", "must not be empty"))
        } else if name.len() > Self::LONGEST {
            Err(InvalidSetting::new("", Field::Name, name, "must have at most 128 bytes"))
        } else if !name.bytes().all(Self::is_safe) {
            Err(InvalidSetting::new("", Field::Name, name, "may hold ASCII letters, digits and -_.:/[] only"))
        } else {
            Ok(Self(Arc::clone(name)))
        }
    }

    /// The same name where no other memory is near, for one thread to count its references: filled up to the longest,
    /// and its length behind.
    pub(crate) fn apart(&self) -> Self {
        let len = char::from(u8::try_from(self.len()).expect("it is at most the longest"));
        if self.len() < Self::LONGEST {
            Self(format!("{:<1$}{len}", &**self, Self::LONGEST).into())
        } else {
            self.clone()
        }
    }

    /// A name as near to this as one may be: for keys that come with requests.
    pub(crate) fn lossy(name: &str) -> Self {
        let safe = |byte: u8| if Self::is_safe(byte) { char::from(byte) } else { '_' };
        Self(name.bytes().take(Self::LONGEST).map(safe).collect::<String>().into())
    }

    fn is_safe(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || b"-_.:/[]".contains(&byte)
    }
}

impl Deref for BackendName {
    type Target = str;

    fn deref(&self) -> &str {
        match self.0.as_bytes().get(Self::LONGEST) {
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

/// Equal and hashed as its text.
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

/// Which backend: a name may be given again, an id never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub(crate) u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_apart_is_the_same_name() {
        for len in [1, 2, 10, 127, 128] {
            let name = BackendName::lossy(&"a".repeat(len));
            let apart = name.apart();
            assert_eq!((apart.len(), &apart, apart.apart()), (len, &name, name.clone()));
            assert_eq!((apart.to_string(), format!("{apart:?}")), (name.to_string(), format!("{name:?}")));
            assert!(std::collections::HashSet::from([name]).contains(&*apart));
        }
    }
}
