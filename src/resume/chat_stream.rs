//! A stream of chat completions while it is passed on, and the stream that is joined to it.

use std::{mem, sync::Arc};

use bytes::Bytes;
use http::{Request, request, response};
use serde_json::{Map, Value};

use super::{
    Follow, NotResumed,
    chat_chunk::Chunk,
    chat_request::{Settings, is_stream},
};
use crate::content::{Event, EventReader};

/// A stream of chat completions while it is passed on.
pub struct ChatStream {
    settings: Arc<Settings>,
    reader: EventReader,
    /// The beginning of an event, which is passed on when the event is whole.
    held: Vec<u8>,
    /// The text that was passed on.
    text: String,
    /// What names the first stream in each of its chunks.
    ids: Map<String, Value>,
    /// Why the stream cannot be continued from here.
    obstacle: Option<NotResumed>,
    has_ended: bool,
    rest: Option<Rest>,
}

/// A stream that was joined.
#[derive(Default)]
struct Rest {
    /// Its beginning, until it is known that the text does not start over: the events, and their text.
    beginning: Option<(Vec<u8>, String)>,
    /// Why it does not continue the first one.
    mismatch: Option<NotResumed>,
}

/// The longest event, and the longest beginning of a rest. Events of real streams are far shorter.
const MAX_EVENT: usize = 256 * 1024;

/// The longest text that is continued.
const MAX_TEXT: usize = 1024 * 1024;

/// How many bytes of a text that starts over are compared. Long enough that no other text begins so.
const COMPARED: usize = 48;

impl ChatStream {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        let (reader, held, text, ids) = (EventReader::new(MAX_EVENT), Vec::new(), String::new(), Map::new());
        Self { settings, reader, held, text, ids, obstacle: None, has_ended: false, rest: None }
    }

    /// Reads a chunk of the first stream, which is passed on as it is.
    fn note(&mut self, event: Event<'_>) {
        if !event.has_data || self.has_ended || self.obstacle.is_some() {
            return;
        }
        match Chunk::read(&event) {
            Ok(Chunk::End) => self.has_ended = true,
            Ok(Chunk::Text { text, json, has_finished }) => {
                self.remember(&json);
                self.add(&text, has_finished);
            }
            Err(obstacle) => self.obstacle = Some(obstacle),
        }
    }

    fn remember(&mut self, chunk: &Map<String, Value>) {
        if self.ids.is_empty() {
            let members = ["id", "created", "model"].into_iter();
            self.ids = members.filter_map(|name| Some((name.to_owned(), chunk.get(name)?.clone()))).collect();
        }
    }

    /// Adds text that is passed on.
    fn add(&mut self, text: &str, has_finished: bool) {
        if self.text.len().saturating_add(text.len()) > MAX_TEXT {
            self.obstacle = Some(NotResumed("the text is too long to be continued"));
        } else {
            self.text.push_str(text);
        }
        if has_finished {
            self.obstacle = Some(NotResumed("the answer has ended"));
        }
    }

    /// Reads a chunk of the rest. What is passed on of it is added to `out`.
    fn join_event(&mut self, event: Event<'_>, rest: &mut Rest, out: &mut Vec<u8>) {
        if self.has_ended || rest.mismatch.is_some() {
            return;
        }
        if !event.has_data {
            // A comment keeps the connection alive.
            out.extend_from_slice(b":\n\n");
            return;
        }
        match Chunk::read(&event) {
            Ok(Chunk::End) => {
                self.release(rest, out);
                self.has_ended = true;
                out.extend_from_slice(b"data: [DONE]\n\n");
            }
            Ok(Chunk::Text { text, mut json, has_finished }) => {
                if text.is_empty() && !has_finished && json.get("usage").is_none_or(Value::is_null) {
                    return;
                }
                self.remember(&json);
                if !self.settings.keeps_ids {
                    json.extend(self.ids.clone());
                }
                let chunk = format!("data: {}\n\n", Value::Object(json));
                let Some((events, begun)) = &mut rest.beginning else {
                    out.extend_from_slice(chunk.as_bytes());
                    self.add(&text, has_finished);
                    return;
                };
                events.extend_from_slice(chunk.as_bytes());
                begun.push_str(&text);
                let is_long = events.len() > MAX_EVENT;
                match starts_over(&self.text, begun) {
                    Some(true) => rest.mismatch = Some(NotResumed("the answer starts over")),
                    None if is_long => rest.mismatch = Some(NotResumed("the rest begins with too long events")),
                    None if !has_finished => {}
                    _ => self.release(rest, out),
                }
                if has_finished && rest.mismatch.is_none() {
                    self.add("", true);
                }
            }
            Err(obstacle) if rest.beginning.is_some() || event.is_cut => rest.mismatch = Some(obstacle),
            // The rest has text and something else, which the caller gets too: the stream is that of the API.
            Err(obstacle) => {
                self.obstacle = Some(obstacle);
                write_event(&event, out);
            }
        }
    }

    /// Passes on the beginning of the rest.
    fn release(&mut self, rest: &mut Rest, out: &mut Vec<u8>) {
        if let Some((events, text)) = rest.beginning.take() {
            out.extend_from_slice(&events);
            self.add(&text, false);
        }
    }
}

/// Whether a rest begins as the text began; `None` if it is too short to tell.
fn starts_over(text: &str, rest: &str) -> Option<bool> {
    let (text, rest) = (text.trim_start().as_bytes(), rest.trim_start().as_bytes());
    let compared = text.len().min(COMPARED);
    match rest.len() < compared {
        _ if compared == 0 => Some(false),
        true if text.starts_with(rest) => None,
        true => Some(false),
        false => Some(rest.starts_with(&text[..compared])),
    }
}

/// Writes an event that was read.
fn write_event(event: &Event<'_>, out: &mut Vec<u8>) {
    for (field, value) in [("event: ", Some(event.name).filter(|name| !name.is_empty())), ("id: ", event.id)] {
        if let Some(value) = value {
            out.extend_from_slice(field.as_bytes());
            out.extend_from_slice(value);
            out.push(b'\n');
        }
    }
    for line in event.data.split(|byte| *byte == b'\n') {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

impl Follow for ChatStream {
    fn pass(&mut self, data: Bytes) -> Bytes {
        let mut reader = mem::replace(&mut self.reader, EventReader::new(0));
        let passed = match self.rest.take() {
            None => {
                let whole = reader.read(&data, |event| self.note(event));
                if self.held.len().saturating_add(data.len() - whole) > MAX_EVENT {
                    // Nothing is held back any more.
                    self.obstacle = Some(NotResumed("an event is too long"));
                }
                let whole = if self.obstacle.is_some() { data.len() } else { whole };
                match self.held.is_empty() {
                    // As it comes.
                    true if whole == data.len() => data,
                    true => {
                        self.held.extend_from_slice(&data[whole..]);
                        data.slice(..whole)
                    }
                    false if whole == 0 => {
                        self.held.extend_from_slice(&data);
                        Bytes::new()
                    }
                    false => {
                        let mut passed = mem::take(&mut self.held);
                        passed.extend_from_slice(&data[..whole]);
                        self.held.extend_from_slice(&data[whole..]);
                        passed.into()
                    }
                }
            }
            Some(mut rest) => {
                let mut out = Vec::new();
                reader.read(&data, |event| self.join_event(event, &mut rest, &mut out));
                self.rest = Some(rest);
                out.into()
            }
        };
        self.reader = reader;
        passed
    }

    fn end(&mut self) -> Bytes {
        if let Some(rest) = &mut self.rest
            && !self.has_ended
        {
            rest.mismatch.get_or_insert(NotResumed("the rest ends without its end marker"));
        }
        mem::take(&mut self.held).into()
    }

    fn check(&self) -> Result<(), NotResumed> {
        self.rest.as_ref().and_then(|rest| rest.mismatch).map_or(Ok(()), Err)
    }

    fn request(&mut self, head: &request::Parts, body: &Bytes) -> Result<Request<Bytes>, NotResumed> {
        if self.has_ended {
            return Err(NotResumed("nothing is missing"));
        }
        match self.obstacle {
            Some(obstacle) => Err(obstacle),
            None => self.settings.request(head, body, &self.text),
        }
    }

    fn join(&mut self, response: &response::Parts) -> Result<(), NotResumed> {
        if !is_stream(response) {
            return Err(NotResumed("the backend does not continue the answer"));
        }
        self.held.clear();
        self.reader = EventReader::new(MAX_EVENT);
        self.rest = Some(Rest { beginning: Some(Default::default()), mismatch: None });
        Ok(())
    }
}

/// Without the text, which may be secret.
impl std::fmt::Debug for ChatStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatStream").field("text", &self.text.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::{super::ChatContinuation, *};
    use crate::resume::Resume;

    fn head() -> response::Parts {
        http::Response::builder().header("content-type", "text/event-stream").body(()).unwrap().into_parts().0
    }

    fn begin() -> ChatStream {
        let request = http::Request::new(()).into_parts().0;
        ChatContinuation::new(["c"]).follow(&request, &head()).unwrap()
    }

    fn text(text: &str) -> String {
        format!("data: {{\"id\":\"x\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text:?}}}}}]}}\r\n\r\n")
    }

    /// Passes the pieces between these places.
    fn pass(stream: &mut ChatStream, bytes: &[u8], cuts: &[Index]) -> Vec<u8> {
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
        places.sort_unstable();
        places.windows(2).flat_map(|two| stream.pass(Bytes::copy_from_slice(&bytes[two[0]..two[1]]))).collect()
    }

    proptest! {
        // C75
        #[test]
        fn whole_events_pass_unchanged_however_they_arrive(cuts in vec(any::<Index>(), 0..12), end in any::<Index>()) {
            let whole = [": hi\n\n", &text("a"), &text("\u{e4}"), &text("c")].concat();
            let (mut stream, end) = (begin(), end.index(whole.len() + 1));
            let passed = pass(&mut stream, &whole.as_bytes()[..end], &cuts);
            prop_assert!(whole.as_bytes()[..end].starts_with(&passed));
            // A chunk is passed on if, and only if, its text counts as passed on.
            let shown = std::str::from_utf8(&passed).unwrap();
            prop_assert_eq!(shown.matches("content").count(), stream.text.chars().count());
            prop_assert_eq!([&passed[..], &stream.end()].concat(), &whole.as_bytes()[..end]);
        }

        // C75
        #[test]
        fn a_rest_is_the_same_however_it_arrives(cuts in vec(any::<Index>(), 0..12)) {
            let rest = [": hi\n\n", &text(""), &text("; "), &text("more"), "data: [DONE]\n\n", &text("late")].concat();
            let (mut once, mut often) = (begin(), begin());
            for stream in [&mut once, &mut often] {
                stream.pass(text("the beginning").into());
                stream.join(&head()).unwrap();
            }
            let expected = pass(&mut once, rest.as_bytes(), &[]);
            prop_assert_eq!(&pass(&mut often, rest.as_bytes(), &cuts), &expected);
            prop_assert_eq!(&once.text, "the beginning; more");
            prop_assert!(expected.ends_with(b"data: [DONE]\n\n"));
            prop_assert_eq!((often.end(), often.check()), (Bytes::new(), Ok(())));
        }

        // C58, C75
        #[test]
        fn any_bytes_pass_without_a_panic(bytes in vec(any::<u8>(), 0..200), joins in any::<bool>()) {
            let mut stream = begin();
            stream.pass(text("the beginning").into());
            if joins {
                stream.join(&head()).unwrap();
            }
            for byte in &bytes {
                stream.pass(Bytes::copy_from_slice(&[*byte]));
                let _ = stream.check();
            }
            stream.end();
        }
    }

    // C58, C75
    #[test]
    fn a_gigantic_event_is_not_held_back() {
        let mut stream = begin();
        let piece = Bytes::from(vec![b'x'; 64 * 1024]);
        let passed: usize = (0..40).map(|_| stream.pass(piece.clone()).len()).sum();
        assert!(stream.held.len() <= MAX_EVENT + piece.len() && passed >= 30 * piece.len(), "{passed}");
        assert!(stream.obstacle.is_some());
    }

    // C75
    #[test]
    fn an_answer_that_starts_over_is_seen_as_soon_as_it_can_be_told() {
        let long = "a".repeat(60);
        assert_eq!(starts_over("", "anything"), Some(false));
        assert_eq!(starts_over("It was", ""), None);
        assert_eq!(starts_over("It was", "It"), None);
        assert_eq!(starts_over("It was", "  It was"), Some(true));
        assert_eq!(starts_over("It was", "It is"), Some(false));
        assert_eq!(starts_over("It was", " a night"), Some(false));
        assert_eq!(starts_over(&long, &long[..COMPARED - 1]), None);
        assert_eq!(starts_over(&long, &long[..COMPARED]), Some(true));
    }
}
