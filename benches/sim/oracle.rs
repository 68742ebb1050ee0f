//! A door that knows the queues, the speeds and the work: how good a strategy could be, not one that exists.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tower::{BoxError, Service};

use crate::server::{Request, Server};

/// Sends each request to the server at which it will be done first.
pub(crate) struct Oracle(pub(crate) Vec<Server>);

impl Service<Request> for Oracle {
    type Response = ();
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // Of equal ones a random one, as of the idle servers.
        let first = fastrand::usize(0..self.0.len());
        self.0.rotate_left(first);
        let ends = self.0.iter_mut().map(|server| (server.would_end(request), server));
        let (_, best) = ends.min_by(|(a, _), (b, _)| a.total_cmp(b)).expect("at least one server");
        best.call(request)
    }
}
