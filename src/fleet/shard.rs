//! A member with its service, as each thread refers to it.

use std::sync::Arc;

use super::member::MemberInfo;
use crate::{
    health::Ticket,
    name::BackendName,
    outcome::{Event, Record},
    shard::{PerThread, SHARED},
};

/// A backend with its service, and what tells how its calls end.
pub(crate) struct Member<S, C> {
    pub(crate) info: Arc<MemberInfo>,
    pub(crate) service: S,
    pub(crate) classifier: C,
}

/// With the last of its calls, what listens to its circuit has heard it all.
impl<S, C> Drop for Member<S, C> {
    fn drop(&mut self) {
        self.info.close();
    }
}

/// A member as one thread refers to it: references are counted, and calls in flight with them, on a line of that
/// thread's own.
#[repr(C)]
pub(crate) struct Shard<S, C> {
    member: Arc<Member<S, C>>,
    /// The name, with a reference count of its own.
    pub(crate) name: BackendName,
    slot: usize,
    /// So that the counts of two shards never share a line.
    _apart: [u64; 8],
}

impl<S, C> Shard<S, C> {
    pub(crate) fn new(member: Arc<Member<S, C>>, slot: usize) -> Self {
        let name = if slot == SHARED { member.info.name.clone() } else { member.info.name.apart() };
        Self { member, name, slot, _apart: [0; 8] }
    }

    #[inline(always)]
    pub(crate) fn info(&self) -> &Arc<MemberInfo> {
        &self.member.info
    }

    #[inline(always)]
    pub(crate) fn service(&self) -> &S {
        &self.member.service
    }

    #[inline(always)]
    pub(crate) fn classifier(&self) -> &C {
        &self.member.classifier
    }
}

impl<S, C> PerThread for Shard<S, C> {
    #[inline]
    fn slot(&self) -> usize {
        self.slot
    }

    fn sibling(&self, slot: usize) -> Arc<Self> {
        Arc::new(Self::new(Arc::clone(&self.member), slot))
    }
}

impl<S: Send + Sync, C: Send + Sync> Record for Shard<S, C> {
    #[inline(always)]
    fn begin(&self) {
        self.info().begin();
    }

    #[inline(always)]
    fn end(&self) {
        self.info().end();
    }

    #[inline(always)]
    fn record(&self, ticket: &Ticket, event: Event<'_>) {
        self.info().record(ticket, event);
    }
}
