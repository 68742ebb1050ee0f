//! The error of an invalid setting of a failover.

use std::{borrow::Cow, fmt};

use crate::setting::InvalidSetting;

pub(super) fn invalid(
    field: &'static str,
    value: impl fmt::Display,
    reason: impl Into<Cow<'static, str>>,
) -> InvalidSetting {
    InvalidSetting::of("failover", field, value, reason)
}
