//! Copies of trailers, and what they take.

use http::{HeaderMap, HeaderName, HeaderValue};

/// What one header of the trailers takes besides its text: an entry of a map that grows by doubling, and its indices.
const HEADER_COST: usize = 256;

/// How many bytes a copy of the trailers takes.
pub(super) fn weight(trailers: &HeaderMap) -> usize {
    let headers = trailers.iter().map(|(name, value)| HEADER_COST + name.as_str().len() + value.len());
    headers.fold(size_of::<HeaderMap>(), usize::saturating_add)
}

/// A copy with texts of its own. Those of a clone are slices of the buffers in which they were received.
pub(super) fn copy(trailers: &HeaderMap) -> HeaderMap {
    let mut copied = HeaderMap::try_with_capacity(trailers.keys_len()).unwrap_or_default();
    for (name, value) in trailers {
        let (Ok(name), Ok(mut text)) =
            (HeaderName::from_bytes(name.as_str().as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        else {
            return trailers.clone();
        };
        text.set_sensitive(value.is_sensitive());
        if copied.try_append(name, text).is_err() {
            return trailers.clone();
        }
    }
    copied
}
