//! The response body that names the model that was asked for.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{asked::Asked, head, lines::Lines};
use crate::body::into_bytes;

/// A larger response, and a longer line of an event stream, is not edited.
const BOUND: usize = 1024 * 1024;

pin_project! {
    /// The response body of a [`JsonEdit`](super::JsonEdit): that of the backend or, with
    /// [`ResponseModel::AsAsked`](super::ResponseModel::AsAsked), with another model in it.
    ///
    /// A JSON response is held back until it is complete or larger than 1 MiB. An event of a stream is never held back.
    pub struct EditedBody<B>
    where
        B: Body,
    {
        #[pin]
        inner: B,
        // `None` if the rest is passed on as it is.
        editing: Option<Box<Editing<B::Error>>>,
    }
}

struct Editing<E> {
    asked: Box<Asked>,
    content: Content,
    /// What follows the content, once that is known.
    last: Option<Last<E>>,
}

/// The trailers, an error, or nothing.
type Last<E> = Option<Result<Frame<Bytes>, E>>;

enum Content {
    /// A JSON text that is not complete.
    Whole(Vec<u8>),
    Events(Lines),
}

impl<B: Body> EditedBody<B> {
    /// The response with the model that was asked for, if there is one.
    pub(super) fn of(mut response: Response<B>, asked: Option<Box<Asked>>) -> Response<Self> {
        let content = asked.as_ref().and_then(|_| content(&response));
        let editing = asked.zip(content).map(|(asked, content)| {
            head::forget_content(response.headers_mut());
            Box::new(Editing { asked, content, last: None })
        });
        response.map(|inner| Self { inner, editing })
    }

    /// Returns the inner body.
    pub fn inner(&self) -> &B {
        &self.inner
    }
}

/// How the body of a response is edited, if it is.
fn content<B: Body>(response: &Response<B>) -> Option<Content> {
    let (headers, body) = (response.headers(), response.body());
    // A part of a body is no JSON text, and a changed protocol has no body.
    let has_content = !matches!(response.status(), StatusCode::PARTIAL_CONTENT | StatusCode::SWITCHING_PROTOCOLS);
    if !has_content || body.is_end_stream() || head::is_encoded(headers) {
        None
    } else if head::is_event_stream(headers) {
        Some(Content::Events(Lines::new(BOUND)))
    } else if head::is_json(headers) && body.size_hint().lower() <= BOUND as u64 {
        Some(Content::Whole(Vec::new()))
    } else {
        None
    }
}

/// What a frame of data is edited to.
enum Read {
    /// This data, which may be empty.
    Data(Bytes),
    /// This data, after which the body is passed on as it is.
    Pass(Bytes),
}

impl<E> Editing<E> {
    fn read(&mut self, data: impl Buf) -> Read {
        let Self { asked, content, .. } = self;
        match content {
            Content::Whole(read) => {
                let is_too_large = data.remaining() > BOUND.saturating_sub(read.len());
                read.put(data);
                if is_too_large { Read::Pass(mem::take(read).into()) } else { Read::Data(Bytes::new()) }
            }
            Content::Events(lines) => {
                let mut data = data;
                let data = data.copy_to_bytes(data.remaining());
                Read::Data(lines.read(data, |data| asked.named_in(data)))
            }
        }
    }

    /// The rest, when the body has ended well or with an error.
    fn rest(&mut self, is_whole: bool) -> Bytes {
        match &mut self.content {
            Content::Whole(read) => {
                let read = mem::take(read);
                let edited = if is_whole { self.asked.named_in(&read) } else { None };
                edited.unwrap_or(read).into()
            }
            Content::Events(lines) => lines.rest(),
        }
    }

    fn is_empty(&self) -> bool {
        let is_read = match &self.content {
            Content::Whole(read) => read.is_empty(),
            Content::Events(lines) => lines.is_empty(),
        };
        is_read && matches!(self.last, None | Some(None))
    }
}

/// How many frames one poll reads at most.
const MAX_FRAMES: u32 = 32;

impl<B: Body> Body for EditedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        for _ in 0..MAX_FRAMES {
            let Some(editing) = this.editing.as_mut() else {
                return this.inner.poll_frame(cx).map(|frame| frame.map(|frame| frame.map(into_bytes)));
            };
            if let Some(last) = editing.last.take() {
                *this.editing = None;
                return Poll::Ready(last);
            }
            let data = match ready!(this.inner.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => match editing.read(data) {
                        Read::Data(data) => data,
                        Read::Pass(data) => {
                            *this.editing = None;
                            data
                        }
                    },
                    Err(frame) => {
                        editing.last = frame.into_trailers().ok().map(|trailers| Some(Ok(Frame::trailers(trailers))));
                        editing.rest(true)
                    }
                },
                Some(Err(error)) => {
                    editing.last = Some(Some(Err(error)));
                    editing.rest(false)
                }
                None => {
                    editing.last = Some(None);
                    editing.rest(true)
                }
            };
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
        // Yields to the task, even if the body is always ready with another frame.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.editing.as_ref().is_none_or(|editing| editing.is_empty()) && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.editing.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}

/// An empty body, for middleware that makes responses of its own.
impl<B: Body + Default> Default for EditedBody<B> {
    fn default() -> Self {
        Self { inner: B::default(), editing: None }
    }
}

/// Does not show the inner body, which may hold data that must not be logged.
impl<B: Body> fmt::Debug for EditedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EditedBody").field("is_edited", &self.editing.is_some()).finish_non_exhaustive()
    }
}
