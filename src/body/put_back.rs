//! Request bodies that were read in part, or as a whole, and are sent nevertheless.

use std::mem;

use bytes::Bytes;
use http_body::{Body, SizeHint};

use super::replay_body::{Inner, ReplayBody};

/// A request body that can be replaced, and that takes back what was read of it: for a service that reads a body before it
/// decides how to send it, such as `JsonEdit` (feature `json`).
///
/// [`ReplayBody`] is one, so requests of a [`Failover`](crate::Failover) have such a body. In front of another door, a
/// [`ReplayLayer`](super::ReplayLayer) makes one of any body.
pub trait PutBack: Body + From<Bytes> + Unpin {
    /// Returns a body with `read`, and then the rest of this one. `None` if the type cannot do that, which is the default.
    fn put_back(self, read: Bytes) -> Option<Self> {
        let _ = read;
        None
    }
}

impl<B: Body + Unpin> PutBack for ReplayBody<B> {
    fn put_back(mut self, read: Bytes) -> Option<Self> {
        if let Inner::Ended { is_whole: true, .. } = self.inner {
            self.inner = Self::from(read.clone()).inner;
        } else if !read.is_empty() {
            self.inner = Inner::PutBack(read.clone(), Box::new(self.inner));
        }
        self.owed = self.owed.saturating_add(read.len() as u64);
        Some(self)
    }
}

impl<B> ReplayBody<B> {
    /// Takes out the data that was put back.
    pub(super) fn take_back(&mut self) -> Option<Bytes> {
        match mem::replace(&mut self.inner, Inner::Empty) {
            Inner::PutBack(data, rest) => {
                self.inner = *rest;
                Some(data)
            }
            inner => {
                self.inner = inner;
                None
            }
        }
    }
}

impl<B: Body> Inner<B> {
    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Ended { is_whole: true, .. } => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::PutBack(data, rest) => {
                let (rest, length) = (rest.size_hint(), data.len() as u64);
                let mut hint = SizeHint::new();
                // `SizeHint` panics if the bounds cross. Saturating both of them keeps their order.
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(length));
                }
                hint.set_lower(rest.lower().saturating_add(length));
                hint
            }
            Self::Shared(reader) => reader.size_hint(),
            Self::PassThrough { source, .. } => source.size_hint(),
            Self::Ended { is_whole: false, .. } => SizeHint::default(),
        }
    }
}

/// A body of these bytes, which stay in memory: for requests that have no caller, such as [probes](crate::probe).
///
/// They are not charged to any [`ReplayMemory`](super::ReplayMemory).
impl<B> From<Bytes> for ReplayBody<B> {
    fn from(bytes: Bytes) -> Self {
        match bytes.len() {
            0 => Self::default(),
            length => Self { inner: Inner::Whole(bytes), owed: length as u64, uploading: None },
        }
    }
}
