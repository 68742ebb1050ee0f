//! The kept frames, and how many readers have yet to read each.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Frame;

/// A frame that can be read again.
pub(super) enum KeptFrame {
    Data(Bytes),
    // Boxed: a map is several times the size of `Bytes`, and a body has one at most.
    Trailers(Box<HeaderMap>),
}

/// A kept frame, and how many readers have it as their next frame.
pub(super) struct Slot {
    pub(super) frame: KeptFrame,
    pub(super) readers: usize,
}

/// The kept frames in order. The first one is inline, since most bodies have only one.
#[derive(Default)]
pub(super) struct Frames {
    front: Option<Slot>,
    rest: VecDeque<Slot>,
}

impl KeptFrame {
    /// A copy of `frame`; `None` if there is nothing in it for another reader.
    pub(super) fn of(frame: &Frame<Bytes>) -> Option<Self> {
        if let Some(data) = frame.data_ref() {
            return (!data.is_empty()).then(|| Self::Data(data.clone()));
        }
        frame.trailers_ref().map(|trailers| Self::Trailers(Box::new(trailers.clone())))
    }

    /// The frame as a reader gets it.
    pub(super) fn frame(&self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data.clone()),
            Self::Trailers(trailers) => Frame::trailers(HeaderMap::clone(trailers)),
        }
    }

    /// How many bytes of data it has.
    pub(super) fn data_len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(_) => 0,
        }
    }

    /// How many bytes count towards the bounds.
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

    /// Removes and returns the first frame, if all readers have passed it.
    pub(super) fn pop_passed(&mut self) -> Option<Slot> {
        let passed = self.front.take_if(|slot| slot.readers == 0)?;
        self.front = self.rest.pop_front();
        Some(passed)
    }
}

/// Converts the data of a frame to `Bytes`, which can be shared. If it is `Bytes` already, nothing is copied.
pub(super) fn into_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}
