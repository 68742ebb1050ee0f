//! The service that edits the JSON bodies of requests.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower::BoxError;
use tower_service::Service;

use super::{
    EditedBody, ResponseFuture, apply::NotEdited, head, reading::Reading, refusal::unedited, settings::Settings,
};
use crate::body::PutBack;

/// A [`Service`] that edits the JSON bodies of requests to one backend. Made by
/// [`JsonEditLayer`](super::JsonEditLayer).
#[derive(Clone)]
pub struct JsonEdit<S> {
    inner: S,
    // Shared, since the service is cloned for each request. `None` if it edits nothing.
    settings: Option<Arc<Settings>>,
}

impl<S> JsonEdit<S> {
    pub(super) fn new(inner: S, settings: Arc<Settings>) -> Self {
        let has_effect = settings.renames || !settings.edits.is_empty();
        Self { inner, settings: has_effect.then_some(settings) }
    }
}

/// What is done with a request.
enum Plan {
    /// It is sent as it is.
    Send,
    /// Its body is read first.
    Read,
    /// Its body cannot be edited.
    Not(NotEdited),
}

/// Decides by the head of a request, and by what is known of the length of its body.
fn plan<B: Body>(settings: &Settings, request: &Request<B>) -> Plan {
    let (headers, body) = (request.headers(), request.body());
    if body.is_end_stream() || !head::is_json(headers) {
        Plan::Send
    } else if head::is_encoded(headers) {
        Plan::Not(NotEdited::Compressed)
    } else if body.size_hint().lower() > settings.bound as u64 {
        Plan::Not(NotEdited::TooLarge)
    } else {
        Plan::Read
    }
}

impl<S, B, R> Service<Request<B>> for JsonEdit<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: PutBack,
    B::Error: Into<BoxError>,
    R: Body,
{
    type Response = Response<EditedBody<R>>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future, S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(settings) = &self.settings else { return ResponseFuture::calling(self.inner.call(request), None) };
        match plan(settings, &request) {
            Plan::Send => ResponseFuture::calling(self.inner.call(request), None),
            Plan::Not(reason) => match unedited(settings, reason) {
                Ok(note) => ResponseFuture::calling(self.inner.call(request), note),
                Err(refused) => ResponseFuture::failed(refused),
            },
            Plan::Read => {
                // The instance that was made ready is the one that is called. Its clone starts unready.
                let clone = self.inner.clone();
                let ready = mem::replace(&mut self.inner, clone);
                ResponseFuture::reading(Reading::new(ready, request, Arc::clone(settings)))
            }
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for JsonEdit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonEdit").field("inner", &self.inner).field("settings", &self.settings).finish()
    }
}
