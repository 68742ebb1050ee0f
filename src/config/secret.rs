//! References to secrets, which are in environment variables.

use super::ValueError;
use crate::setting::InvalidSetting;

/// Returns the secret with this name.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A secret, and the variable that it is from.
pub(super) struct Secret<'a> {
    variable: &'a str,
    pub(super) value: String,
}

impl<'a> Secret<'a> {
    /// Finds the secret for `env:NAME`. Any other text may be the secret itself, and is not shown.
    pub(super) fn find(reference: &'a str, lookup: Lookup<'_>) -> Result<Self, ValueError> {
        let variable = reference.trim().strip_prefix("env:").filter(|name| is_variable(name));
        let variable =
            variable.ok_or_else(|| ValueError::hidden("must be a reference to a secret, such as \"env:API_KEY\""))?;
        match lookup(variable) {
            Some(value) if !value.is_empty() => Ok(Self { variable, value }),
            Some(_) => Err(ValueError::hidden(format_args!("environment variable {variable} is empty"))),
            None => Err(ValueError::hidden(format_args!("environment variable {variable} is not set"))),
        }
    }

    pub(super) fn refused(&self, error: InvalidSetting) -> ValueError {
        ValueError::hidden(format_args!("environment variable {} {}", self.variable, error.reason())).because(error)
    }
}

/// Whether a text can be the name of a variable, and so may be shown. Most keys contain other characters.
fn is_variable(name: &str) -> bool {
    let fits = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'_';
    name.len() <= 128 && name.bytes().all(fits) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}
