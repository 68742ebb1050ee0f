//! What the events of an API mean.

use std::{fmt, fmt::Write as _, sync::Arc};

use bytes::Bytes;

use super::event::Event;

/// What an event is for the request that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventClass {
    /// No content: a comment, a ping, a chunk that holds a role only.
    Empty,
    /// A part of the answer.
    Content,
    /// The API tells that the answer failed.
    Error,
    /// Not what the API sends: a chunk that is no JSON, for one.
    Malformed,
    /// The end marker: the answer is complete.
    End,
}

/// What the events of an API mean: content, error, end.
///
/// By default every event with data is content, `event: error` is an error, and there is no end marker. The presets
/// (feature `json`) know three APIs of language models: `chat_completions`, `messages` and `responses`.
///
/// A clone shares everything.
///
/// ```
/// use tower_fleet::content::{EventClass, EventReader, EventRules};
///
/// let rules = EventRules::new().end_event("finished");
/// let mut reader = EventReader::new(1024);
/// reader.read(b"event: finished\ndata: 7 rows\n\n", |event| assert_eq!(rules.class(&event), EventClass::End));
/// ```
#[derive(Clone, Default)]
pub struct EventRules(Arc<Rules>);

#[derive(Clone, Default)]
struct Rules {
    paths: Vec<String>,
    end_data: Vec<String>,
    end_events: Vec<String>,
    classify: Option<Arc<Classify>>,
    error_form: Option<Arc<ErrorForm>>,
}

type Classify = dyn Fn(&Event<'_>) -> EventClass + Send + Sync;
type ErrorForm = dyn Fn(&str) -> String + Send + Sync;

impl EventRules {
    /// Creates the default rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the rules only to responses to requests whose path ends with this, such as `/chat/completions`. May be
    /// called again for another one. Default: to all responses.
    ///
    /// For a service that speaks several APIs: the streams of one have no end marker to the rules of another, and would be
    /// failures.
    pub fn path(self, end: impl Into<String>) -> Self {
        self.with(|rules| rules.paths.push(end.into()))
    }

    /// Returns whether the rules apply to the response to a request with this path.
    pub fn concerns(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.0.paths.is_empty() || self.0.paths.iter().any(|end| path.ends_with(end.trim_end_matches('/')))
    }

    /// Ends the stream at an event with this data, such as `[DONE]`. White space around it is ignored. May be called
    /// again for another one.
    pub fn end_data(self, data: impl Into<String>) -> Self {
        let data = data.into();
        self.with(|rules| rules.end_data.push(data.trim().to_owned()))
    }

    /// Ends the stream at an event with this name, such as `message_stop`. May be called again for another one.
    pub fn end_event(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.with(|rules| rules.end_events.push(name))
    }

    /// Classifies the events that are no end marker, in place of the default.
    ///
    /// It sees blocks of comments too, which have no [data](Event::has_data), and [cut](Event::is_cut) events, whose data
    /// is no whole document.
    pub fn classify(self, classify: impl Fn(&Event<'_>) -> EventClass + Send + Sync + 'static) -> Self {
        self.with(|rules| rules.classify = Some(Arc::new(classify)))
    }

    /// Sets the form in which the API reports an error within a stream.
    ///
    /// `form` gets a message without secrets and returns the text of an event. A blank line is added if it ends without
    /// one. The default is `event: error`, with `{"message": …}` as data.
    pub fn error_form(self, form: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.with(|rules| rules.error_form = Some(Arc::new(form)))
    }

    /// Returns whether the API has an end marker: a stream that ends without it was cut off.
    pub fn has_end(&self) -> bool {
        !self.0.end_data.is_empty() || !self.0.end_events.is_empty()
    }

    /// Returns what an event is. A [cut](Event::is_cut) event is an end marker by its name only.
    pub fn class(&self, event: &Event<'_>) -> EventClass {
        let Rules { end_data, end_events, classify, .. } = &*self.0;
        let data = event.data.trim_ascii();
        let ends_by_data = event.has_data && !event.is_cut && end_data.iter().any(|end| end.as_bytes() == data);
        if ends_by_data || end_events.iter().any(|end| end.as_bytes() == event.name) {
            return EventClass::End;
        }
        match classify {
            Some(classify) => classify(event),
            None if event.name == b"error" => EventClass::Error,
            None if event.has_data => EventClass::Content,
            None => EventClass::Empty,
        }
    }

    /// Returns the event that reports an error, in the form of the API. It belongs after a whole event.
    pub fn error_event(&self, message: &str) -> Bytes {
        let mut text = match &self.0.error_form {
            Some(form) => form(message),
            None => format!("event: error\ndata: {{\"message\":{}}}\n\n", json_string(message)),
        };
        while !text.ends_with("\n\n") {
            text.push('\n');
        }
        text.into()
    }

    fn with(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl fmt::Debug for EventRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rules { end_data, end_events, classify, error_form, paths } = &*self.0;
        f.debug_struct("EventRules")
            .field("paths", paths)
            .field("end_data", end_data)
            .field("end_events", end_events)
            .field("classify", &classify.is_some())
            .field("error_form", &error_form.is_some())
            .finish()
    }
}

/// A text as a string of JSON, with its quotes. By hand, since `serde_json` is optional.
pub(super) fn json_string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => json.extend(['\\', char]),
            // All line ends are among them, so the string stays on one line of the stream.
            _ if char.is_control() || matches!(char, '\u{2028}' | '\u{2029}') => {
                let _ = write!(json, "\\u{:04x}", u32::from(char));
            }
            _ => json.push(char),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::EventReader;

    fn classes(rules: &EventRules, stream: &str) -> Vec<EventClass> {
        let mut classes = Vec::new();
        EventReader::new(64).read(stream.as_bytes(), |event| classes.push(rules.class(&event)));
        classes
    }

    // C73
    #[test]
    fn by_default_data_is_content_and_comments_are_not() {
        use EventClass::{Content, Empty, Error};
        let stream = ": ping\n\nid: 7\n\ndata\n\nevent: x\ndata: y\n\nevent: error\n\ndata: [DONE]\n\n";
        assert_eq!(classes(&EventRules::new(), stream), [Empty, Empty, Content, Content, Error, Content]);
        assert!(!EventRules::new().has_end());
    }

    // C74
    #[test]
    fn an_end_marker_is_data_or_a_name() {
        use EventClass::{Content, End};
        let rules = EventRules::new().end_data("[DONE]").end_data("bye").end_event("stop").classify(|_| Content);
        let stream =
            "data: [DONE]\n\ndata:  bye \n\nevent: stop\n\ndata: stop\n\ndata: [DONE]!\n\ndata: [DONE]\ndata: x\n\n";
        assert_eq!(classes(&rules, stream), [End, End, End, Content, Content, Content]);
        assert!(rules.has_end());
    }

    // C74
    #[test]
    fn the_beginning_of_an_event_is_no_end_marker() {
        let rules = EventRules::new().end_data("[DONE]");
        let mut class = None;
        EventReader::new(12).read(b"data: [DONE], he wrote\n\n", |event| class = Some(rules.class(&event)));
        assert_eq!(class, Some(EventClass::Content));
    }

    // C74, C77
    #[test]
    fn an_error_event_is_one_event_whatever_the_message_is() {
        let message = "a \"b\"\\\n\ndata: [DONE]\r\n\u{0}\u{85}\u{2028}é";
        let plain = EventRules::new().error_event(message);
        assert_eq!(
            plain,
            "event: error\ndata: {\"message\":\"a \\\"b\\\"\\\\\\u000a\\u000adata: [DONE]\\u000d\\u000a\\u0000\\u0085\\u2028é\"}\n\n"
        );
        for (form, whole) in [("data: x", "data: x\n\n"), ("data: x\n", "data: x\n\n"), ("data: x\n\n", "data: x\n\n")]
        {
            assert_eq!(EventRules::new().error_form(move |_| form.into()).error_event(message), whole);
        }
        let mut events = 0;
        EventReader::new(1024).read(&plain, |_| events += 1);
        assert_eq!(events, 1);
    }

    #[test]
    fn rules_are_shared_and_shown_without_closures() {
        let rules = EventRules::new().end_event("stop");
        let more = rules.clone().end_data("[DONE]");
        assert!(rules.0.end_data.is_empty() && more.0.end_data == ["[DONE]"]);
        let shown = "EventRules { paths: [], end_data: [\"[DONE]\"], end_events: [\"stop\"], classify: false, error_form: false }";
        assert_eq!(format!("{more:?}"), shown);
    }

    // C74: the streams of another API are not judged.
    #[test]
    fn rules_may_concern_some_paths_only() {
        let rules = EventRules::new().path("/chat/completions").path("/messages/");
        for (path, expected) in
            [("/v1/chat/completions", true), ("/messages", true), ("/v1/responses", false), ("", false)]
        {
            assert_eq!(rules.concerns(path), expected, "{path}");
        }
        assert!(EventRules::new().concerns("/anything"));
    }
}
