//! The kept data and trailers, in buffers of their own.
//!
//! A frame of a connection is a slice of its read buffer, and a slice keeps all of its buffer alive: a body that arrives
//! a byte at a time would hold 8 KiB for each byte. How large the buffer is `Bytes` tells only as the last handle on it.
//! So data is copied, small frames together, except for a large frame that is such a handle. What the bounds count is
//! then what a body holds. The reader that pulled a frame gets the frame itself, without a copy.

use std::{collections::VecDeque, mem};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Frame;

use super::{Unreplayable, trailers};

/// Larger buffers are not filled with small frames: a buffer is dropped as a whole, and growing copies it.
const LARGEST_BUFFER: usize = 64 * 1024;

/// From this size on, readers share data instead of copying it.
const LARGE: usize = 4 * 1024;

/// The first step by which a buffer grows.
const SMALLEST_STEP: usize = 256;

/// What a buffer, or the trailers, take besides their content: a [`Slot`] in a queue with as much room again, and the
/// reference count of the buffer.
pub(super) const SLOT_COST: usize = 2 * size_of::<Slot>() + 32;

/// The kept data and trailers in order.
///
/// A position counts the bytes of data from the start of the body; trailers count as one.
#[derive(Default)]
pub(super) struct Frames {
    // Inline, since most bodies have only one.
    front: Option<Slot>,
    rest: VecDeque<Slot>,
    /// The position after the last slot.
    end: u64,
    /// How many bytes count towards the limit of the body: those of the data, and all that the trailers take.
    weight: usize,
    /// How many bytes of memory are held.
    cost: usize,
}

/// A buffer or the trailers, and how many readers have yet to read some of it.
struct Slot {
    content: Content,
    /// Its first position.
    start: u64,
    readers: usize,
    /// What it is charged for.
    cost: usize,
}

enum Content {
    /// The last buffer, to which small frames are added.
    Open(Vec<u8>),
    /// A buffer that readers share.
    Sealed(Bytes),
    // Boxed: a map is several times the size of `Bytes`, and a body has one at most.
    Trailers(Box<HeaderMap>),
}

/// How a frame is going to be kept.
pub(super) struct Addition<'a> {
    frame: New<'a>,
    /// How many bytes are charged for it.
    pub(super) cost: usize,
    /// How far it moves the end.
    pub(super) span: u64,
}

enum New<'a> {
    /// Data that is added to the last buffer, which is given this capacity.
    Appended(&'a [u8], usize),
    /// Data for a buffer of its own.
    Copied(&'a [u8]),
    /// Data whose buffer is kept, since it is all of it.
    Shared(&'a Bytes),
    Trailers(&'a HeaderMap),
}

impl Frames {
    /// Whether there is something to read at `position`.
    pub(super) fn has(&self, position: u64) -> bool {
        self.front.as_ref().is_some_and(|front| front.start <= position) && position < self.end
    }

    /// The position after the last slot.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// How many bytes of memory are held.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Returns all that can be read at `position` as one frame, and the position after it.
    pub(super) fn read(&mut self, position: u64) -> Option<(Frame<Bytes>, u64)> {
        let slot = self.slot(position)?;
        // The position is inside the slot, so the offset is less than its length.
        let offset = (position - slot.start) as usize;
        // Less data is copied for each reader. Sealing it would leave a buffer for each frame that is read at once.
        let freed = if slot.len() >= LARGE { slot.seal() } else { 0 };
        let frame = match &slot.content {
            Content::Open(data) => Frame::data(Bytes::copy_from_slice(data.get(offset..).unwrap_or_default())),
            Content::Sealed(data) => Frame::data(data.slice(offset..)),
            Content::Trailers(trailers) => Frame::trailers(HeaderMap::clone(trailers)),
        };
        let end = slot.start + slot.len() as u64;
        self.cost -= freed;
        Some((frame, end))
    }

    /// The number of readers that have yet to read `position`, in the slot that it is in.
    pub(super) fn readers(&mut self, position: u64) -> Option<&mut usize> {
        self.slot(position).map(|slot| &mut slot.readers)
    }

    /// Returns how a frame is kept, whose data may be [all of its buffer](with_own_buffer); `None` if there is nothing in
    /// it.
    ///
    /// # Errors
    ///
    /// Returns [`Unreplayable::TooLarge`] if the body is over its limit with this frame.
    pub(super) fn plan<'a>(
        &self,
        frame: &'a Frame<Bytes>,
        has_own_buffer: bool,
        limit: usize,
    ) -> Result<Option<Addition<'a>>, Unreplayable> {
        let room = |weight: usize| {
            let room = limit.checked_sub(self.weight).and_then(|room| room.checked_sub(weight));
            room.ok_or(Unreplayable::TooLarge { limit })
        };
        if let Some(trailers) = frame.trailers_ref() {
            let weight = trailers::weight(trailers);
            room(weight)?;
            let cost = SLOT_COST.saturating_add(weight);
            return Ok(Some(Addition { frame: New::Trailers(trailers), cost, span: 1 }));
        }
        let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) else {
            return Ok(None);
        };
        let room = room(data.len())?;
        let (frame, cost) = match self.open() {
            _ if has_own_buffer => (New::Shared(data), data.len().saturating_add(SLOT_COST)),
            Some(open) if data.len() <= LARGEST_BUFFER.saturating_sub(open.len()) => {
                let capacity = grown(open, data.len(), room);
                (New::Appended(data, capacity), capacity - open.capacity())
            }
            _ => (New::Copied(data), data.len().saturating_add(SLOT_COST)),
        };
        Ok(Some(Addition { frame, cost, span: data.len() as u64 }))
    }

    /// Adds a frame as planned.
    pub(super) fn add(&mut self, Addition { frame, cost, span }: Addition<'_>) {
        let content = match frame {
            New::Appended(data, capacity) => return self.append(data, capacity),
            New::Copied(data) => Content::Open(data.to_vec()),
            New::Shared(data) => Content::Sealed(data.clone()),
            New::Trailers(trailers) => Content::Trailers(Box::new(trailers::copy(trailers))),
        };
        self.seal();
        let slot = Slot { content, start: self.end, readers: 0, cost };
        self.cost += cost;
        self.weight += slot.weight();
        self.end += span;
        self.push(slot);
    }

    /// Ends the last buffer, which is then shared by its readers. Gives back the memory that it does not use.
    pub(super) fn seal(&mut self) {
        if let Some(last) = self.rest.back_mut().or(self.front.as_mut()) {
            self.cost -= last.seal();
        }
    }

    /// Takes out the slots at the front that all readers have passed.
    pub(super) fn take_passed(&mut self) -> Self {
        let mut passed = Self::default();
        while let Some(slot) = self.front.take_if(|slot| slot.readers == 0) {
            self.front = self.rest.pop_front();
            self.weight -= slot.weight();
            self.cost -= slot.cost;
            passed.push(slot);
        }
        passed
    }

    fn slot(&mut self, position: u64) -> Option<&mut Slot> {
        if !self.has(position) {
            return None;
        }
        // The last one that starts at the position or before it.
        match self.rest.partition_point(|slot| slot.start <= position).checked_sub(1) {
            None => self.front.as_mut(),
            Some(index) => self.rest.get_mut(index),
        }
    }

    fn open(&self) -> Option<&Vec<u8>> {
        match &self.rest.back().or(self.front.as_ref())?.content {
            Content::Open(data) => Some(data),
            Content::Sealed(_) | Content::Trailers(_) => None,
        }
    }

    fn append(&mut self, data: &[u8], capacity: usize) {
        if let Some(last) = self.rest.back_mut().or(self.front.as_mut())
            && let Content::Open(open) = &mut last.content
        {
            let grown = capacity - open.capacity();
            open.reserve_exact(capacity - open.len());
            open.extend_from_slice(data);
            last.cost += grown;
            self.cost += grown;
            self.weight += data.len();
            self.end += data.len() as u64;
        }
    }

    fn push(&mut self, slot: Slot) {
        match self.front {
            None => self.front = Some(slot),
            Some(_) => self.rest.push_back(slot),
        }
    }
}

impl Slot {
    /// How many positions it has.
    fn len(&self) -> usize {
        match &self.content {
            Content::Open(data) => data.len(),
            Content::Sealed(data) => data.len(),
            Content::Trailers(_) => 1,
        }
    }

    fn weight(&self) -> usize {
        match &self.content {
            Content::Open(_) | Content::Sealed(_) => self.len(),
            Content::Trailers(_) => self.cost - SLOT_COST,
        }
    }

    /// Ends an open buffer. Returns how much memory that gives back.
    fn seal(&mut self) -> usize {
        let Content::Open(data) = &mut self.content else {
            return 0;
        };
        let mut data = mem::take(data);
        data.shrink_to_fit();
        let cost = self.cost.min(data.len() + SLOT_COST);
        self.content = Content::Sealed(Bytes::from(data));
        mem::replace(&mut self.cost, cost) - cost
    }
}

/// Converts the data of a frame to `Bytes`, which can be shared. If it is `Bytes` already, nothing is copied.
pub(crate) fn into_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

/// Returns whether the frame is large and holds a buffer of its own, without a byte more than its data. A body that was
/// made in memory has such a buffer, or gets it here by giving back what it does not use.
pub(super) fn with_own_buffer(frame: Frame<Bytes>) -> (Frame<Bytes>, bool) {
    let data = match frame.into_data() {
        Ok(data) if data.len() >= LARGE && data.is_unique() => data,
        Ok(data) => return (Frame::data(data), false),
        Err(frame) => return (frame, false),
    };
    // Without a copy: it is the only handle, so it takes its buffer along.
    let mut buffer = Vec::from(data);
    buffer.shrink_to_fit();
    (Frame::data(Bytes::from(buffer)), true)
}

/// The capacity of an open buffer to which `added` bytes are added. Doubled, so that a byte is moved about once; but not
/// to more than the `room` of the body, so that all of its buffers together stay within its limit.
fn grown(open: &Vec<u8>, added: usize, room: usize) -> usize {
    let len = open.len() + added;
    if len <= open.capacity() {
        return open.capacity();
    }
    let doubled = open.capacity().saturating_mul(2).clamp(SMALLEST_STEP, LARGEST_BUFFER);
    doubled.min(len.saturating_add(room)).max(len)
}
