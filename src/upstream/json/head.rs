//! What the head of a message tells about its body, and what it must tell after an edit.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRAILER, TRANSFER_ENCODING},
};

/// Whether the body is said to be JSON: `application/json` or a type that ends with `+json`.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(essence) = essence(headers) else { return false };
    let suffix = essence.len().checked_sub("+json".len()).and_then(|at| essence.get(at..));
    essence.eq_ignore_ascii_case("application/json") || suffix.is_some_and(|it| it.eq_ignore_ascii_case("+json"))
}

/// Whether the body is said to be an event stream.
pub(super) fn is_event_stream(headers: &HeaderMap) -> bool {
    essence(headers).is_some_and(|essence| essence.eq_ignore_ascii_case("text/event-stream"))
}

/// The media type without its parameters.
fn essence(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim())
}

/// Whether the body is compressed, or encoded in any other way.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let is_identity = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    !headers.get_all(CONTENT_ENCODING).iter().all(is_identity)
}

/// Headers that would not hold for another body: its digests (RFC 9530, RFC 3230, RFC 1864).
static OF_THE_CONTENT: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// Removes what does not hold for an edited body, whose length may not be known yet.
pub(super) fn forget_content(headers: &mut HeaderMap) {
    for name in &OF_THE_CONTENT {
        headers.remove(name);
    }
    headers.remove(CONTENT_LENGTH);
}

/// Sets the length of an edited body, which is sent as a whole and without trailers.
pub(super) fn set_length(headers: &mut HeaderMap, length: usize) {
    headers.remove(TRANSFER_ENCODING);
    headers.remove(TRAILER);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
}
