//! The request that continues an answer, and the response that can be one.

use bytes::Bytes;
use http::{
    HeaderMap, Request, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
    request, response,
};
use serde_json::{Value, json};

use super::NotResumed;
use crate::failover::OnlyAt;

/// The settings of a [`ChatContinuation`](super::ChatContinuation).
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) backends: Vec<String>,
    pub(super) message_flags: Vec<(String, bool)>,
    pub(super) request_flags: Vec<(String, bool)>,
    pub(super) keeps_ids: bool,
}

/// Whether a response is a stream of events that can be edited.
pub(super) fn is_stream(response: &response::Parts) -> bool {
    let headers: &HeaderMap = &response.headers;
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_plain = headers.get(CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity");
    // A length would be wrong once the stream is joined.
    response.status == StatusCode::OK
        && kind.eq_ignore_ascii_case("text/event-stream")
        && is_plain
        && !headers.contains_key(CONTENT_LENGTH)
}

impl Settings {
    /// Makes the request that continues the text.
    pub(super) fn request(
        &self,
        head: &request::Parts,
        body: &Bytes,
        text: &str,
    ) -> Result<Request<Bytes>, NotResumed> {
        let mut request: Value = serde_json::from_slice(body).map_err(|_| NotResumed("the request is not JSON"))?;
        check(&request)?;
        if !text.is_empty() {
            self.add(&mut request, text)?;
        }
        let mut request = Request::from_parts(head.clone(), Bytes::from(request.to_string()));
        let length = request.body().len();
        let headers = request.headers_mut();
        headers.insert(CONTENT_LENGTH, length.into());
        headers.remove(TRANSFER_ENCODING);
        // It is another request: a backend that knows the key would send its first answer again.
        headers.remove("idempotency-key");
        request.extensions_mut().insert(OnlyAt::new(&self.backends));
        Ok(request)
    }

    /// Adds the text to the messages. If the caller has begun the answer, that comes before it.
    fn add(&self, request: &mut Value, text: &str) -> Result<(), NotResumed> {
        let messages = request.get_mut("messages").and_then(Value::as_array_mut);
        let messages = messages.ok_or(NotResumed("the request has no messages"))?;
        let is_begun = messages.last().is_some_and(|last| last["role"] == "assistant");
        if !is_begun {
            messages.push(json!({ "role": "assistant", "content": "" }));
        }
        let begun = messages.last_mut().and_then(Value::as_object_mut);
        let begun = begun.ok_or(NotResumed("the request has no messages"))?;
        let Some(Value::String(content)) = begun.get_mut("content") else {
            return Err(NotResumed("the answer that the request begins is not text"));
        };
        content.push_str(text);
        begun.extend(self.message_flags.iter().map(|(name, value)| (name.clone(), Value::Bool(*value))));
        for (name, value) in &self.request_flags {
            request[name.as_str()] = Value::Bool(*value);
        }
        Ok(())
    }
}

/// Checks that the answer to a request is text of one choice.
fn check(request: &Value) -> Result<(), NotResumed> {
    if !request.is_object() {
        return Err(NotResumed("the request is no JSON object"));
    }
    if request["stream"] != true {
        return Err(NotResumed("the request asks for no stream"));
    }
    if !(request["n"].is_null() || request["n"] == 1) {
        return Err(NotResumed("the request asks for several choices"));
    }
    if request["logprobs"] == true || !request["top_logprobs"].is_null() {
        return Err(NotResumed("the request asks for logprobs"));
    }
    let format = &request["response_format"];
    if !(format.is_null() || format["type"] == "text") {
        return Err(NotResumed("the request asks for structured output"));
    }
    Ok(())
}
