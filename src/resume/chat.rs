//! Continuation of streams of chat completions.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
    request, response,
};
use serde_json::{Value, json};

use super::{ChatStream, Keep, NotResumed, Resume};
use crate::failover::OnlyAt;

/// Resumes streams of chat completions: a backend that can continue an answer gets the caller's request with the text so
/// far as the beginning of the answer.
///
/// Only some APIs continue the last message of a request. The others begin a new answer, so the backends that can are
/// named; the request that goes on is sent to no other one.
///
/// | a stream is resumed | if |
/// |---|---|
/// | request | it is a `POST` to a path that ends with `/chat/completions`, for one choice, without `logprobs` and without structured output |
/// | response | its status is 200 and it is a `text/event-stream`, neither encoded nor of a known length |
/// | what was passed on | it is text only: no call of a tool, no reasoning, no refusal, no end of the answer |
/// | the rest | it is such a stream too, and does not begin as the text began |
///
/// The two streams are joined between events: an event that was cut is dropped. The first chunk of the rest, which has a
/// role only, is left out; the other chunks get the `id`, `created` and `model` of the first stream, so that the caller
/// sees one. The usage is that of the last stream, whose prompt includes the text so far. `max_tokens` applies to the
/// rest anew.
///
/// ```
/// use tower_fleet::resume::{ByteRanges, ChatContinuation, ResumeLayer};
///
/// // DeepSeek and Mistral continue a message with `"prefix": true`.
/// let chats = ChatContinuation::new(["deepseek"]);
/// // vLLM has fields of the request for that.
/// let own = ChatContinuation::new(["gpu-1", "gpu-2"])
///     .message_flags([])
///     .request_flags([("continue_final_message", true), ("add_generation_prompt", false)]);
/// let layer = ResumeLayer::new((ByteRanges::new(), chats));
/// # let _ = (layer, own);
/// ```
#[derive(Clone, Debug)]
pub struct ChatContinuation(Arc<Settings>);

#[derive(Clone, Debug)]
pub(super) struct Settings {
    backends: Vec<String>,
    message_flags: Vec<(String, bool)>,
    request_flags: Vec<(String, bool)>,
    pub(super) keeps_ids: bool,
}

impl ChatContinuation {
    /// Creates the choice for these backends, which continue the last message of a request if that is an assistant's
    /// message with `"prefix": true`. Without a backend, no stream is resumed.
    #[must_use]
    pub fn new(backends: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let backends = backends.into_iter().map(Into::into).collect();
        let message_flags = vec![("prefix".to_owned(), true)];
        Self(Arc::new(Settings { backends, message_flags, request_flags: Vec::new(), keeps_ids: false }))
    }

    /// Sets the members of the message with the text so far, beside `role` and `content`. Default `"prefix": true`.
    #[must_use]
    pub fn message_flags<'a>(mut self, flags: impl IntoIterator<Item = (&'a str, bool)>) -> Self {
        let flags = flags.into_iter().map(|(name, value)| (name.to_owned(), value));
        Arc::make_mut(&mut self.0).message_flags = flags.collect();
        self
    }

    /// Sets members of the request that goes on. Default none.
    #[must_use]
    pub fn request_flags<'a>(mut self, flags: impl IntoIterator<Item = (&'a str, bool)>) -> Self {
        let flags = flags.into_iter().map(|(name, value)| (name.to_owned(), value));
        Arc::make_mut(&mut self.0).request_flags = flags.collect();
        self
    }

    /// Sets whether the chunks of the rest keep their own `id`, `created` and `model`. Default `false`: they get those of
    /// the first stream.
    #[must_use]
    pub fn keep_ids(mut self, keep: bool) -> Self {
        Arc::make_mut(&mut self.0).keeps_ids = keep;
        self
    }
}

impl Resume for ChatContinuation {
    type Followed = ChatStream;

    fn keeps(&self, request: &request::Parts) -> Option<Keep> {
        let is_chat = request.method == Method::POST
            && request.uri.path().ends_with("/chat/completions")
            && !request.headers.contains_key(CONTENT_ENCODING);
        (is_chat && !self.0.backends.is_empty()).then_some(Keep::Body)
    }

    fn follow(&self, _: &request::Parts, response: &response::Parts) -> Option<ChatStream> {
        is_stream(response).then(|| ChatStream::new(Arc::clone(&self.0)))
    }
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
