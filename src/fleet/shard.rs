//! A member with its service, and the reference to it of each thread.

use std::{
    any::Any,
    sync::{Arc, Weak},
};

use super::member::MemberInfo;
use crate::{
    health::{Sample, Ticket},
    name::BackendName,
    outcome::{Event, Meter, Record},
    shard::{PerThread, SHARED},
};

/// A backend with its service and its copy of the classifier.
pub(crate) struct Member<S, C> {
    pub(crate) info: Arc<MemberInfo>,
    pub(crate) service: S,
    pub(crate) classifier: C,
}

/// Ends the streams of its circuit's transitions: the last call ended, so there are no more.
impl<S, C> Drop for Member<S, C> {
    fn drop(&mut self) {
        self.info.close();
    }
}

/// The reference of one thread to a member. Its reference count is on a cache line that no other thread writes to.
#[repr(C)]
pub(crate) struct Shard<S, C> {
    member: Arc<Member<S, C>>,
    /// A copy of the name for this thread, with a reference count of its own.
    pub(crate) name: BackendName,
    slot: usize,
    /// Keeps the reference counts of two shards on different cache lines.
    _padding: [u64; 8],
}

impl<S, C> Shard<S, C> {
    pub(crate) fn new(member: Arc<Member<S, C>>, slot: usize) -> Self {
        let name = if slot == SHARED { member.info.name.clone() } else { member.info.name.padded() };
        Self { member, name, slot, _padding: [0; 8] }
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
    fn begin(&self, ticket: &mut Ticket) -> Meter {
        self.info().begin(ticket)
    }

    #[inline]
    fn begin_with_slot(&self, ticket: &mut Ticket) -> Meter {
        self.info().begin_with_slot(ticket)
    }

    #[inline(always)]
    fn end(&self, meter: Meter) {
        self.info().end(meter);
    }

    fn sample(&self, ticket: &Ticket, sample: Sample) {
        self.info().sample(ticket, sample);
    }

    #[cfg(feature = "http")]
    fn backend(&self) -> Option<&BackendName> {
        Some(&self.name)
    }

    #[inline(always)]
    fn record(&self, ticket: &Ticket, event: Event<'_>) {
        self.info().record(ticket, event);
    }
}

/// The strong references to a member, which the fleet owns.
pub(super) struct OwnedMember<S, C> {
    #[expect(dead_code, reason = "keeps the targets of `weak` alive")]
    shards: Box<[Arc<Shard<S, C>>]>,
    pub(super) weak: MemberRef<S, C>,
    /// What the service was made from, if [`Fleet::reconcile`](super::Fleet::reconcile) made it.
    pub(super) key: Option<Key>,
}

/// A key of any type.
pub(super) type Key = Arc<dyn Any + Send + Sync>;

impl<S, C> OwnedMember<S, C> {
    /// Creates a member with a reference for each of this many slots.
    pub(super) fn new(info: Arc<MemberInfo>, (service, classifier): (S, C), key: Option<Key>, slots: usize) -> Self {
        let member = Arc::new(Member { info, service, classifier });
        let shards: Box<[_]> = (0..slots).map(|slot| Arc::new(Shard::new(Arc::clone(&member), slot))).collect();
        let weak = match &*shards {
            [shard] => MemberRef::Single(Arc::downgrade(shard)),
            _ => MemberRef::PerSlot(shards.iter().map(Arc::downgrade).collect()),
        };
        Self { shards, weak, key }
    }
}

/// The references to one member: one for all threads, or one per slot.
///
/// They are weak, so that a door that is never polled again does not keep the services of removed backends alive.
pub(super) enum MemberRef<S, C> {
    Single(Weak<Shard<S, C>>),
    PerSlot(Arc<[Weak<Shard<S, C>>]>),
}

impl<S, C> MemberRef<S, C> {
    /// Returns the reference of a slot.
    #[inline(always)]
    pub(super) fn at(&self, slot: usize) -> &Weak<Shard<S, C>> {
        match self {
            Self::Single(shard) => shard,
            Self::PerSlot(shards) => shards.get(slot).unwrap_or(&shards[SHARED]),
        }
    }
}

impl<S, C> Clone for MemberRef<S, C> {
    fn clone(&self) -> Self {
        match self {
            Self::Single(shard) => Self::Single(Weak::clone(shard)),
            Self::PerSlot(shards) => Self::PerSlot(Arc::clone(shards)),
        }
    }
}
