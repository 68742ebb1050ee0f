//! A strict backend that does as it is told.

use std::{
    future::{Pending, pending},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::future::{Either, Ready, ready};
use tower::{BoxError, Service};

/// What the mock says when it is asked whether it is ready.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Readiness {
    Ready,
    Pending,
    Error,
}

/// What the mock does when it is called.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Answer {
    Ok,
    Error,
    Never,
}

/// The other end of all clones of one mock.
pub(crate) struct Remote {
    pub(crate) name: &'static str,
    said: Mutex<(Readiness, Answer, Vec<Waker>)>,
    /// Calls so far.
    calls: AtomicUsize,
    /// Instances alive.
    instances: AtomicUsize,
}

impl Remote {
    pub(crate) fn say(&self, readiness: Readiness) {
        let mut said = self.said.lock().unwrap();
        said.0 = readiness;
        said.2.drain(..).for_each(Waker::wake);
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.said.lock().unwrap().1 = answer;
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn instances(&self) -> usize {
        self.instances.load(Ordering::SeqCst)
    }
}

pub(crate) struct Mock {
    remote: Arc<Remote>,
    ready: bool,
}

impl Mock {
    pub(crate) fn new(name: &'static str) -> (Self, Arc<Remote>) {
        let said = Mutex::new((Readiness::Ready, Answer::Ok, Vec::new()));
        let remote = Arc::new(Remote { name, said, calls: AtomicUsize::new(0), instances: AtomicUsize::new(1) });
        (Self { remote: Arc::clone(&remote), ready: false }, remote)
    }
}

/// A clone starts unready.
impl Clone for Mock {
    fn clone(&self) -> Self {
        self.remote.instances.fetch_add(1, Ordering::SeqCst);
        Self { remote: Arc::clone(&self.remote), ready: false }
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.remote.instances.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service<&'static str> for Mock {
    type Response = &'static str;
    type Error = BoxError;
    type Future = Either<Ready<Result<&'static str, BoxError>>, Pending<Result<&'static str, BoxError>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let mut said = self.remote.said.lock().unwrap();
        match said.0 {
            Readiness::Ready => {
                self.ready = true;
                Poll::Ready(Ok(()))
            }
            Readiness::Pending => {
                self.ready = false;
                said.2.push(cx.waker().clone());
                Poll::Pending
            }
            Readiness::Error => Poll::Ready(Err(format!("{} is closed", self.remote.name).into())),
        }
    }

    fn call(&mut self, _: &'static str) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "{} was called unready", self.remote.name);
        self.remote.calls.fetch_add(1, Ordering::SeqCst);
        match self.remote.said.lock().unwrap().1 {
            Answer::Ok => Either::Left(ready(Ok(self.remote.name))),
            Answer::Error => Either::Left(ready(Err(format!("{} failed", self.remote.name).into()))),
            Answer::Never => Either::Right(pending()),
        }
    }
}
