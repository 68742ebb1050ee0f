//! Documents that are of no use, and parts of them. C54, C58, C59

use tower_fleet::{AdminStatus, CircuitState};

use super::*;

/// A document that the crate has written, of a fleet with all kinds of state.
async fn good() -> Vec<u8> {
    let (fleet, shelf) = (fleet(), Shelf::empty());
    let mut saver = fleet.restore(shelf.clone()).await;
    fleet.drain("a");
    fleet.cool_down("b", secs(30));
    fleet.switch("c").unwrap().trip();
    saver.save().await.unwrap();
    shelf.text().into_bytes()
}

/// Restores a document into a new fleet. Returns the fleet and the warnings.
async fn restored(document: Vec<u8>) -> (Sites, Vec<String>) {
    let (fleet, warnings) = (fleet(), Warnings::collect());
    let _ = fleet.restore(Shelf::with(document)).await;
    (fleet, warnings.take())
}

/// A cold start: every backend serves, and there is one warning with this reason.
#[track_caller]
fn assert_cold((fleet, warnings): &(Sites, Vec<String>), reason: &str, what: &str) {
    let is_cold = |one: Snapshot| one.status == AdminStatus::Healthy && one.state.serves() && one.cools_for.is_none();
    assert!(fleet.snapshot().into_iter().all(is_cold), "{what}: {fleet:?}");
    assert_eq!(warnings.len(), 1, "{what}: {warnings:?}");
    for part in ["state not restored", "api", "the shelf", reason] {
        assert!(warnings[0].contains(part), "{what}: no `{part}` in {}", warnings[0]);
    }
}

// C54
#[tokio::test(start_paused = true)]
async fn a_good_document_is_restored_without_a_warning() {
    let (fleet, warnings) = restored(good().await).await;
    assert_eq!(warnings, [""; 0]);
    assert_eq!(serving(&fleet).await, 0);
    assert_eq!(snapshot(&fleet, "c").state, CircuitState::Open);
}

// C54: the first start.
#[tokio::test(start_paused = true)]
async fn a_missing_document_is_silent() {
    let (fleet, warnings) = (fleet(), Warnings::collect());
    let _ = fleet.restore(Shelf::empty()).await;
    assert_eq!((serving(&fleet).await, warnings.take().len()), (3, 0));
}

// C54
#[tokio::test(start_paused = true)]
async fn a_document_that_is_cut_off_at_any_byte_is_a_cold_start_with_one_warning() {
    let good = good().await;
    for len in 0..good.len() {
        let restored = restored(good[..len].to_vec()).await;
        assert_cold(&restored, "", &format!("{len} bytes"));
    }
}

// C54
#[tokio::test(start_paused = true)]
async fn a_document_with_any_bit_flipped_is_a_cold_start_with_one_warning() {
    let good = good().await;
    for bit in 0..good.len() * 8 {
        let mut document = good.clone();
        document[bit / 8] ^= 1 << (bit % 8);
        let restored = restored(document).await;
        assert_cold(&restored, "", &format!("bit {bit}"));
    }
}

// C54: written by an older or a newer version, whatever else they hold.
#[tokio::test(start_paused = true)]
async fn other_versions_are_cold_starts() {
    for (version, reason) in [
        ("0", "version 0 is older than 1"),
        ("999", "version 999 is newer than 1"),
        ("18446744073709551615", "is newer than 1"),
        ("-1", "it is no state of a fleet"),
        ("1.5", "it is no state of a fleet"),
        ("\"1\"", "it is no state of a fleet"),
    ] {
        let document = format!(r#"{{"version": {version}, "members": [{{"name": "a"}}]}}"#);
        assert_cold(&restored(document.into()).await, reason, version);
        let good =
            String::from_utf8(good().await).unwrap().replacen("\"version\": 1", &format!("\"version\": {version}"), 1);
        assert_cold(&restored(good.into()).await, reason, version);
    }
}

// C54, C58
#[tokio::test(start_paused = true)]
async fn documents_that_are_none_are_cold_starts() {
    let deep = "[".repeat(1 << 20);
    for (text, reason) in [
        ("", "the document ends early"),
        ("\0\0\0\0", "it is no JSON"),
        ("\u{feff}{}", "it is no JSON"),
        ("[]", "it is no state of a fleet"),
        ("{}", "it is no state of a fleet"),
        ("null", "it is no state of a fleet"),
        (&deep, "it is no state of a fleet"),
        (&format!(r#"{{"version": 1, "backends": {deep}"#), "the document ends early"),
        (r#"{"version": 1, "version": 1}"#, "it is no state of a fleet"),
        (r#"{"version": 1}"#, "the checksum does not match"),
    ] {
        assert_cold(&restored(text.into()).await, reason, reason);
    }
    assert_cold(&restored(vec![0xff, 0xfe]).await, "it is no JSON", "no UTF-8");
    for text in [
        r#"{"version": 1, "fleet": 7, "written_at": "1999-01-01T00:00:00Z", "backends": {}"#,
        r#"{"version": 1, "fleet": "api", "written_at": "yesterday", "backends": {}"#,
        r#"{"version": 1, "fleet": "api", "written_at": "1999-01-01T00:00:00Z", "backends": []"#,
        r#"{"version": 1, "fleet": "api", "written_at": "1999-01-01T00:00:00Z""#,
    ] {
        assert_cold(&restored(sealed(text)).await, "it is no state of a fleet", text);
    }
    let other = r#"{"version": 1, "fleet": "other", "written_at": "1999-01-01T00:00:00Z", "backends": {}"#;
    assert_cold(&restored(sealed(other)).await, "it is of another fleet", "the fleet");
}

// C54, C58: only the part that is of no use is lost.
#[tokio::test(start_paused = true)]
async fn an_invalid_backend_costs_no_other_one() {
    let drained = r#""c": {"status": "draining"}"#;
    for (backend, reason) in [
        (r#""a": {"status": "asleep"}"#, "backend `a`: a field is invalid"),
        (r#""a": 7"#, "backend `a`: a field is invalid"),
        (r#""a": {"cool_down": 7}"#, "backend `a`: a field is invalid"),
        (r#""a": {"cool_down": "-7s"}"#, "backend `a`: a field is invalid"),
        (r#""a": {"cool_down": "NaN"}"#, "backend `a`: a field is invalid"),
        (r#""a": {"cool_down": "99999999999999999999years"}"#, "backend `a`: a field is invalid"),
        (r#""a": {"circuit": {"state": "ajar"}}"#, "backend `a`: a field is invalid"),
        (
            r#""a": {"circuit": {"state": "open", "openings": -1, "remaining": "1s"}}"#,
            "backend `a`: a field is invalid",
        ),
        (r#""a": {"circuit": {"state": "open", "openings": 1}}"#, "backend `a`: a field is invalid"),
        (r#""a": {"outlier": {"level": 256, "remaining": "1s"}}"#, "backend `a`: a field is invalid"),
        (r#""a": {"outlier": {"level": 1, "remaining": "1s"}}"#, "outlier.reason must be there"),
        (
            r#""a": {"outlier": {"level": 1, "remaining": "1s",
                "reason": {"rule": "success_rate", "failed": 1, "calls": 1, "peers": 1e300}}}"#,
            "outlier.reason.peers must be a share from 0 to 1",
        ),
        (r#""a": {"failures": {"count": -1, "age": "1s"}}"#, "failures.count must be a number from 0"),
        (r#""a": {"failures": {"count": 1e300, "age": "1s"}}"#, "failures.count must be a number from 0"),
        (r#""a": {"peak": {"age": "1s"}}"#, "either a value or at_least"),
        (r#""a": {"peak": {"value": "1s", "at_least": "1s", "age": "1s"}}"#, "either a value or at_least"),
        (r#""a": {"status": "draining"}, "a": {}"#, "backend `a` is there twice"),
        (r#""a": {}, "a": {"status": "draining"}"#, "backend `a` is there twice"),
        (r#""": {"status": "draining"}"#, "must not be empty"),
        (r#""<script>\u0007": {"status": "draining"}"#, "may hold ASCII letters"),
        (r#""a": 7, "b": 7"#, "backend `a`: a field is invalid, and 1 more"),
    ] {
        let (fleet, warnings) = restored(document(FUTURE, &format!("{backend}, {drained}"))).await;
        assert_eq!(snapshot(&fleet, "c").status, AdminStatus::Draining, "{backend}");
        fleet.set_status("c", AdminStatus::Healthy);
        assert_cold(&(fleet, warnings), reason, backend);
    }
}

// C54: a newer writer of the same version may add fields.
#[tokio::test(start_paused = true)]
async fn unknown_fields_are_ignored() {
    let text = r#"{"version": 1, "fleet": "api", "by": [1], "written_at": "9999-01-01T00:00:00Z",
        "backends": {"a": {"status": "draining", "mood": {"is": "good"}}}"#;
    let (fleet, warnings) = restored(sealed(text)).await;
    assert_eq!((snapshot(&fleet, "a").status, warnings.len()), (AdminStatus::Draining, 0));
}

// C54: one warning for unknown backends and invalid ones together.
#[tokio::test(start_paused = true)]
async fn unknown_backends_are_a_part_of_the_one_warning() {
    let (fleet, warnings) = (fleet(), Warnings::collect());
    let backends = r#""a": 7, "x": {"status": "draining"}, "y": {"status": "draining"}"#;
    let mut saver = fleet.restore(Shelf::with(document(FUTURE, backends))).await;
    let _ = tokio::time::timeout(secs(100), saver.run()).await;
    assert_cold(&(fleet, warnings.take()), "backend `a`: a field is invalid, and 2 more", "unknown");
}

// C54, C59: a path that names another file shows nothing of it.
#[tokio::test(start_paused = true)]
async fn a_warning_shows_nothing_of_a_foreign_document() {
    for document in [
        r#"{"version": "hunter2"}"#.into(),
        r#"{"hunter2": "hunter2"}"#.into(),
        "token=hunter2".into(),
        sealed(r#"{"version": 1, "fleet": "hunter2", "written_at": "1999-01-01T00:00:00Z", "backends": {}"#),
        sealed(r#"{"version": 1, "fleet": "api", "written_at": "hunter2", "backends": {}"#),
        super::document(FUTURE, r#""a": {"status": "hunter2"}"#),
        super::document(FUTURE, r#""a": "hunter2""#),
    ] {
        let (_, warnings) = restored(document).await;
        assert!(warnings.len() == 1 && !warnings[0].contains("hunter2"), "{warnings:?}");
    }
}
