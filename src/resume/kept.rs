//! What is kept of a request until the body of its response ends.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http::{Request, request};
use http_body::Body;

use super::{Follow, NotResumed, RequestBody, settings::Settings};
use crate::{
    body::ReplayBody,
    failover::{Earlier, Ledger},
    outcome::PlainErrors,
};

/// The caller's request, and the service that is sent another one.
pub(super) struct Kept<S, R, B> {
    pub(super) service: S,
    pub(super) resume: R,
    /// How often the body is resumed at most.
    pub(super) most: u32,
    pub(super) head: request::Parts,
    body: KeptBody<B>,
}

enum KeptBody<B> {
    /// A handle that was not read yet.
    Unread(ReplayBody<B>),
    Read(Bytes),
}

impl<S, R, B> Kept<S, R, B> {
    pub(super) fn new(service: S, resume: R, settings: &Settings, head: &request::Parts, body: ReplayBody<B>) -> Self {
        Self { service, resume, most: settings.most, head: head.clone(), body: KeptBody::Unread(body) }
    }

    /// Makes the request that goes on.
    pub(super) fn again(
        &mut self,
        followed: &mut impl Follow,
        ledger: Option<&Ledger>,
        passed: u64,
    ) -> Result<Request<RequestBody<B>>, NotResumed>
    where
        B: Body + Unpin,
    {
        let body = self.body.read()?;
        let mut request = followed.request(&self.head, body)?;
        request.extensions_mut().insert(PlainErrors);
        if let Some(ledger) = ledger {
            request.extensions_mut().insert(Earlier::new(ledger.clone(), passed));
        }
        Ok(request.map(ReplayBody::from))
    }
}

impl<B: Body + Unpin> KeptBody<B> {
    /// Reads the body, which is in memory, since a backend has responded to it. The caller is not waited for.
    fn read(&mut self) -> Result<&Bytes, NotResumed> {
        if let Self::Unread(body) = self {
            let (mut read, mut cx) = (BytesMut::new(), Context::from_waker(Waker::noop()));
            loop {
                match Pin::new(&mut *body).poll_frame(&mut cx) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => read.extend_from_slice(&data),
                        Err(_) => return Err(NotResumed("the request has trailers")),
                    },
                    Poll::Ready(None) => break,
                    Poll::Ready(Some(Err(_))) => return Err(NotResumed("the request is not kept")),
                    Poll::Pending => return Err(NotResumed("the request is not complete")),
                }
            }
            *self = Self::Read(read.freeze());
        }
        match self {
            Self::Read(body) => Ok(body),
            Self::Unread(_) => Err(NotResumed("the request is not kept")),
        }
    }
}
