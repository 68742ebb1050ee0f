//! Continuation of streams of chat completions.

use std::sync::Arc;

use http::{Method, header::CONTENT_ENCODING, request, response};

use super::{
    ChatStream, Keep, Resume,
    chat_request::{Settings, is_stream},
};

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
/// // DeepSeek continues a message with `"prefix": true`. An API that repeats the text so far is refused: its answer looks
/// // like a new one.
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
