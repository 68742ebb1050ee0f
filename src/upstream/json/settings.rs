//! The choices of a [`JsonEditLayer`](super::JsonEditLayer).

use super::edits::Edits;
use crate::body::ReplayMemory;

/// What happens to a request whose body cannot be edited, since it is not JSON, too large or compressed, or lacks the
/// object that a path leads through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unedited {
    /// It is not sent to this backend. A [`Failover`](crate::Failover) sends it to another one.
    #[default]
    Refuse,
    /// It is sent as the caller sent it. The ledger notes why it was not edited.
    Forward,
}

/// What happens to a name that is not in the map of its field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unmapped {
    /// It is sent as it is.
    #[default]
    Keep,
    /// The request is not sent to this backend, whatever [`Unedited`] is.
    Refuse,
}

/// Which model a response names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseModel {
    /// The one that the backend names: responses are not changed.
    #[default]
    Served,
    /// The one that the caller has asked for, in the `model` of its request.
    ///
    /// Changed are the members `model`, `message.model` and `response.model` of a JSON response up to 1 MiB, and those of
    /// each event of an event stream whose data is one line. A response without them, or that is compressed, is not
    /// changed.
    AsAsked,
}

/// The settings of a layer, with all defaults.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) edits: Edits,
    pub(super) bound: usize,
    pub(super) otherwise: Unedited,
    pub(super) unmapped: Unmapped,
    /// Whether responses name the model that was asked for.
    pub(super) renames: bool,
    pub(super) memory: ReplayMemory,
}
