//! How a backend is called, and which one it is.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

use crate::setting::{Field, InvalidSetting};

/// The name of a backend: unique in its fleet, cheap to clone, safe to show.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendName(pub(crate) Arc<str>);

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
        &self.0
    }
}

/// Equal and hashed as its text.
impl Borrow<str> for BackendName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for BackendName {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for BackendName {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Which backend: a name may be given again, an id never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub(crate) u64);
