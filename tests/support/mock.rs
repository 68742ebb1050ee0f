//! A strict mock of a service, for requests of any type: it panics when it is called without being ready.

#![allow(dead_code, reason = "each suite uses a part of it")]

use std::{
    error::Error,
    fmt,
    marker::PhantomData,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt, pending, ready};
use tower::Service;

/// What `poll_ready` of the mock returns.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Readiness {
    Ready,
    Pending,
    Error,
}

/// What a call of the mock does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    Ok,
    Error,
    Never,
    /// In the future it returns.
    Panic,
    PanicInCall,
    OkAfter(Duration),
    ErrorAfter(Duration),
}

#[derive(Debug)]
pub(crate) struct Broken(pub(crate) &'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is broken", self.0)
    }
}

impl Error for Broken {}

/// The other end of all clones of one mock.
pub(crate) struct Remote {
    pub(crate) name: &'static str,
    state: Mutex<(Readiness, Answer, Vec<Waker>)>,
    calls: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
    instances: AtomicUsize,
}

impl Remote {
    pub(crate) fn set_readiness(&self, readiness: Readiness) {
        let mut state = self.state.lock().unwrap();
        state.0 = readiness;
        let wakers = std::mem::take(&mut state.2);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.state.lock().unwrap().1 = answer;
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Calls that run now.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// The most calls that ran at a time, since the last look.
    pub(crate) fn most_running(&self) -> usize {
        self.most_running.swap(self.running(), Ordering::SeqCst)
    }

    /// Instances alive.
    pub(crate) fn instances(&self) -> usize {
        self.instances.load(Ordering::SeqCst)
    }
}

pub(crate) struct Mock<Req = ()> {
    remote: Arc<Remote>,
    ready: bool,
    requests: PhantomData<fn(Req)>,
}

impl<Req> Mock<Req> {
    pub(crate) fn new(name: &'static str) -> (Self, Arc<Remote>) {
        let zero = || AtomicUsize::new(0);
        let remote = Arc::new(Remote {
            name,
            state: Mutex::new((Readiness::Ready, Answer::Ok, Vec::new())),
            calls: zero(),
            running: zero(),
            most_running: zero(),
            instances: AtomicUsize::new(1),
        });
        (Self { remote: Arc::clone(&remote), ready: false, requests: PhantomData }, remote)
    }
}

/// A clone starts unready.
impl<Req> Clone for Mock<Req> {
    fn clone(&self) -> Self {
        self.remote.instances.fetch_add(1, Ordering::SeqCst);
        Self { remote: Arc::clone(&self.remote), ready: false, requests: PhantomData }
    }
}

impl<Req> Drop for Mock<Req> {
    fn drop(&mut self) {
        self.remote.instances.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Running(Arc<Remote>);

impl Running {
    fn at(remote: &Arc<Remote>) -> Self {
        let now = remote.running.fetch_add(1, Ordering::SeqCst) + 1;
        remote.most_running.fetch_max(now, Ordering::SeqCst);
        Self(Arc::clone(remote))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<Req> Service<Req> for Mock<Req> {
    type Response = &'static str;
    type Error = Broken;
    type Future = BoxFuture<'static, Result<&'static str, Broken>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut state = self.remote.state.lock().unwrap();
        self.ready = state.0 == Readiness::Ready;
        match state.0 {
            Readiness::Ready => Poll::Ready(Ok(())),
            Readiness::Pending => {
                state.2.push(cx.waker().clone());
                Poll::Pending
            }
            Readiness::Error => Poll::Ready(Err(Broken(self.remote.name))),
        }
    }

    fn call(&mut self, _: Req) -> Self::Future {
        let name = self.remote.name;
        assert!(std::mem::take(&mut self.ready), "{name} was called unready");
        self.remote.calls.fetch_add(1, Ordering::SeqCst);
        let answer = self.remote.state.lock().unwrap().1;
        let running = Running::at(&self.remote);
        let future = match answer {
            Answer::Ok => ready(Ok(name)).boxed(),
            Answer::Error => ready(Err(Broken(name))).boxed(),
            Answer::Never => pending().boxed(),
            Answer::Panic => async move { panic!("{name} panics") }.boxed(),
            Answer::PanicInCall => panic!("{name} panics in call"),
            Answer::OkAfter(time) => tokio::time::sleep(time).map(move |()| Ok(name)).boxed(),
            Answer::ErrorAfter(time) => tokio::time::sleep(time).map(move |()| Err(Broken(name))).boxed(),
        };
        async move {
            let _running = running;
            future.await
        }
        .boxed()
    }
}
