use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json, value::RawValue};

use super::{
    super::{
        edits::{Edit, Text},
        path::Path,
    },
    *,
};

fn set(value: &str) -> Edit {
    Edit::Change(Change::Set(Text(value.into())))
}

fn default(value: &str) -> Edit {
    Edit::Change(Change::Default(Text(value.into())))
}

const REMOVE: Edit = Edit::Change(Change::Remove);

fn names(pairs: &[(&str, &str)]) -> Edit {
    let listed = pairs.iter().map(|(from, to)| ((*from).to_owned(), Text::of(*to))).collect();
    Edit::Names(Names { listed, others: None })
}

fn edits(edits: &[(&str, Edit)]) -> Edits {
    let mut all = Edits::default();
    for (path, edit) in edits {
        all.add(&Path::parse(path).unwrap(), edit.clone()).unwrap();
    }
    all
}

/// The text after the edits.
fn edited(text: &str, of: &[(&str, Edit)]) -> Result<String, NotEdited> {
    let result = edits(of).apply(text.as_bytes(), Unmapped::Keep)?;
    Ok(result.map_or_else(|| text.to_owned(), |text| String::from_utf8(text).unwrap()))
}

// C76
#[test]
fn what_is_not_edited_stays_byte_for_byte() {
    let text = " {\"n\" : 1e400,\n\"big\":123456789012345678901234567890 , \"model\" : \"a\", \"\\u0061\":[1.0,  2.50] ,\"z\":{ }}\n";
    let of = [("model", set("\"b\"")), ("z.q", set("-0.0")), ("\\.", default("{}"))];
    assert_eq!(
        edited(text, &of).unwrap(),
        " {\"n\" : 1e400,\n\"big\":123456789012345678901234567890 , \"model\" : \"b\", \"\\u0061\":[1.0,  2.50] ,\
         \"z\":{\"q\":-0.0 },\".\":{}}\n",
    );
}

// C76
#[test]
fn fields_are_set_defaulted_and_removed() {
    for (text, edit, expected) in [
        ("{}", ("a", set("1")), "{\"a\":1}"),
        ("{}", ("a.b.c", set("1")), "{\"a\":{\"b\":{\"c\":1}}}"),
        ("{\"a\":null}", ("a.b", set("1")), "{\"a\":{\"b\":1}}"),
        ("{\"a\":null}", ("a", default("1")), "{\"a\":null}"),
        ("{\"a\":0}", ("a", default("1")), "{\"a\":0}"),
        ("{\"a\":null}", ("a.b", default("1")), "{\"a\":{\"b\":1}}"),
        ("{\"a\":{\"b\":0}}", ("a.c", default("1")), "{\"a\":{\"b\":0,\"c\":1}}"),
        ("{\"a\":1}", ("a", REMOVE), "{}"),
        ("{ \"a\":1 , \"b\":2 , \"c\":3 }", ("a", REMOVE), "{ \"b\":2 , \"c\":3 }"),
        ("{ \"a\":1 , \"b\":2 , \"c\":3 }", ("b", REMOVE), "{ \"a\":1 , \"c\":3 }"),
        ("{ \"a\":1 , \"b\":2 , \"c\":3 }", ("c", REMOVE), "{ \"a\":1 , \"b\":2 }"),
        ("{\"a\":1,\"a\":2,\"b\":3,\"a\":4}", ("a", REMOVE), "{\"b\":3}"),
        ("{\"a\":1,\"\\u0061\":2}", ("a", set("3")), "{\"a\":3,\"\\u0061\":3}"),
        ("{\"a\":5}", ("a.b", REMOVE), "{\"a\":5}"),
        ("[{\"a\":1},{\"a\":2}]", ("1.a", set("3")), "[{\"a\":1},{\"a\":3}]"),
        ("[1, 2, 3]", ("0", REMOVE), "[2, 3]"),
        ("[1]", ("0", REMOVE), "[]"),
        ("[1]", ("1", REMOVE), "[1]"),
        ("{\"0\":1}", ("0", set("2")), "{\"0\":2}"),
        ("{\"a.b\":1}", ("a\\.b", set("2")), "{\"a.b\":2}"),
        ("{\"\\ud800\":1}", ("a", set("2")), "{\"\\ud800\":1,\"a\":2}"),
    ] {
        assert_eq!(edited(text, std::slice::from_ref(&edit)).as_deref(), Ok(expected), "{text} {edit:?}");
    }
    let all = [("a", REMOVE), ("b", set("1")), ("c", default("2"))];
    assert_eq!(edited("{\"a\":0}", &all).unwrap(), "{\"b\":1,\"c\":2}");
}

// C76
#[test]
fn names_are_mapped_and_others_stay_or_are_refused() {
    let of = [("model", names(&[("fast", "gpt-4o-mini"), ("large", "gpt-4o")])), ("model", default("\"fast\""))];
    for (text, expected) in [
        ("{\"model\":\"fast\"}", "{\"model\":\"gpt-4o-mini\"}"),
        ("{\"model\":\"f\\u0061st\"}", "{\"model\":\"gpt-4o-mini\"}"),
        ("{\"model\":\"other\"}", "{\"model\":\"other\"}"),
        ("{\"model\":7}", "{\"model\":7}"),
        ("{}", "{\"model\":\"fast\"}"),
    ] {
        assert_eq!(edited(text, &of).as_deref(), Ok(expected), "{text}");
    }
    let refused = |text: &str| edits(&of).apply(text.as_bytes(), Unmapped::Refuse);
    assert_eq!(refused("{\"model\":\"other\"}"), Err(NotEdited::UnknownName));
    assert_eq!(refused("{\"model\":7}"), Err(NotEdited::UnknownName));
    assert!(refused("{\"model\":\"large\"}").is_ok());
}

// C58, C76
#[test]
fn what_cannot_be_edited_has_a_reason() {
    for (text, path, expected) in [
        ("", "a", NotEdited::NotJson),
        ("{\"a\":1", "a", NotEdited::NotJson),
        ("{\"a\":1} 2", "a", NotEdited::NotJson),
        ("{\"a\":01}", "a", NotEdited::NotJson),
        ("\u{feff}{}", "a", NotEdited::NotJson),
        ("1", "a", NotEdited::NotAnObject),
        ("[]", "a", NotEdited::NotAnObject),
        ("[]", "0", NotEdited::NoSuchElement),
        ("{\"a\":\"b\"}", "a.b", NotEdited::NotAnObject),
    ] {
        assert_eq!(edited(text, &[(path, set("1"))]), Err(expected), "{text}");
    }
    assert_eq!(edits(&[("a", set("1"))]).apply(b"{\"a\":\"\xff\"}", Unmapped::Keep), Err(NotEdited::NotJson));
    // However deep it is.
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(300_000), "]".repeat(300_000));
    assert_eq!(edited(&deep, &[("a", set("1"))]).unwrap(), "{\"a\":1}");
}

/// A value in a random spelling.
fn any_text() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("1e400"),
        Just("-0.0"),
        Just("12345678901234567890123"),
        Just("null"),
        Just("true"),
        Just("\"\""),
        Just("\"a\""),
        Just("\"\\u00e9\\\"}],{ \""),
        Just("\"\\ud800\""),
    ];
    scalar.prop_map(str::to_owned).prop_recursive(4, 40, 5, |inner| {
        let space = || prop_oneof![Just(""), Just(" "), Just("\n\t "), Just("\r\n")];
        let list = |open: &'static str, close: &'static str| {
            move |items: Vec<String>, space: &str| {
                format!("{open}{space}{}{space}{close}", items.join(&format!("{space},{space}")))
            }
        };
        let elements = (prop::collection::vec(inner.clone(), 0..5), space());
        // Each key once, so that a map is a model of the object.
        let members = (prop::collection::btree_map("[abc0]", inner, 0..5), space());
        prop_oneof![
            elements.prop_map(move |(items, space)| list("[", "]")(items, space)),
            members.prop_map(move |(members, space)| {
                let member = |(key, value): (String, String)| {
                    // The same key in another spelling.
                    let key = if value.len() % 3 == 0 { format!("\\u{:04x}", key.as_bytes()[0]) } else { key };
                    format!("\"{key}\"{space}:{space}{value}")
                };
                list("{", "}")(members.into_iter().map(member).collect(), space)
            }),
        ]
    })
}

fn any_edit() -> impl Strategy<Value = (String, Edit)> {
    let path = prop::collection::vec("[abc01]", 1..4).prop_map(|segments| segments.join("."));
    let edit = prop_oneof![
        any_text().prop_map(|text| set(&text)),
        any_text().prop_map(|text| default(&text)),
        Just(REMOVE),
        Just(names(&[("a", "mapped"), ("", "empty")])),
    ];
    (path, edit)
}

/// The value of a text, in which each scalar is the text that it has there. Reads it without the code under test.
fn lifted(text: &str) -> Value {
    let text = text.trim();
    match text.as_bytes()[0] {
        b'{' => {
            let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).unwrap();
            members.into_iter().map(|(key, value)| (key, lifted(value.get()))).collect()
        }
        b'[' => {
            let elements: Vec<Box<RawValue>> = serde_json::from_str(text).unwrap();
            elements.into_iter().map(|value| lifted(value.get())).collect()
        }
        _ => json!(text),
    }
}

/// What a single edit does to such a value. `None` if the path leads through something else than an object.
fn model(value: &mut Value, path: &[&str], edit: &Edit) -> Option<()> {
    let fills = matches!(edit, Edit::Change(Change::Set(_) | Change::Default(_)));
    let (segment, below) = path.split_first()?;
    if *value == json!("null") && fills {
        *value = json!({});
    }
    let is_last = below.is_empty();
    let child = match value {
        Value::Object(members) => {
            if is_last && matches!(edit, Edit::Change(Change::Remove)) {
                members.remove(*segment);
                return Some(());
            }
            if fills && !members.contains_key(*segment) {
                members.insert((*segment).to_owned(), json!(if is_last { "missing" } else { "null" }));
            }
            members.get_mut(*segment)
        }
        Value::Array(elements) => {
            let index = segment.parse::<usize>().ok().filter(|index| *index < elements.len());
            if let Some(index) = index
                && is_last
                && matches!(edit, Edit::Change(Change::Remove))
            {
                elements.remove(index);
                return Some(());
            }
            index.and_then(|index| elements.get_mut(index))
        }
        _ => None,
    };
    let Some(child) = child else { return (!fills).then_some(()) };
    if !is_last {
        return model(child, below, edit);
    }
    match edit {
        Edit::Change(Change::Set(text)) => *child = lifted(&text.0),
        Edit::Change(Change::Default(text)) if *child == json!("missing") => *child = lifted(&text.0),
        Edit::Names(names) => {
            let name = child.as_str().and_then(|text| serde_json::from_str::<String>(text).ok());
            if let Some(Text(text)) = name.and_then(|name| names.listed.get(&name)) {
                *child = json!(&**text);
            }
        }
        Edit::Change(_) => {}
    }
    Some(())
}

proptest! {
    // C76
    #[test]
    fn edits_do_what_the_model_does(text in any_text(), list in prop::collection::vec(any_edit(), 1..4)) {
        let (mut all, mut added) = (Edits::default(), Vec::new());
        for (path, edit) in list {
            // Contradictions are refused, and leave out what is tried here.
            let mut tried = all.clone();
            if tried.add(&Path::parse(&path).unwrap(), edit.clone()).is_ok() {
                all = tried;
                added.push((path, edit));
            }
        }
        // A removal moves the elements after it, and the indices of the other edits are those of before.
        let removes_first = |(_, edit): &(String, Edit)| matches!(edit, Edit::Change(Change::Remove));
        added.sort_by_key(|edit| (removes_first(edit), std::cmp::Reverse(edit.0.clone())));
        // A default is not mapped.
        added.sort_by_key(|(_, edit)| match edit { Edit::Names(_) => 0, Edit::Change(_) => 1 });
        let mut expected = lifted(&text);
        let done: Option<Vec<()>> = added.iter().map(|(path, edit)| {
            model(&mut expected, &path.split('.').collect::<Vec<_>>(), edit)
        }).collect();
        let found = all.apply(text.as_bytes(), Unmapped::Keep);
        match done {
            None => prop_assert!(matches!(found, Err(NotEdited::NotAnObject | NotEdited::NoSuchElement)), "{found:?}"),
            Some(_) => {
                let found = found.unwrap().map_or(text, |text| String::from_utf8(text).unwrap());
                prop_assert_eq!(lifted(&found), expected, "{}", found);
            }
        }
    }

    // C76
    #[test]
    fn a_field_that_is_set_back_makes_the_same_bytes(text in any_text(), path in prop::collection::vec("[abc01]", 1..4)) {
        let path = path.join(".");
        // Where the field is, as a text of the document.
        let mut found = Some(text.clone());
        for segment in path.split('.') {
            found = found.and_then(|text| match text.trim().as_bytes()[0] {
                b'{' => serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(&text).unwrap().remove(segment),
                b'[' => {
                    let elements: Vec<Box<RawValue>> = serde_json::from_str(&text).unwrap();
                    segment.parse().ok().and_then(|index: usize| elements.into_iter().nth(index))
                }
                _ => None,
            }).map(|value| value.get().to_owned());
        }
        if let Some(value) = found {
            let other = edited(&text, &[(&*path, set("\"another value\""))]).unwrap();
            prop_assert_ne!(&other, &text);
            prop_assert_eq!(edited(&other, &[(&*path, set(&value))]).unwrap(), text);
        }
    }

    // C58
    #[test]
    fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..64), seed in "[\\[\\]{}\",:a0\\\\ ]{0,40}") {
        let all = edits(&[("a", set("1")), ("0.a", REMOVE), ("b.a", default("2"))]);
        for text in [&*text, seed.as_bytes()] {
            let _ = all.apply(text, Unmapped::Keep);
            // Nor where it is no JSON.
            let end = root(text).end;
            prop_assert!(end <= text.len());
            prop_assert!(Members::of(text, 0).count() <= text.len());
        }
    }
}
