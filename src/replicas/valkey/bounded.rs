//! A stream of bytes that ends where a reply of the server is not of a bounded size.

use std::{
    io::{Error, ErrorKind, Result},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection to a server, of which every reply is of a bounded size.
///
/// The parser behind it keeps a reply until it is whole. So one endless string would fill the memory, as fast as the
/// network is, until a request is late.
pub(super) struct Bounded<S> {
    inner: S,
    frames: Frames,
}

/// Follows the frames of RESP, and refuses those that are too large.
///
/// Knows no more than it needs: a frame is a line, which announces bytes, further frames, or nothing.
#[derive(Debug, Default)]
struct Frames {
    /// The line so far, without its end.
    line: Vec<u8>,
    /// The bytes of a string that are still to come, with those of its end.
    bytes: usize,
    /// The frames still to come, of the aggregates that are open.
    open: Vec<usize>,
    /// The frames that the present reply has announced.
    announced: usize,
    /// The bytes that it has announced or sent.
    total: usize,
}

/// Longer than every error message.
const MAX_LINE: usize = 4096;
/// Longer than everything this crate stores.
const MAX_STRING: usize = 64 * 1024;
/// More than the answers for one batch of backends.
const MAX_FRAMES: usize = 4096;
/// More than those have together.
const MAX_REPLY: usize = 256 * 1024;
/// A message in an array in a push.
const MAX_DEPTH: usize = 8;

impl<S> Bounded<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, frames: Frames::default() }
    }
}

impl Frames {
    /// Reads some bytes.
    ///
    /// # Errors
    ///
    /// They are not RESP, or a reply is too large.
    fn read(&mut self, mut bytes: &[u8]) -> Result<()> {
        while let Some(first) = bytes.first() {
            if self.bytes > 0 {
                let skipped = self.bytes.min(bytes.len());
                self.bytes -= skipped;
                bytes = &bytes[skipped..];
                if self.bytes == 0 {
                    self.end_frame();
                }
                continue;
            }
            bytes = &bytes[1..];
            if *first == b'\n' && self.line.last() == Some(&b'\r') {
                self.line.pop();
                let line = std::mem::take(&mut self.line);
                self.begin_frame(&line).ok_or_else(refused)?;
                // Its allocation is used again.
                self.line = line;
                self.line.clear();
            } else if self.line.len() < MAX_LINE {
                self.line.push(*first);
            } else {
                return Err(refused());
            }
        }
        Ok(())
    }

    /// Takes the first line of a frame. `None` if the frame is refused.
    fn begin_frame(&mut self, line: &[u8]) -> Option<()> {
        let (kind, rest) = line.split_first()?;
        self.total += line.len();
        match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => self.end_frame(),
            b'$' | b'*' if rest == b"-1" => self.end_frame(),
            b'$' | b'=' | b'!' => {
                self.bytes = number(rest, MAX_STRING)? + 2;
                self.total += self.bytes;
            }
            b'*' | b'~' | b'>' => self.begin_frames(number(rest, MAX_FRAMES)?)?,
            b'%' => self.begin_frames(2 * number(rest, MAX_FRAMES / 2)?)?,
            _ => return None,
        }
        (self.total <= MAX_REPLY).then_some(())
    }

    fn begin_frames(&mut self, count: usize) -> Option<()> {
        self.announced += count;
        if self.announced > MAX_FRAMES || self.open.len() >= MAX_DEPTH {
            return None;
        }
        match count {
            0 => self.end_frame(),
            _ => self.open.push(count),
        }
        Some(())
    }

    /// Ends a frame, and the aggregates that end with it.
    fn end_frame(&mut self) {
        while let Some(rest) = self.open.last_mut() {
            *rest -= 1;
            if *rest > 0 {
                return;
            }
            self.open.pop();
        }
        (self.announced, self.total) = (0, 0);
    }
}

/// Parses a number of at most `max`.
fn number(digits: &[u8], max: usize) -> Option<usize> {
    let is_number = !digits.is_empty() && digits.len() <= 7 && digits.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    digits.parse().ok().filter(|number| *number <= max)
}

fn refused() -> Error {
    Error::new(ErrorKind::InvalidData, "not a reply of a bounded size")
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        Poll::Ready(self.frames.read(&buf.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Option<Frames> {
        let mut frames = Frames::default();
        frames.read(bytes).ok().map(|()| frames)
    }

    /// Whether the bytes are accepted, and end with a whole reply.
    fn is_whole(bytes: &[u8]) -> bool {
        read(bytes).is_some_and(|frames| frames.open.is_empty() && frames.bytes == 0 && frames.line.is_empty())
    }

    // C55
    #[test]
    fn replies_of_a_server_pass() {
        let replies: [&[u8]; 9] = [
            b"+OK\r\n",
            b"-WRONGPASS invalid username-password pair or user is disabled.\r\n",
            b":17\r\n",
            b"$-1\r\n",
            b"$5\r\na\r\nb\n\r\n",
            b"*2\r\n$1\r\na\r\n*0\r\n",
            b"%2\r\n+server\r\n$5\r\nredis\r\n+modules\r\n*1\r\n*-1\r\n",
            b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n",
            b"_\r\n#t\r\n,1.5\r\n(123\r\n=4\r\ntxt:\r\n",
        ];
        for reply in replies {
            assert!(is_whole(reply), "{}", reply.escape_ascii());
        }
        assert!(is_whole(&replies.concat()));
    }

    // C58: what a hostile server announces is not waited for.
    #[test]
    fn replies_of_no_bounded_size_are_refused() {
        let long = |kind: &str, count: &str| format!("{kind}{count}\r\n").into_bytes();
        let counts = ["4097", "1000000000", "9223372036854775807", "18446744073709551616", "-2", "", "1e3", "?"];
        for (kind, count) in ["*", "~", ">", "%"].into_iter().flat_map(|kind| counts.map(|count| (kind, count))) {
            assert!(read(&long(kind, count)).is_none(), "{kind}{count}");
        }
        for count in ["65537", "9223372036854775807", "-2", "?"] {
            assert!(read(&long("$", count)).is_none() && read(&long("=", count)).is_none(), "{count}");
        }
        assert!(read(&b"*1\r\n".repeat(MAX_DEPTH + 1)).is_none(), "too deep");
        assert!(read(&[&b"*4000\r\n"[..], b"*4000\r\n"].concat()).is_none(), "too many in all");
        assert!(read(&[b'+'; MAX_LINE + 1]).is_none(), "a line without end");
        let string = [&b"$65000\r\n"[..], &[b'a'; 65_000], b"\r\n"].concat();
        assert!(read(&[&b"*5\r\n"[..], &string.repeat(5)].concat()).is_none(), "too much in all");
        assert!(is_whole(&string.repeat(9)), "each reply is a small one");
        for garbage in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"\r\n", b"|1\r\n", b"\x16\x03\x01\r\n"] {
            assert!(read(garbage).is_none(), "{}", garbage.escape_ascii());
        }
    }

    proptest! {
        // C58
        #[test]
        fn it_does_not_matter_where_reads_end(bytes in "[-+:$*%>~_0-9a\r\n]{0,80}", at in 0..80_usize) {
            let bytes = bytes.replace('\n', "\r\n").into_bytes();
            let at = at.min(bytes.len());
            let mut frames = Frames::default();
            let parts = frames.read(&bytes[..at]).and_then(|()| frames.read(&bytes[at..]));
            prop_assert_eq!(parts.is_ok(), read(&bytes).is_some());
        }
    }
}
