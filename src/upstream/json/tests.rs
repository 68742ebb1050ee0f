//! Tests of the lines of event streams. Services are tested in `tests/json`.

use bytes::Bytes;
use proptest::prelude::*;

use super::{asked::Asked, lines::Lines};

/// What comes of a stream in these pieces.
fn read(lines: &mut Lines, pieces: &[&[u8]]) -> Vec<u8> {
    let asked = Asked::of(b"{\"model\":\"asked\"}").unwrap();
    let read = |lines: &mut Lines, piece: &[u8]| lines.read(Bytes::copy_from_slice(piece), |data| asked.named_in(data));
    let mut all: Vec<u8> = pieces.iter().flat_map(|piece| read(lines, piece)).collect();
    all.extend(lines.rest());
    all
}

const STREAM: &[u8] =
    b"\xEF\xBB\xBFdata: {\"model\":\"a\"}\r\n\r\n: {\"model\":\"a\"}\nevent: x\rdata:{\"model\" : \"\xC3\xA9\"}\r\r\
    data: {\"model\":\ndata\ndatax: {\"model\":\"a\"}\ndata: {\"model\":\"a\"}";
const EDITED: &[u8] =
    b"\xEF\xBB\xBFdata: {\"model\":\"asked\"}\r\n\r\n: {\"model\":\"a\"}\nevent: x\rdata:{\"model\" : \"asked\"}\r\r\
    data: {\"model\":\ndata\ndatax: {\"model\":\"a\"}\ndata: {\"model\":\"a\"}";

// C76
#[test]
fn a_stream_is_edited_alike_however_it_is_split() {
    for first in 0..=STREAM.len() {
        for second in first..=STREAM.len() {
            let pieces = [&STREAM[..first], &STREAM[first..second], &STREAM[second..]];
            assert_eq!(read(&mut Lines::new(1_000), &pieces), EDITED, "{first} {second}");
        }
    }
    let bytes: Vec<&[u8]> = STREAM.chunks(1).collect();
    assert_eq!(read(&mut Lines::new(1_000), &bytes), EDITED);
}

// C58, C76
#[test]
fn a_line_that_is_too_long_is_passed_on_and_not_kept() {
    let long = [b"data: {\"model\":\"a\",\"x\":\"", &*vec![b'x'; 5_000], b"\"}\n"].concat();
    let mut lines = Lines::new(1_000);
    for piece in long[..3_000].chunks(100) {
        lines.read(Bytes::copy_from_slice(piece), |_| panic!("it is too long"));
    }
    assert!(lines.is_empty(), "no more is held");
    assert_eq!(
        read(&mut lines, &[&long[3_000..], b"data: {\"model\":\"a\"}\n"]),
        [&long[3_000..], b"data: {\"model\":\"asked\"}\n"].concat()
    );
}

proptest! {
    // C58, C76
    #[test]
    fn what_names_no_model_stays_byte_for_byte(pieces in prop::collection::vec("(data: ?|[a-z{}\":\r\n\u{feff}]|\"mode\"){0,20}", 0..8)) {
        let pieces: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
        prop_assert_eq!(read(&mut Lines::new(30), &pieces), pieces.concat());
    }

    // C76: nothing but the beginning of a line of data is held back.
    #[test]
    fn complete_lines_are_returned_at_once(pieces in prop::collection::vec("(data: ?|[a-z]|[\r\n]){0,8}", 0..8)) {
        let mut lines = Lines::new(1_000);
        for piece in pieces {
            let is_complete = piece.ends_with(['\r', '\n']);
            lines.read(piece.into(), |_| None);
            prop_assert!(lines.is_empty() || !is_complete);
        }
    }
}
