//! The frames that are kept, and who still needs them.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Frame;

/// A frame that can be read again.
pub(super) enum Kept {
    Data(Bytes),
    // Boxed: a map is several times the size of a data frame, and there is one at most.
    Trailers(Box<HeaderMap>),
}

/// A kept frame, and how many readers have it as their next.
pub(super) struct Slot {
    pub(super) frame: Kept,
    pub(super) readers: usize,
}

/// Kept frames in their order. The first one lives inline: most bodies have no other.
#[derive(Default)]
pub(super) struct Frames {
    front: Option<Slot>,
    rest: VecDeque<Slot>,
}

impl Kept {
    /// A copy of `frame`; `None` when there is nothing in it that a reader would miss.
    pub(super) fn of(frame: &Frame<Bytes>) -> Option<Self> {
        if let Some(data) = frame.data_ref() {
            return (!data.is_empty()).then(|| Self::Data(data.clone()));
        }
        frame.trailers_ref().map(|trailers| Self::Trailers(Box::new(trailers.clone())))
    }

    /// What a reader gets.
    pub(super) fn frame(&self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data.clone()),
            Self::Trailers(trailers) => Frame::trailers(HeaderMap::clone(trailers)),
        }
    }

    /// Bytes of the body.
    pub(super) fn data_len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(_) => 0,
        }
    }

    /// Bytes that count towards the bounds.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(trailers) => {
                trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).fold(0, usize::saturating_add)
            }
        }
    }
}

impl Frames {
    pub(super) fn len(&self) -> usize {
        usize::from(self.front.is_some()) + self.rest.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Slot> {
        match index.checked_sub(1) {
            None => self.front.as_ref(),
            Some(index) => self.rest.get(index),
        }
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Slot> {
        match index.checked_sub(1) {
            None => self.front.as_mut(),
            Some(index) => self.rest.get_mut(index),
        }
    }

    pub(super) fn push(&mut self, slot: Slot) {
        match self.front {
            None => self.front = Some(slot),
            Some(_) => self.rest.push_back(slot),
        }
    }

    /// The first frame, if no reader has it or any earlier one before it.
    pub(super) fn pop_passed(&mut self) -> Option<Slot> {
        let passed = self.front.take_if(|slot| slot.readers == 0)?;
        self.front = self.rest.pop_front();
        Some(passed)
    }
}

/// The bytes of a frame as they can be shared: for a source of `Bytes` nothing is copied.
pub(super) fn into_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}
