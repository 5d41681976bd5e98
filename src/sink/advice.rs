//! What the reader of a notice would look at next.
//!
//! Knows causes and changes. How it is all said in lines is for others.

use super::changed::Changes;
use super::text::{Clock, clean, leading, short};
use crate::monitor::{Cause, Label, Metric, Notice, Unit};

/// What the reader would do next. `changes` are known, if anything has changed.
pub(super) fn advice(notice: &Notice, changes: &Changes, clock: Clock) -> Option<String> {
    let at = clock.minute(notice.since);
    let is_of_session = notice.key.iter().any(|(label, _)| *label == Label::Session);
    let session = leading(&notice.sessions).filter(|_| !is_of_session);
    let session = session.map(|(name, share)| {
        let name = short(&clean(name));
        format!("session {name} ({share} % of {})", whole(notice))
    });
    let and_session = || {
        let session = session.as_ref();
        session.map(|who| format!("; {who}")).unwrap_or_default()
    };
    if let Some(look_at) = changes.advice(&at) {
        return Some(format!("{look_at}{}", and_session()));
    }
    match notice.rule.metric {
        Metric::Unpriced | Metric::Blind => None,
        Metric::Silence => Some(format!(
            "the service, and whether it still logs here: the last response came at {at}"
        )),
        Metric::Budget => Some(
            "what spends it: claude-tokmon replay --since -1d --by model (or project, session)"
                .to_owned(),
        ),
        Metric::PromptPerRequest | Metric::CostPerRequest => Some(format!(
            "a dearer model, or prompts that have grown, since {at}{}",
            and_session()
        )),
        Metric::CacheGain => {
            Some("prompts that are written to the cache and never read again".to_owned())
        }
        Metric::Errors => Some(match notice.error_kinds.first() {
            Some((kind, _)) => of_errors(kind, &at),
            None => format!(
                "what the errors since {at} say: a rate limit, an outage, or a loop that tries again"
            ),
        }),
        Metric::CacheLeak => notice.causes.first().map(|tally| of_leak(&tally.cause)),
        Metric::NoCache => {
            Some("cache_control on the part of the prompt that stays the same".to_owned())
        }
        metric if metric.is_about_cache() => {
            notice.causes.first().map(|tally| match &tally.cause {
                Cause::Rewritten => format!("what changed in the system prompt or tools at {at}"),
                Cause::Dropped => format!("the change that removed cache_control at {at}"),
                Cause::Partial => format!("what has been editing earlier messages since {at}"),
                Cause::TtlChanged => "the ttl of cache_control, which was 1h".to_owned(),
                Cause::Api(kind) if kind.starts_with("system") => {
                    format!("the system prompt, changed at {at}")
                }
                Cause::Api(kind) if kind.starts_with("tools") => {
                    format!("the list of tools, changed at {at}")
                }
                Cause::Api(kind) if kind.starts_with("messages") => {
                    format!("what rewrites earlier messages since {at}")
                }
                Cause::Api(_)
                | Cause::Expired
                | Cause::Compacted
                | Cause::Concurrent
                | Cause::ModelChanged => {
                    format!("what changed at {at}")
                }
            })
        }
        _ if is_of_session => Some(format!("what this session has been doing since {at}")),
        _ => Some(session.unwrap_or_else(|| {
            "who spends it: claude-tokmon replay --since -1h --by session (or model, project)"
                .to_owned()
        })),
    }
}

/// What shares of models, sessions and projects are shares of.
fn whole(notice: &Notice) -> &'static str {
    match notice.rule.metric {
        Metric::Errors => "the errors",
        Metric::Requests => "the responses",
        metric if metric.unit() == Unit::Tokens => "the tokens",
        _ => "the cost",
    }
}

/// What the reader would do next about errors of a kind.
fn of_errors(kind: &str, at: &str) -> String {
    let is = |names: &[&str]| names.iter().any(|name| kind.contains(name));
    if is(&["rate_limit", "429", "Throttl", "TooManyRequests"]) {
        format!("what sends so much since {at}, or the rate limits of the workspace")
    } else if is(&["overloaded", "529", "503", "api_error", "timeout", "500"]) {
        format!("the status page of the API, and that what tries again since {at} waits in between")
    } else if is(&[
        "authentication",
        "permission",
        "401",
        "403",
        "AccessDenied",
        "billing",
    ]) {
        format!("the API key and what it may do: something of it changed at {at}")
    } else if is(&[
        "invalid_request",
        "400",
        "413",
        "too_large",
        "Validation",
        "not_found",
    ]) {
        format!("the change at {at} that makes requests invalid")
    } else {
        format!("what the errors since {at} say")
    }
}

/// Where to look for what loses a part of the cache all the time: it is how prompts are built, not a change.
fn of_leak(cause: &Cause) -> String {
    match cause {
        Cause::Partial => "what edits earlier messages or comes before them: history that is cut, documents or times in front of it, \
                           requests spread over several keys or regions"
            .to_owned(),
        Cause::Rewritten => {
            "what is new at the front of each prompt: a time, an id, tools in another order; or several keys or regions".to_owned()
        }
        Cause::Dropped => "the requests that are sent without cache_control".to_owned(),
        Cause::TtlChanged => "the ttl of cache_control: some entries live five minutes".to_owned(),
        Cause::Api(kind) => format!("what changes all the time: the API says {}", clean(kind)),
        Cause::Expired | Cause::Compacted | Cause::Concurrent | Cause::ModelChanged => {
            "what changes in prompts all the time".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_look_at_goes_with_the_kind_of_the_errors() {
        for (kinds, word) in [
            (
                &[
                    "rate_limit_error",
                    "HTTP 429",
                    "ThrottlingException",
                    "rate_limit",
                ][..],
                "rate limits",
            ),
            (
                &["overloaded_error", "HTTP 529", "api_error", "timeout_error"],
                "status page",
            ),
            (
                &["authentication_error", "permission_error", "HTTP 401"],
                "API key",
            ),
            (
                &["invalid_request_error", "HTTP 400", "request_too_large"],
                "invalid",
            ),
            (&["teapot"], "what the errors since 02:00 say"),
        ] {
            for kind in kinds {
                let advice = of_errors(kind, "02:00");
                assert!(advice.contains(word), "{kind}: {advice}");
            }
        }
    }

    #[test]
    fn a_leak_says_where_to_look_for_it() {
        for (cause, word) in [
            (Cause::Partial, "history that is cut"),
            (Cause::Rewritten, "front of each prompt"),
            (Cause::Dropped, "without cache_control"),
            (Cause::TtlChanged, "ttl"),
            (Cause::Api("tools_changed".into()), "tools_changed"),
        ] {
            assert!(of_leak(&cause).contains(word), "{cause:?}");
        }
    }
}
