//! Resumption by byte ranges (RFC 9110, section 14).

use std::{cmp::Ordering, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{
        ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, IF_MATCH, IF_MODIFIED_SINCE,
        IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
    },
    request, response,
};

use super::{Follow, Keep, NotResumed, Resume, content_range::ContentRange};

/// Resumes downloads: the rest of a body that breaks off is requested as a byte range, under the condition that the
/// representation is still the same (`If-Range`).
///
/// | a download is resumed | if |
/// |---|---|
/// | request | it is a `GET` without a body, with at most one range of its own |
/// | response | its status is 200 or 206, and it has a strong validator: an `ETag` that is not weak, or a `Last-Modified` at least 60 s before its `Date` together with `Accept-Ranges: bytes` |
/// | response with the rest | its status is 206, it begins where the body broke off, and its end, its total length, its validator and its `Content-Encoding` are the same |
///
/// If the rest does not meet the conditions, the caller gets the error with which the body broke off. In particular, a
/// backend responds with status 200 if the representation has changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByteRanges(());

impl ByteRanges {
    /// Creates the choice: every download that can be resumed is.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

/// How much earlier than its `Date` a response has to be modified for its `Last-Modified` to be a strong validator. One
/// second is enough if both are of one clock (RFC 9110, section 8.8.2.2). Replicas have several.
const STRONG_AFTER: Duration = Duration::from_secs(60);

/// A download while it is passed on.
#[derive(Debug)]
pub struct Download {
    validator: Validator,
    encoding: Vec<HeaderValue>,
    /// The position of the next byte in the representation.
    position: u64,
    /// The position behind the last byte, if it is known.
    end: Option<u64>,
    /// The length of the representation, if it is known.
    total: Option<u64>,
    /// Whether the request has a range of its own, so that the rest ends where that ends.
    is_part: bool,
    has_ended: bool,
}

/// The header that identifies the representation, with its value.
#[derive(Clone, Debug, PartialEq)]
struct Validator(HeaderName, HeaderValue);

impl Resume for ByteRanges {
    type Followed = Download;

    fn keeps(&self, request: &request::Parts) -> Option<Keep> {
        let mut ranges = request.headers.get_all(RANGE).iter();
        let is_single = match (ranges.next(), ranges.next()) {
            (None, _) => true,
            (Some(range), None) => range.as_bytes().starts_with(b"bytes=") && !range.as_bytes().contains(&b','),
            _ => false,
        };
        (request.method == Method::GET && is_single).then_some(Keep::Head)
    }

    fn follow(&self, request: &request::Parts, response: &response::Parts) -> Option<Download> {
        let headers = &response.headers;
        let validator = Validator::of(headers)?;
        let has_range = request.headers.contains_key(RANGE);
        let (position, end, total, is_part) = match response.status {
            StatusCode::OK if !refuses_ranges(headers) => {
                let length = length(headers);
                (0, length, length, false)
            }
            StatusCode::PARTIAL_CONTENT if has_range && !is_multipart(headers) => {
                let range = ContentRange::of(headers)?;
                (range.start, Some(range.end), range.total, true)
            }
            _ => return None,
        };
        let encoding = encoding(headers);
        Some(Download { validator, encoding, position, end, total, is_part, has_ended: false })
    }
}

impl Follow for Download {
    fn pass(&mut self, data: Bytes) -> Bytes {
        self.position = self.position.saturating_add(data.len() as u64);
        data
    }

    fn end(&mut self) -> Bytes {
        self.has_ended = true;
        Bytes::new()
    }

    fn check(&self) -> Result<(), NotResumed> {
        let Some(end) = self.end else { return Ok(()) };
        match self.position.cmp(&end) {
            Ordering::Greater => Err(NotResumed("the rest is longer than its range")),
            Ordering::Less if self.has_ended => Err(NotResumed("the rest is shorter than its range")),
            _ => Ok(()),
        }
    }

    fn request(&mut self, head: &request::Parts, _: &Bytes) -> Result<Request<Bytes>, NotResumed> {
        let range = match self.end {
            Some(end) if self.position >= end => return Err(NotResumed("nothing is missing")),
            Some(end) if self.is_part => format!("bytes={}-{}", self.position, end - 1),
            _ => format!("bytes={}-", self.position),
        };
        let range = HeaderValue::try_from(range).map_err(|_| NotResumed("the range is not a header"))?;
        let mut request = Request::from_parts(head.clone(), Bytes::new());
        let headers = request.headers_mut();
        // The caller's own conditions were met by the first response, and `If-Range` takes their place.
        for condition in [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
            headers.remove(condition);
        }
        headers.insert(RANGE, range);
        headers.insert(IF_RANGE, self.validator.1.clone());
        Ok(request)
    }

    fn join(&mut self, response: &response::Parts) -> Result<(), NotResumed> {
        let headers = &response.headers;
        match response.status {
            StatusCode::PARTIAL_CONTENT if !is_multipart(headers) => {}
            StatusCode::PARTIAL_CONTENT => return Err(NotResumed("the rest comes in several parts")),
            StatusCode::OK => return Err(NotResumed("the representation has changed, or is sent as a whole only")),
            _ => return Err(NotResumed("the backend refuses the range")),
        }
        let range = ContentRange::of(headers).ok_or(NotResumed("the rest has no valid Content-Range"))?;
        let mut same = headers.get_all(&self.validator.0).iter();
        if (same.next(), same.next()) != (Some(&self.validator.1), None) {
            return Err(NotResumed("the rest is of another representation"));
        }
        if encoding(headers) != self.encoding {
            return Err(NotResumed("the rest has another Content-Encoding"));
        }
        // A first response without a length is one of unknown length: the rest has to tell it.
        let end = match self.end {
            Some(end) => end,
            None => range.total.ok_or(NotResumed("the length of the representation is unknown"))?,
        };
        let is_same_total = self.total == range.total || (self.total.is_none() && !self.is_part);
        if range.start != self.position || range.end != end || !is_same_total {
            return Err(NotResumed("the rest is another range"));
        }
        (self.end, self.total) = (Some(end), range.total);
        Ok(())
    }
}

impl Validator {
    /// The strong validator of a response, if it has one.
    fn of(headers: &HeaderMap) -> Option<Self> {
        if let Some(etag) = single(headers, &ETAG) {
            // A weak one stands for representations that may differ in their bytes.
            return is_strong(etag.as_bytes()).then(|| Self(ETAG, etag.clone()));
        }
        let modified = single(headers, &LAST_MODIFIED)?;
        let at = |value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok();
        let age = at(single(headers, &DATE)?)?.duration_since(at(modified)?).ok()?;
        let is_strong = age >= STRONG_AFTER && accepts_ranges(headers);
        is_strong.then(|| Self(LAST_MODIFIED, modified.clone()))
    }
}

/// Whether an entity tag is well-formed and strong: `"` characters `"`.
fn is_strong(etag: &[u8]) -> bool {
    matches!(etag, [b'"', inner @ .., b'"'] if !inner.contains(&b'"'))
}

/// The value of a header that must not be repeated.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

fn length(headers: &HeaderMap) -> Option<u64> {
    single(headers, &CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn encoding(headers: &HeaderMap) -> Vec<HeaderValue> {
    headers.get_all(CONTENT_ENCODING).iter().cloned().collect()
}

fn accepts_ranges(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT_RANGES).iter().any(|units| units.as_bytes().eq_ignore_ascii_case(b"bytes"))
}

fn refuses_ranges(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT_RANGES).iter().any(|units| units.as_bytes().eq_ignore_ascii_case(b"none"))
}

/// Whether a response has several ranges, each with a head of its own.
fn is_multipart(headers: &HeaderMap) -> bool {
    let several = b"multipart/byteranges";
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().get(..several.len()));
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(several))
}
