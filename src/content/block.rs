//! The lines of one event: its fields, and its data joined in place.

use std::ops::Range;

/// Where the fields of an event are in its block, which is everything before its blank line.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) name: Range<usize>,
    pub(super) id: Option<Range<usize>>,
    /// The value of the first `data` line.
    pub(super) data: Range<usize>,
    pub(super) data_lines: usize,
}

impl Fields {
    /// Finds the fields of a block. Of several names or ids, the last one counts.
    pub(super) fn of(block: &[u8]) -> Self {
        let mut fields = Self::default();
        let mut at = 0;
        while let Some(line) = Line::at(block, at) {
            at = line.next;
            match line.field(block) {
                Some((b"data", value)) => {
                    if fields.data_lines == 0 {
                        fields.data = value;
                    }
                    fields.data_lines += 1;
                }
                Some((b"event", value)) => fields.name = value,
                Some((b"id", value)) if !block[value.clone()].contains(&0) => fields.id = Some(value),
                _ => {}
            }
        }
        fields
    }

    /// Joins the `data` lines of the block at its beginning, each after a line feed. Name and id move behind it.
    ///
    /// In place, so that an event needs no second buffer as large as itself.
    pub(super) fn join(mut self, block: &mut [u8]) -> Self {
        let mut lines = block.len();
        // Takes a value out of its line and puts it behind all lines. The line stays one, and is none of data.
        let mut move_back = |value: &Range<usize>| {
            block[value.start..lines].rotate_left(value.len());
            lines -= value.len();
            lines..lines + value.len()
        };
        let name = move_back(&self.name);
        if let Some(id) = &mut self.id {
            let shift = if id.start > self.name.start { name.len() } else { 0 };
            *id = move_back(&(id.start - shift..id.end - shift));
        }
        self.name = name;

        let (mut at, mut end, mut is_first) = (0, 0, true);
        while let Some(line) = Line::at(&block[..lines], at) {
            at = line.next;
            if let Some((b"data", value)) = line.field(block) {
                // The word `data` of this line leaves room for the line feed.
                if !is_first {
                    block[end] = b'\n';
                    end += 1;
                }
                is_first = false;
                let len = value.len();
                block.copy_within(value, end);
                end += len;
            }
        }
        self.data = 0..end;
        self
    }
}

/// A line, without its end.
struct Line {
    range: Range<usize>,
    next: usize,
}

impl Line {
    /// The line that begins at `at`. It ends at CR, LF, CRLF or the end of the block.
    fn at(block: &[u8], at: usize) -> Option<Self> {
        let rest = block.get(at..).filter(|rest| !rest.is_empty())?;
        let len = line_end(rest).unwrap_or(rest.len());
        let end_len = match rest[len..] {
            [b'\r', b'\n', ..] => 2,
            [] => 0,
            _ => 1,
        };
        Some(Self { range: at..at + len, next: at + len + end_len })
    }

    /// The name and the value of the field. A comment has an empty name.
    fn field<'a>(&self, block: &'a [u8]) -> Option<(&'a [u8], Range<usize>)> {
        let line = &block[self.range.clone()];
        let colon = line.iter().position(|byte| *byte == b':');
        let name = &line[..colon.unwrap_or(line.len())];
        let value = match colon {
            Some(colon) if line.get(colon + 1) == Some(&b' ') => colon + 2,
            Some(colon) => colon + 1,
            None => line.len(),
        };
        // A line without an end was cut off by the bound: only the beginning of data is of use.
        let is_cut = self.next == self.range.end;
        let is_usable = !is_cut || (name == b"data" && colon.is_some());
        is_usable.then_some((name, self.range.start + value..self.range.end))
    }
}

/// The position of the first CR or LF.
pub(super) fn line_end(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'))
}
