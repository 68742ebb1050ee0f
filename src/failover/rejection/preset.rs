//! The rules for APIs of language models, made of the public parts.

use super::{super::Follow, rule::Rejection, rules::Rejections};
use crate::outcome::Statuses;

impl Rejections {
    /// Creates the rules for chat completions and similar APIs of language models.
    ///
    /// | rule | statuses | told by | what follows |
    /// |---|---|---|---|
    /// | `content policy` | 400, 403 | code `content_filter` and others, or the text | the caller gets the answer: a policy is not evaded |
    /// | `context length` | 400, 413, 422 | code `context_length_exceeded` and others, or the text | the next backend with the tag `larger-context` |
    /// | `quota` | 400, 402, 403, 429 | code `insufficient_quota` and others, or the text | the next backend |
    /// | `wrong key` | 401; 403 | any 401; code `invalid_api_key` and others | the next backend; it counts for the circuit |
    /// | `model not found` | 404 | code `model_not_found` and others | the next backend |
    ///
    /// A code may be any member of `error`, such as `code` or `type`. For other rules first, see [`or`](Self::or).
    ///
    /// ```
    /// use tower_fleet::failover::{Follow, Rejections};
    ///
    /// let rejections = Rejections::chat_completions();
    /// let body = br#"{ "error": { "message": "too long", "code": "context_length_exceeded" } }"#;
    /// assert_eq!(rejections.matched(400, body).unwrap().follow(), Follow::Tagged("larger-context"));
    /// assert!(rejections.matched(400, br#"{ "error": { "code": "invalid_value" } }"#).is_none());
    /// ```
    pub fn chat_completions() -> Self {
        let policy = || rule("content policy", &[400, 403]).then(Follow::Answer);
        let length = || rule("context length", &[400, 413, 422]).then(Follow::Tagged("larger-context"));
        let quota = || rule("quota", &[400, 402, 403, 429]);
        let rules = [
            // First: a request that a policy refuses is sent to no other backend, whatever else its answer holds.
            with_code(policy(), &["content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"]),
            policy().contains(["content management policy", "content policy", "safety system"]),
            with_code(length(), &["context_length_exceeded", "string_above_max_length"]),
            length().contains([
                "context length",
                "context window",
                "context_length_exceeded",
                "prompt is too long",
                "input is too long",
                "too many tokens",
                "input token count",
            ]),
            with_code(quota(), &["insufficient_quota", "billing_hard_limit_reached", "billing_not_active"]),
            quota().contains(["credit balance is too low", "exceeded your current quota", "insufficient credits"]),
            rule("wrong key", &[401]).counts(true),
            with_code(rule("wrong key", &[403]), &["invalid_api_key", "authentication_error", "permission_error"])
                .counts(true),
            with_code(rule("model not found", &[404]), &["model_not_found", "DeploymentNotFound"]),
        ];
        Self::new(rules).expect("the rules of the preset are valid")
    }
}

fn rule(name: &'static str, statuses: &[u16]) -> Rejection {
    let statuses = statuses.iter().try_fold(Statuses::none(), |statuses, status| statuses.and(*status));
    Rejection::new(name).statuses(statuses.expect("the statuses of the preset are valid"))
}

fn with_code(rule: Rejection, codes: &[&str]) -> Rejection {
    rule.json("error.*", codes.iter().copied()).expect("the path of the preset is valid")
}
