//! The section `[resume]`.

use super::{debugged, good, read, refused, with_backends};

const NAMES: [&str; 2] = ["near", "far"];

// C75
#[test]
fn nothing_is_resumed_unless_it_is_asked_for() {
    assert!(debugged(&good("").resume()).contains("resume: (None, None)"));
}

// C75
#[test]
fn downloads_and_chats_are_resumed() {
    let layer = debugged(&good("[resume]\nranges = true\nmost = 3").resume());
    assert!(layer.contains("Some(ByteRanges") && layer.contains("most: 3"), "{layer}");
    let chats = "[resume]\ncontinue_chats = { backends = [\"far\"], request_flags = { continue = true } }";
    let layer = debugged(&good(&with_backends(chats, &NAMES)).resume());
    let expected =
        [r#"backends: ["far"]"#, r#"message_flags: [("prefix", true)]"#, r#"request_flags: [("continue", true)]"#];
    assert!(expected.iter().all(|part| layer.contains(part)), "{layer}");
    let bare = "[resume]\ncontinue_chats = { backends = [\"far\"], message_flags = {} }";
    assert!(debugged(&good(&with_backends(bare, &NAMES)).resume()).contains("message_flags: []"));
}

// C75, C58
#[test]
fn settings_without_an_effect_are_refused_by_path_and_value() {
    let cases = [
        ("[resume]", "resume: resumes nothing: it needs `ranges = true` or `continue_chats`"),
        ("[resume]\nranges = false", "resume: resumes nothing: it needs `ranges = true` or `continue_chats`"),
        ("[resume]\nranges = true\nmost = 0", "resume.most: 0 must be at least 1"),
        (
            "[resume]\ncontinue_chats = { backends = [] }",
            "resume.continue_chats.backends: must name a backend that continues chats",
        ),
        (
            "[resume]\ncontinue_chats = { backends = [\"near\", \"fat\"] }",
            "resume.continue_chats.backends[1]: \"fat\" must be the name of a backend of this file, without `dns`",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(&with_backends(text, &NAMES)), expected, "{text}");
    }
    assert!(read("[resume]\nranges = true\nfrom = 1").is_err());
}
