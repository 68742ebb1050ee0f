//! The search for a request whose key decides.

use std::{
    num::NonZeroU64,
    task::{Context, Poll, Waker},
};

use tower::BoxError;
use tower_service::Service;

use super::{
    ready::{Ready, Sends},
    scan::AtLimit,
    search::ReadySearch,
};
use crate::{outcome::Classify, pick::Strategy};

impl<S, C, P, X> ReadySearch<S, C, P, X>
where
    S: Clone + Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
    P: Strategy,
    X: Clone,
{
    /// Reads the key of the request. Returns false if the strategy needs none.
    #[inline]
    pub(crate) fn read_key<Req, Res>(&mut self, request: &Req) -> bool
    where
        C: Classify<Req, Res>,
    {
        let Some(source) = self.local.key_source() else { return false };
        // The two keys 0 and 1 are one.
        let key = self.local.classifier().key(request, source);
        self.key = key.map(|key| NonZeroU64::new(key).unwrap_or(NonZeroU64::MIN));
        true
    }

    /// Returns an instance if one is ready at once, for a request whose key was read.
    ///
    /// It polls without a task to wake, and waits for no slot. If it returns none, the response future polls the search
    /// again, from the start.
    pub(crate) fn poll_once<Req>(&mut self, sends: Sends) -> Option<Ready<S, C>>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        match self.poll::<Req>(&mut Context::from_waker(Waker::noop()), None, sends, Some(AtLimit::Skip)) {
            Poll::Ready(Ok(ready)) => return Some(ready),
            Poll::Ready(Err(not_ready)) if not_ready.refusals.is_empty() => {}
            Poll::Ready(Err(not_ready)) => self.exclude(not_ready.refusals),
            Poll::Pending => self.scan_again(),
        }
        None
    }
}
