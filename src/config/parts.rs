//! What a configuration has besides its fleet.

use bytes::Bytes;

#[cfg(feature = "dns")]
use super::backend::Template;
use super::{ClientLayer, FileResume, file::Config, probe::FileProbe};
#[cfg(feature = "valkey")]
use crate::replicas::{Share, ValkeyStore};
#[cfg(feature = "file-state")]
use crate::state::FileStore;
use crate::{
    failover::FailoverLayer, fleet::Backend, health::CircuitPolicy, outcome::HttpClassifier, probe::Probes,
    resume::ResumeLayer,
};

impl Config {
    /// Returns the backends in the order of the file, to build the fleet by hand. Without those that `dns` stands for,
    /// which a [`ConfigFollower`](super::ConfigFollower) adds.
    pub fn backends(&self) -> &[Backend<ClientLayer>] {
        &self.backends.fixed
    }

    /// Returns the backends that stand for the endpoints of a lookup, in the order of the file.
    #[cfg(feature = "dns")]
    pub fn discovered(&self) -> impl ExactSizeIterator<Item = &Backend<ClientLayer>> {
        self.templates().iter().map(|template| &template.backend)
    }

    #[cfg(feature = "dns")]
    pub(super) fn templates(&self) -> &[Template] {
        &self.backends.templates
    }

    /// Returns the failover of the file: its `strategy` and its section `[failover]`.
    pub fn failover(&self) -> FailoverLayer {
        self.failover.clone()
    }

    /// Returns the layer of the section `[resume]`, to be put around the failover. Without the section, it resumes
    /// nothing.
    pub fn resume(&self) -> ResumeLayer<FileResume> {
        self.resume.clone()
    }

    /// Returns the settings of the circuits: the section `[breaker]`.
    pub fn circuit_policy(&self) -> CircuitPolicy {
        self.policy.clone()
    }

    /// Returns the classifier of the fleet: `statuses` and `success_at_end` of the section `[breaker]`, and the section
    /// `[events]`.
    pub fn classifier(&self) -> HttpClassifier {
        self.classifier.clone()
    }

    /// Returns the active probes of the section `[probe]`, for [`Fleet::probe`](crate::Fleet::probe). `B` is the request body that the clients
    /// take.
    pub fn probes<B: From<Bytes> + 'static>(&self) -> Option<Probes<FileProbe<B>>> {
        // Checked when the file was read.
        self.probe.as_ref().and_then(|section| section.probes().ok())
    }

    /// Returns the file of the section `[state]`, for [`Fleet::restore`](crate::Fleet::restore).
    #[cfg(feature = "file-state")]
    pub fn store(&self) -> Option<FileStore> {
        self.store.clone()
    }

    /// Returns what the section `[share]` sets, for [`Fleet::share`](crate::Fleet::share).
    #[cfg(feature = "valkey")]
    pub fn share(&self) -> Option<Share<ValkeyStore>> {
        self.share.clone()
    }
}
