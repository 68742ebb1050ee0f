//! Paths to the fields of a JSON document.

/// A path to a field: keys of objects and indices of arrays.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path(Vec<Box<str>>);

/// Far deeper than any field that an API has.
const MAX_SEGMENTS: usize = 16;

impl Path {
    /// Reads a path whose segments are separated by dots. `\.` is a dot in a key, and `\\` a backslash.
    pub(super) fn parse(path: &str) -> Result<Self, &'static str> {
        let (mut segments, mut segment) = (Vec::new(), String::new());
        let mut letters = path.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '.' => segments.push(std::mem::take(&mut segment).into_boxed_str()),
                '\\' => match letters.next() {
                    Some(escaped @ ('.' | '\\')) => segment.push(escaped),
                    _ => return Err("must have a dot or a backslash after each backslash"),
                },
                letter => segment.push(letter),
            }
        }
        segments.push(segment.into_boxed_str());
        if segments.iter().any(|segment| segment.is_empty()) {
            return Err("must be a path such as stream_options.include_usage, without empty segments");
        }
        if segments.len() > MAX_SEGMENTS {
            return Err("must have at most 16 segments");
        }
        Ok(Self(segments))
    }

    pub(super) fn of(segments: &[&str]) -> Self {
        Self(segments.iter().map(|segment| (*segment).into()).collect())
    }

    pub(super) fn segments(&self) -> &[Box<str>] {
        &self.0
    }
}
