//! The format of the gateway's own errors: that of the API which its clients speak.

use http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

/// `server.errors` in the file.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ErrorFormat {
    /// Problem details, RFC 9457.
    #[default]
    Problem,
    /// `{"error": {"message", "type", "code"}}`.
    OpenAi,
    /// `{"type": "error", "error": {"type", "message"}}`.
    Anthropic,
    /// The format of the API that a request belongs to.
    Auto,
}

/// Every request to Anthropic's API has it.
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// The last segments of OpenAI's paths that other APIs hardly have.
const OPENAI_PATHS: [&str; 4] = ["/chat/completions", "/completions", "/responses", "/embeddings"];

impl ErrorFormat {
    /// The format of the errors for a request with this path and these headers.
    pub(crate) fn of(self, path: &str, headers: &HeaderMap) -> Self {
        match self {
            Self::Auto if headers.contains_key(ANTHROPIC_VERSION) => Self::Anthropic,
            Self::Auto if OPENAI_PATHS.iter().any(|end| path.ends_with(end)) => Self::OpenAi,
            Self::Auto => Self::Problem,
            format => format,
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Problem | Self::Auto => "application/problem+json",
            Self::OpenAi | Self::Anthropic => "application/json",
        }
    }

    /// The error as JSON. With `attempts`, it says which backends were tried.
    pub(crate) fn body(self, status: StatusCode, detail: &str, attempts: Option<Value>) -> Value {
        let title = status.canonical_reason().unwrap_or("error");
        let (mut body, member) = match self {
            Self::Problem | Self::Auto => {
                (json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail }), None)
            }
            Self::OpenAi => {
                let kind = if status.is_client_error() { "invalid_request_error" } else { "server_error" };
                let code = title.to_ascii_lowercase().replace(' ', "_");
                let error = json!({ "message": detail, "type": kind, "param": null, "code": code });
                (json!({ "error": error }), Some("error"))
            }
            Self::Anthropic => {
                let error = json!({ "type": anthropic_type(status), "message": detail });
                (json!({ "type": "error", "error": error }), Some("error"))
            }
        };
        if let Some(attempts) = attempts {
            let place = match member {
                Some(member) => &mut body[member],
                None => &mut body,
            };
            place["attempts"] = attempts;
        }
        body
    }
}

fn anthropic_type(status: StatusCode) -> &'static str {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        _ if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    }
}
