//! What a response states about a retry: `Retry-After` and `grpc-retry-pushback-ms`, in its head or in its trailers.

#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use arbitrary::Arbitrary;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::Empty;
use libfuzzer_sys::fuzz_target;
use tower_fleet::outcome::{Classify, ClassifyEnd, Failure, HttpClassifier, HttpEnd, Outcome, Verdict, retry_after};

#[derive(Arbitrary, Debug)]
struct Answer {
    status: u16,
    is_grpc: bool,
    in_trailers: bool,
    grpc_status: Option<i32>,
    pushbacks: Vec<Vec<u8>>,
    retry_after: Option<Vec<u8>>,
    date: Option<Vec<u8>>,
    now: u32,
}

/// The pushback as gRFC A6 has it, read in another way than the crate does: `None` forbids a retry.
fn pushback(value: &[u8]) -> Option<u64> {
    // As a header value is text: other spaces than those of ASCII are none.
    let text = std::str::from_utf8(value).ok().filter(|text| text.is_ascii())?.trim();
    let digits = text.strip_prefix('+').unwrap_or(text);
    if let Some(zero) = text.strip_prefix('-') {
        return (!zero.is_empty() && zero.bytes().all(|digit| digit == b'0')).then_some(0);
    }
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0');
    let millis = if significant.is_empty() { 0 } else { significant.parse::<u128>().ok()? };
    (millis <= i32::MAX as u128).then_some(millis as u64)
}

fn failure(outcome: Outcome) -> Option<Failure> {
    // Whatever it is, it can be shown.
    assert!(!outcome.to_string().is_empty());
    outcome.failure().copied()
}

fuzz_target!(|answer: Answer| {
    let mut about = HeaderMap::new();
    let mut pushbacks = Vec::new();
    for value in answer.pushbacks.iter().take(3) {
        if let Ok(header) = HeaderValue::from_bytes(value) {
            about.append(HeaderName::from_static("grpc-retry-pushback-ms"), header);
            pushbacks.push(value);
        }
    }
    let after = answer.retry_after.as_ref().and_then(|value| HeaderValue::from_bytes(value).ok());
    if let Some(value) = &after {
        // Never panics, whatever the clock is.
        let _ = retry_after(value, UNIX_EPOCH + Duration::from_secs(answer.now.into()));
        about.insert(http::header::RETRY_AFTER, value.clone());
    }
    if let Some(date) = answer.date.as_ref().and_then(|value| HeaderValue::from_bytes(value).ok()) {
        about.insert(http::header::DATE, date);
    }
    if let Some(code) = answer.grpc_status {
        about.insert("grpc-status", HeaderValue::from(code));
    }

    let mut response = Response::new(Empty::<Bytes>::new());
    *response.status_mut() = http::StatusCode::from_u16(answer.status).unwrap_or_default();
    if answer.is_grpc {
        response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    }
    if !answer.in_trailers {
        response.headers_mut().extend(about.clone());
    }
    let classifier = HttpClassifier::new();
    let request = Request::new(());
    let mut call: HttpEnd = Classify::<_, Response<Empty<Bytes>>>::request(&classifier, &request);
    let verdict = Classify::<Request<()>, _>::response(&classifier, &mut call, &response);
    let failure = match verdict {
        Verdict::Now(outcome) if !answer.in_trailers => failure(outcome),
        Verdict::AtEnd if answer.in_trailers && answer.grpc_status.is_some() => failure(call.end(Some(&about))),
        _ => return,
    };
    let Some(failure) = failure else { return };
    match pushbacks[..] {
        [] => {
            assert!(!failure.forbids_retry());
            let is_number = after.as_ref().and_then(|value| value.to_str().ok()).map(str::trim);
            if let Some(seconds) = is_number.and_then(|value| value.parse::<u64>().ok())
                && !is_number.is_some_and(|value| value.starts_with('+'))
            {
                assert_eq!(failure.retry_delay(), Some(Duration::from_secs(seconds)));
            }
        }
        [value] => {
            assert_eq!(failure.retry_delay(), pushback(value).map(Duration::from_millis));
            assert_eq!(failure.forbids_retry(), pushback(value).is_none());
        }
        _ => assert!(failure.forbids_retry()),
    }
});
