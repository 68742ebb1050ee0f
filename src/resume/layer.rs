//! The layer that resumes response bodies.

use tower_layer::Layer;

use super::{Resume, Resuming, settings::Settings};
use crate::body::ReplayMemory;

/// Resumes response bodies that break off, at another backend. See [the module](super).
///
/// It is put around a [`Failover`](crate::Failover), or around any other HTTP service that is `Clone`.
#[must_use = "a layer does nothing until it is given a service"]
#[derive(Clone, Debug)]
pub struct ResumeLayer<R> {
    resume: R,
    settings: Settings,
}

impl<R: Resume> ResumeLayer<R> {
    /// Creates a layer that resumes what `resume` chooses: [`ByteRanges`](super::ByteRanges),
    /// `ChatContinuation` (`json`), a pair of them, or a [`Resume`] of your own.
    pub const fn new(resume: R) -> Self {
        // Each resumption makes progress, so a download with some cuts arrives, and one with a cut in each frame ends.
        let most = 8;
        // As a `ReplayLayer`: prompts fit.
        let limit = 1024 * 1024;
        Self { resume, settings: Settings { most, limit, memory: ReplayMemory::process() } }
    }

    /// Sets how often one body is resumed at most. Default 8; with 0, none is.
    ///
    /// Each resumption has to make progress: if the rest breaks off too, before any of it was passed on, the body ends.
    pub const fn most(mut self, resumptions: u32) -> Self {
        self.settings.most = resumptions;
        self
    }

    /// Sets the bounds within which the body of a request is [kept](super::Keep::Body) until its response ends: the bytes
    /// of one body, and the memory that all are charged to. Default 1 MiB, and [`ReplayMemory::process`].
    ///
    /// The response to a request over the bounds is not resumed.
    pub fn replay(mut self, limit: usize, memory: ReplayMemory) -> Self {
        (self.settings.limit, self.settings.memory) = (limit, memory);
        self
    }
}

impl<S, R: Resume> Layer<S> for ResumeLayer<R> {
    type Service = Resuming<S, R>;

    fn layer(&self, inner: S) -> Resuming<S, R> {
        Resuming::new(inner, self.resume.clone(), self.settings.clone())
    }
}
