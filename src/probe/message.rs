//! The two messages of the gRPC health protocol, with their frames.
//!
//! ```proto
//! message HealthCheckRequest { string service = 1; }
//! message HealthCheckResponse { ServingStatus status = 1; } // SERVING = 1
//! ```

use bytes::{BufMut, Bytes, BytesMut};

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Serving,
    /// Any other status.
    NotServing,
    /// Not a message of this kind, or not a single one.
    Malformed,
}

/// The types of protobuf on the wire.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED_32: u64 = 5;

/// A flag and a length of four bytes.
const PREFIX: usize = 5;
const SERVING: u64 = 1;

/// Returns the request for the health of a service, in its frame.
pub(super) fn request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    // A field with its default is not sent.
    if !service.is_empty() {
        message.put_u8((1 << 3) | LENGTH as u8);
        put_varint(&mut message, service.len());
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put(message);
    frame.freeze()
}

/// Reads a response, in its frame.
pub(super) fn reply(frame: &[u8]) -> Reply {
    // A set flag is a compressed message, which was not offered.
    let Some((&[0, a, b, c, d], message)) = frame.split_first_chunk::<PREFIX>() else { return Reply::Malformed };
    if message.len() != u32::from_be_bytes([a, b, c, d]) as usize {
        return Reply::Malformed;
    }
    match status(message) {
        Some(SERVING) => Reply::Serving,
        Some(_) => Reply::NotServing,
        None => Reply::Malformed,
    }
}

/// Returns the field `status`: the last one counts, and 0 stands for none. Other fields are skipped.
fn status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match (key >> 3, key & 7) {
            (0, _) => return None,
            (1, VARINT) => status = varint(&mut message)?,
            (_, VARINT) => drop(varint(&mut message)?),
            (_, FIXED_64) => message = message.get(8..)?,
            (_, FIXED_32) => message = message.get(4..)?,
            (_, LENGTH) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            _ => return None,
        }
    }
    Some(status)
}

/// Reads a number of up to ten bytes.
fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn put_varint(message: &mut BytesMut, mut number: usize) {
    while number >= 0x80 {
        message.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    message.put_u8(number as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // C43
    #[test]
    fn requests_are_those_of_the_protocol() {
        assert_eq!(&*request(""), [0, 0, 0, 0, 0]);
        assert_eq!(&*request("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = request(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
        assert_eq!(long.len(), 5 + 3 + 300);
    }

    // C43
    #[test]
    fn only_serving_is_serving() {
        for (frame, expected) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Reply::Serving),
            (&[0, 0, 0, 0, 2, 8, 2], Reply::NotServing),
            (&[0, 0, 0, 0, 2, 8, 3], Reply::NotServing),
            // No field is `UNKNOWN`.
            (&[0, 0, 0, 0, 0], Reply::NotServing),
            // An unknown field, and the last status counts.
            (&[0, 0, 0, 0, 8, 8, 2, 0x12, 2, 9, 9, 8, 1], Reply::Serving),
            (&[0, 0, 0, 0, 4, 8, 1, 8, 2], Reply::NotServing),
            (&[0, 0, 0, 0, 11, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1], Reply::Serving),
            (&[], Reply::Malformed),
            (&[0, 0, 0, 0, 2, 8], Reply::Malformed),
            (&[0, 0, 0, 0, 2, 8, 1, 0], Reply::Malformed),
            (&[1, 0, 0, 0, 2, 8, 1], Reply::Malformed),
            (&[0, 0xff, 0xff, 0xff, 0xff, 8, 1], Reply::Malformed),
            (&[0, 0, 0, 0, 3, 0x12, 0xff, 1], Reply::Malformed),
            (&[0, 0, 0, 0, 1, 8], Reply::Malformed),
            (&[0, 0, 0, 0, 2, 0x0b, 1], Reply::Malformed),
        ] {
            assert_eq!(reply(frame), expected, "{frame:?}");
        }
    }

    proptest! {
        // C58
        #[test]
        fn no_frame_makes_it_panic(message in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = reply(&message);
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            let _ = reply(&[&[0], &length[..], &message].concat());
        }
    }
}
