//! Paths into JSON.

use std::{fmt, str::FromStr};

use serde_json::Value;

use crate::setting::InvalidSetting;

/// A path into a JSON document, such as `error.code`, `choices.*.delta.content` or `error.details.0.type`.
///
/// Its segments are separated by dots: the name of a member, the number of an element from 0, or `*` for each of them. A
/// member whose name has a dot, or is `*`, cannot be named.
///
/// ```
/// use tower_fleet::content::JsonPath;
///
/// let path: JsonPath = "choices.*.delta.content".parse()?;
/// let chunk = serde_json::json!({ "choices": [{ "delta": { "content": "hel" } }, { "delta": { "content": "lo" } }] });
/// assert_eq!(path.find(&chunk).collect::<Vec<_>>(), ["hel", "lo"]);
///
/// assert_eq!("error..code".parse::<JsonPath>().unwrap_err().field(), "path");
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JsonPath(Box<[Segment]>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Segment {
    Each,
    /// A member, and the element that its name is the number of.
    Named(Box<str>, Option<usize>),
}

impl JsonPath {
    /// Finds the values at the path, in the order of the document. None where the document has no such member.
    pub fn find<'a>(&self, document: &'a Value) -> impl Iterator<Item = &'a Value> + use<'a, '_> {
        let mut open = vec![(document, &*self.0)];
        std::iter::from_fn(move || {
            while let Some((value, path)) = open.pop() {
                let Some((segment, rest)) = path.split_first() else {
                    return Some(value);
                };
                match (segment, value) {
                    // The last one is taken first.
                    (Segment::Each, Value::Array(each)) => open.extend(each.iter().rev().map(|value| (value, rest))),
                    (Segment::Each, Value::Object(each)) => {
                        let first = open.len();
                        open.extend(each.values().map(|value| (value, rest)));
                        open[first..].reverse();
                    }
                    (Segment::Named(name, _), Value::Object(members)) => {
                        open.extend(members.get(&**name).map(|value| (value, rest)));
                    }
                    (Segment::Named(_, Some(index)), Value::Array(elements)) => {
                        open.extend(elements.get(*index).map(|value| (value, rest)));
                    }
                    _ => {}
                }
            }
            None
        })
    }
}

impl FromStr for JsonPath {
    type Err = InvalidSetting;

    fn from_str(path: &str) -> Result<Self, InvalidSetting> {
        let refused = |reason: &'static str| InvalidSetting::of("", "path", format_args!("`{path}`"), reason);
        if path.is_empty() {
            return Err(refused("must not be empty"));
        }
        let segment = |name: &str| match name {
            "" => Err(refused("must have no empty segment")),
            "*" => Ok(Segment::Each),
            _ => Ok(Segment::Named(name.into(), index(name))),
        };
        Ok(Self(path.split('.').map(segment).collect::<Result<_, _>>()?))
    }
}

/// The number of an element, in its shortest form: of `+1` and `01` there are members only.
fn index(name: &str) -> Option<usize> {
    let index: usize = name.parse().ok()?;
    (index.to_string() == name).then_some(index)
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, segment) in self.0.iter().enumerate() {
            let dot = if number == 0 { "" } else { "." };
            let name = match segment {
                Segment::Each => "*",
                Segment::Named(name, _) => name,
            };
            write!(f, "{dot}{name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn found(path: &str, document: &Value) -> Vec<Value> {
        path.parse::<JsonPath>().unwrap().find(document).cloned().collect()
    }

    // C72
    #[test]
    fn a_path_leads_through_members_and_elements() {
        let document = json!({ "error": { "code": "x", "details": [{ "type": "y" }, { "type": 7 }], "0": null } });
        assert_eq!(found("error.code", &document), [json!("x")]);
        assert_eq!(found("error.details.0.type", &document), [json!("y")]);
        assert_eq!(found("error.details.*.type", &document), [json!("y"), json!(7)]);
        assert_eq!(found("*.details.*.*", &document), [json!("y"), json!(7)]);
        assert_eq!(found("error.0", &document), [json!(null)]);
        for missing in ["error.code.0", "error.details.2", "error.details.00.type", "Error", "error.details.type", "0"]
        {
            assert!(found(missing, &document).is_empty(), "{missing}");
        }
    }

    // C58
    #[test]
    fn an_empty_path_or_segment_is_refused() {
        for path in ["", ".", "a.", ".a", "a..b"] {
            let error = path.parse::<JsonPath>().unwrap_err();
            assert_eq!((error.field(), error.value()), ("path", &*format!("`{path}`")));
        }
        let long = format!("{}.", "x".repeat(100_000));
        assert!(long.parse::<JsonPath>().unwrap_err().to_string().len() < 300);
    }

    proptest! {
        // C58
        #[test]
        fn a_path_is_shown_as_it_was_written(path in "[a0*.+]{0,9}", document in "[\\[\\]{}\"a0:,]{0,20}") {
            if let Ok(parsed) = path.parse::<JsonPath>() {
                prop_assert_eq!(parsed.to_string(), path);
                let document = serde_json::from_str(&document).unwrap_or(json!({ "a": [{ "0": "a" }, []] }));
                prop_assert!(parsed.find(&document).count() < 20);
            }
        }
    }
}
