//! What kind of error an answer was, as its line names it.
//!
//! Reads names of kinds only: what an error says in words may be of a prompt, and is not read.

use super::json::{Object, text};

/// Errors lie in errors: at most so deep.
const LEVELS: usize = 4;

/// No kind has a longer name.
const LONGEST: usize = 48;

/// Where the kind stands in the line itself, if there is no error object.
const KEYS: [&str; 6] = [
    "error",
    "errorCode",
    "error_code",
    "error_str",
    "status_code",
    "status",
];

/// Where it stands in an error object.
const INNER_KEYS: [&str; 3] = ["type", "code", "status"];

/// Words that say no more than that it was one.
const NO_KINDS: [&str; 7] = [
    "error", "errored", "failed", "failure", "true", "false", "null",
];

/// The kind of the error that a line tells of, if it names one: `rate_limit_error`, `HTTP 529`.
pub(super) fn kind_of(line: &Object<'_>) -> Option<String> {
    let of_result = || line.object("result")?.object("error");
    let error = line.object("error").or_else(of_result);
    let named = error.and_then(|error| innermost(&error, LEVELS));
    named.or_else(|| first(line, &KEYS))
}

/// The innermost names it most exactly.
fn innermost(error: &Object<'_>, levels: usize) -> Option<String> {
    let inner = levels
        .checked_sub(1)
        .and_then(|levels| innermost(&error.object("error")?, levels));
    inner.or_else(|| first(error, &INNER_KEYS))
}

fn first(object: &Object<'_>, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| {
        let raw = object.get(key)?;
        match text(raw) {
            Some(text) => name(&text),
            None => name(raw.get()),
        }
    })
}

/// A word of letters and digits that names a kind.
fn name(word: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let says_nothing = NO_KINDS.contains(&word);
    if word.is_empty() || word.len() > LONGEST || says_nothing || !word.chars().all(is_plain) {
        return None;
    }
    let is_status = word.len() == 3 && word.bytes().all(|b| b.is_ascii_digit());
    Some(if is_status {
        format!("HTTP {word}")
    } else {
        word.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_an_error_is_found_wherever_it_is_named() {
        for (line, kind) in [
            (
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}"#,
                Some("rate_limit_error"),
            ),
            (
                r#"{"error":{"status":529,"error":{"type":"error","error":{"type":"overloaded_error"}}}}"#,
                Some("overloaded_error"),
            ),
            (
                r#"{"error":{"type":"error","status":503}}"#,
                Some("HTTP 503"),
            ),
            (
                r#"{"result":{"type":"errored","error":{"type":"error","error":{"type":"invalid_request_error"}}}}"#,
                Some("invalid_request_error"),
            ),
            (
                r#"{"errorCode":"ThrottlingException"}"#,
                Some("ThrottlingException"),
            ),
            (
                r#"{"status":"failure","error_str":"429"}"#,
                Some("HTTP 429"),
            ),
            (
                r#"{"isApiErrorMessage":true,"error":"authentication_failed"}"#,
                Some("authentication_failed"),
            ),
            // What is said in words is not read.
            (
                r#"{"error":"my secret plan failed","status_code":"401"}"#,
                Some("HTTP 401"),
            ),
            (r#"{"error":{"message":"my secret plan failed"}}"#, None),
            (r#"{"error":"error"}"#, None),
            (r#"{"error":true,"status":"failed"}"#, None),
            (
                r#"{"error":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#,
                None,
            ),
            (r"{}", None),
        ] {
            let object = Object::parse(line).unwrap();
            assert_eq!(kind_of(&object).as_deref(), kind, "{line}");
        }
    }
}
