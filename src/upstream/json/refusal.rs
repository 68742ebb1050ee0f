//! What happens to a request whose body is not edited.

use tower::BoxError;

use super::{Unedited, apply::NotEdited, settings::Settings};
use crate::outcome::{Failure, FailureKind, Note};

/// Returns the note for the ledger if the request is sent nevertheless.
///
/// # Errors
///
/// Returns the error of an attempt whose request is not sent.
pub(super) fn unedited(settings: &Settings, reason: NotEdited) -> Result<Option<Note>, BoxError> {
    // Without edits, only the response would have been changed.
    if settings.edits.is_empty() {
        return Ok(None);
    }
    match settings.otherwise {
        Unedited::Forward if reason != NotEdited::UnknownName => Ok(Some(Note::new(reason.reason()))),
        _ => Err(refused(reason)),
    }
}

/// The error of an attempt whose request is not sent.
pub(super) fn refused(reason: NotEdited) -> BoxError {
    Failure::new(FailureKind::Unsuitable(reason.reason())).into()
}
