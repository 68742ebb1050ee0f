//! A request body that is read, edited and sent.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes};
use http::{Request, request::Parts};
use http_body::Body;
use tower::BoxError;

use super::{
    apply::NotEdited,
    asked::Asked,
    head,
    refusal::{refused, unedited},
    settings::Settings,
};
use crate::{
    body::{Charge, PutBack},
    outcome::Note,
};

/// A request whose body is being read, and the service that was made ready for it.
pub(super) struct Reading<S, B> {
    service: S,
    head: Parts,
    body: B,
    read: Charged,
    settings: Arc<Settings>,
}

/// Data that is charged to a memory. Released with the last handle on its bytes.
struct Charged {
    data: Vec<u8>,
    charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// A request that can be sent.
pub(super) struct Edited<S, B> {
    /// Ready for this request.
    pub(super) service: S,
    pub(super) request: Request<B>,
    pub(super) note: Option<Note>,
    pub(super) asked: Option<Asked>,
}

/// How many frames one poll reads at most.
const MAX_FRAMES: u32 = 32;

/// The first step by which a buffer grows.
const SMALLEST_STEP: usize = 512;

impl<S, B> Reading<S, B>
where
    B: PutBack,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(service: S, request: Request<B>, settings: Arc<Settings>) -> Box<Self> {
        let (head, body) = request.into_parts();
        let read = Charged { data: Vec::new(), charge: Charge::new(settings.memory.clone()) };
        Box::new(Self { service, head, body, read, settings })
    }

    /// Ready when the body is read: to its end, or to where it cannot be edited any more.
    ///
    /// # Errors
    ///
    /// Returns the error of the body.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Result<(), NotEdited>, BoxError>> {
        for _ in 0..MAX_FRAMES {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else { return Poll::Ready(Ok(Ok(()))) };
            // The trailers of an edited body are not sent.
            let Ok(data) = frame.map_err(Into::into)?.into_data() else { continue };
            if let Err(reason) = self.read(data) {
                return Poll::Ready(Ok(Err(reason)));
            }
        }
        // Yields to the timers of the task, even if the body is always ready with another frame.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads the data of a frame. All of it is kept, also if it is too much.
    fn read(&mut self, data: B::Data) -> Result<(), NotEdited> {
        let Self { body, read: Charged { data: read, charge }, settings, .. } = self;
        let length = read.len().saturating_add(data.remaining());
        let mut kept = Ok(());
        if length > settings.bound {
            kept = Err(NotEdited::TooLarge);
        } else if length > read.capacity() {
            // The rest may be known. Else the buffer is doubled, so that a byte is moved about once.
            let known = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX).saturating_add(length);
            let doubled = read.capacity().saturating_mul(2).max(SMALLEST_STEP).max(known);
            let capacity = doubled.min(settings.bound).max(length);
            match charge.grow(capacity - read.capacity()) {
                true => read.reserve_exact(capacity - read.len()),
                false => kept = Err(NotEdited::NoMemory),
            }
        }
        read.put(data);
        kept
    }

    /// Returns the request with the edited body or, if that is the rule, as the caller sent it.
    ///
    /// # Errors
    ///
    /// Returns the error of a request that is not sent.
    pub(super) fn finish(self, kept: Result<(), NotEdited>) -> Result<Edited<S, B>, BoxError> {
        let Self { service, mut head, body, read, settings } = self;
        let edited = kept.and_then(|()| edited(&read, &settings));
        let asked = match &edited {
            Ok(_) if settings.renames => Asked::of(&read.data),
            _ => None,
        };
        let (body, note) = match edited {
            Ok(edited) => {
                // From here on, the caller's body is not waited for any more.
                drop(body);
                if edited.is_some() {
                    head::forget_content(&mut head.headers);
                }
                let data = edited.unwrap_or(read);
                head::set_length(&mut head.headers, data.data.len());
                (B::from(Bytes::from_owner(data)), None)
            }
            Err(reason) => {
                let note = unedited(&settings, reason)?;
                let whole = body.put_back(Bytes::from_owner(read)).ok_or_else(|| refused(reason))?;
                (whole, note)
            }
        };
        Ok(Edited { service, request: Request::from_parts(head, body), note, asked })
    }
}

/// Returns the edited text. `None` if nothing changes.
fn edited(read: &Charged, settings: &Settings) -> Result<Option<Charged>, NotEdited> {
    if settings.edits.is_empty() {
        return Ok(None);
    }
    let Some(data) = settings.edits.apply(&read.data, settings.unmapped)? else { return Ok(None) };
    let mut charge = Charge::new(settings.memory.clone());
    match charge.grow(data.capacity()) {
        true => Ok(Some(Charged { data, charge })),
        false => Err(NotEdited::NoMemory),
    }
}
