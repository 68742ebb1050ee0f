use allocation_counter::measure;
use proptest::prelude::*;

use super::*;

/// An event with what it owns.
#[derive(Clone, Debug, Default, PartialEq)]
struct Owned {
    name: String,
    data: Option<String>,
    id: Option<String>,
    is_cut: bool,
}

impl Owned {
    fn of(event: Event<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(event.has_data || event.data.is_empty());
        let data = event.has_data.then(|| text(event.data));
        Self { name: text(event.name), data, id: event.id.map(text), is_cut: event.is_cut }
    }

    fn data(data: &str) -> Self {
        Self { data: Some(data.into()), ..Self::default() }
    }
}

/// Reads the pieces, and checks what holds after each of them.
fn read<'a>(bound: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Owned>, bool) {
    let (mut reader, mut events) = (EventReader::new(bound), Vec::new());
    for piece in pieces {
        let before = events.len();
        let whole = reader.read(piece, |event| events.push(Owned::of(event)));
        assert!(events.len() == before || whole > 0);
        assert!(whole == 0 || matches!(piece[whole - 1], b'\r' | b'\n' | b'\xbf'), "{whole} of {piece:?}");
        if !piece.is_empty() {
            assert_eq!(whole == piece.len(), reader.is_between_events(), "{piece:?}");
        }
        assert!(reader.kept.capacity() <= bound, "{} bytes are kept", reader.kept.capacity());
    }
    (events, reader.is_between_events())
}

fn events(stream: &[u8]) -> Vec<Owned> {
    read(1024, [stream]).0
}

/// Checks that the stream is the same however it is cut into pieces.
fn assert_same_in_pieces(bound: usize, stream: &[u8]) {
    let whole = read(bound, [stream]);
    assert_eq!(read(bound, stream.chunks(1)), whole, "single bytes of {stream:?}");
    for at in 0..=stream.len() {
        let (first, second) = stream.split_at(at);
        assert_eq!(read(bound, [first, &[], second]), whole, "{first:?} and {second:?}");
    }
}

// C73
#[test]
fn fields_are_read_as_the_standard_says() {
    let stream = b"event: a\nevent: add\ndata:  two spaces\ndata\ndata:x:y\nid: 7\nretry: 10\nnone: x\n:data: x\n\n";
    let event =
        Owned { name: "add".into(), data: Some(" two spaces\n\nx:y".into()), id: Some("7".into()), is_cut: false };
    assert_eq!(events(stream), [event]);
    assert_eq!(events(b": ping\n\n\n\n:\n\n"), [Owned::default(), Owned::default()]);
    assert_eq!(events(b"data\n\ndata:\n\n"), [Owned::data(""), Owned::data("")]);
    assert_eq!(events(b"id: a\0b\nid\nDATA: x\n data: x\n\n"), [Owned { id: Some("".into()), ..Owned::default() }]);
    assert_eq!(events(b"data: unfinished\n"), []);
}

// C73
#[test]
fn a_byte_order_mark_at_the_start_is_skipped() {
    let mark = "\u{feff}";
    assert_eq!(events(format!("{mark}data: a\n\n").as_bytes()), [Owned::data("a")]);
    assert_eq!(events(format!("{mark}\n{mark}data: a\n\n").as_bytes()), [Owned::default()]);
    assert_eq!(events(b"\xef\xbbdata: a\n\n"), [Owned::default()]);
    for stream in [mark, "\u{feff}\r\n\r\n", "\u{feff}data: a\ndata: b\n\n", "\u{fe00}data: a\n\n"] {
        assert_same_in_pieces(1024, stream.as_bytes());
        assert_same_in_pieces(2, stream.as_bytes());
    }
    assert!(!read(9, [&b"\xef\xbb"[..]]).1 && read(9, [mark.as_bytes()]).1);
}

// C73
#[test]
fn line_ends_may_be_of_any_kind_and_split() {
    for stream in ["data: a\ndata: b\n\ndata: c\n\n", "\n\n:\n\n", "id: é\ndata: ü\nevent: ñ\ndata: ß\n\nda"] {
        let lf = read(1024, [stream.as_bytes()]);
        for end in ["\r\n", "\r", "\n"] {
            let stream = stream.replace('\n', end);
            assert_eq!(read(1024, [stream.as_bytes()]), lf, "{stream:?}");
            assert_same_in_pieces(1024, stream.as_bytes());
        }
    }
    // A LF after the CR of a blank line ends no further event.
    assert_eq!(read(1024, [&b"data: a\r\n\r"[..], b"\n", b"data: b\n\r\n"]).0.len(), 2);
}

// C73, C58
#[test]
fn an_event_beyond_the_bound_is_cut_and_the_next_is_whole() {
    let stream = format!("data: {}\n\ndata: b\n\n", "a".repeat(100_000));
    let cut = Owned { is_cut: true, ..Owned::data("aaaa") };
    for pieces in [7, 64, 1 << 20] {
        assert_eq!(read(10, stream.as_bytes().chunks(pieces)).0, [cut.clone(), Owned::data("b")]);
    }
    // Of a line that is cut, only data is of use.
    for (line, cut) in
        [("event: abcdef", Owned::default()), ("data: abcdef", Owned::data("ab")), ("database", Owned::default())]
    {
        assert_eq!(read(8.min(line.len() - 4), [format!("{line}\n\n").as_bytes()]).0, [Owned { is_cut: true, ..cut }]);
    }
    assert_eq!(read(0, [&b"data: a\n\n"[..]]).0, [Owned { is_cut: true, ..Owned::default() }]);
}

// C73
#[test]
fn an_event_in_one_piece_allocates_nothing() {
    let mut reader = EventReader::new(64 * 1024);
    let read = |reader: &mut EventReader, piece: &[u8]| {
        measure(|| assert_eq!(reader.read(piece, |event| assert!(event.has_data)), piece.len())).count_total
    };
    for _ in 0..3 {
        assert_eq!(read(&mut reader, b"event: add\r\nid: 7\r\ndata: {\"a\":1}\r\n\r\n"), 0);
    }
    // Lines are joined in the one buffer, which is used again.
    assert_eq!(read(&mut reader, b"data: a\ndata: b\n\n"), 1);
    assert_eq!(read(&mut reader, b"data: c\ndata: d\n\n"), 0);
}

/// The standard, word by word, for a stream that is there as a whole.
fn reference(stream: &[u8]) -> Vec<Owned> {
    let text = String::from_utf8_lossy(stream.strip_prefix(MARK).unwrap_or(stream)).into_owned();
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let Some((lines, _unfinished)) = text.rsplit_once('\n') else { return Vec::new() };
    let (mut events, mut event, mut is_empty) = (Vec::new(), Owned::default(), true);
    for line in lines.split('\n') {
        if line.is_empty() {
            events.extend((!is_empty).then(|| mem::take(&mut event)));
            is_empty = true;
            continue;
        }
        is_empty = false;
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => event.data = Some(event.data.take().map_or(value.into(), |data| format!("{data}\n{value}"))),
            "event" => event.name = value.into(),
            "id" if !value.contains('\0') => event.id = Some(value.into()),
            _ => {}
        }
    }
    events
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "\n", "\n", "\n\n", "\r\n", "\r\n\r\n", "\r", ":", " ", "data: ", "data", "event: ", "id:", "id", "\0", "é",
        "\u{feff}", "a", "bc", "[DONE]",
    ]);
    let byte = prop_oneof![any::<u8>().prop_map(|byte| vec![byte]), part.prop_map(|part| part.as_bytes().to_vec())];
    prop::collection::vec(byte, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    // C58, C73
    #[test]
    fn a_stream_is_the_same_in_any_pieces(stream in stream(), bound in 0usize..30) {
        assert_same_in_pieces(bound, &stream);
        assert_same_in_pieces(1024, &stream);
    }

    // C73
    #[test]
    fn events_are_those_of_the_standard(stream in stream()) {
        prop_assert_eq!(read(1024, [&stream[..]]).0, reference(&stream));
    }

    // C58
    #[test]
    fn no_bytes_make_it_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..8)) {
        read(16, pieces.iter().map(|piece| &piece[..]));
    }
}
