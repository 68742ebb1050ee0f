//! What was received of a response.

/// What was received of the body of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) bytes: bool,
    pub(crate) content: bool,
    /// Whether the body is read as a stream of events, so that not every byte is content.
    pub(crate) is_events: bool,
    /// Whether such a stream has to end with a marker.
    pub(crate) has_end: bool,
    /// The end marker of such a stream.
    pub(crate) end_marker: bool,
    /// Whether the response has no body, as that of a `HEAD` request, so that it has no end marker either.
    pub(crate) has_no_body: bool,
}
