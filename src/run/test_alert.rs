//! `--test-alert`: notices that nothing has caused, through every output, to see where they arrive.
//!
//! Reads no log and knows no monitor but the shape of its notices.

use std::sync::Arc;

use super::{Exit, HOOK_PATIENCE, wall_clock};
use crate::monitor::{Metric, Notice, Reason, Rule, Severity};
use crate::sink::{Mode, Output, Sinks};

/// Sends a test notice of each severity, and its end, through all outputs, and says what became of them. Found: a hook failed.
pub fn test_alert(output: &Output) -> Exit {
    let mut sinks = Sinks::new(output, Mode::Tail, true);
    let now = wall_clock();
    sinks.refresh(now);
    let mut notices = Vec::new();
    for severity in [Severity::Info, Severity::Warning, Severity::Critical] {
        let rule = Arc::new(Rule {
            name: format!("test-{}", severity.name()).into(),
            metric: Metric::Blind,
            severity,
            ..Rule::blank()
        });
        let id = xxhash_rust::xxh3::xxh3_64(format!("{} {}", rule.name, now.0).as_bytes());
        let text = format!(
            "this is a test: a notice of severity {} looks like this",
            severity.name()
        );
        for reason in [Reason::First, Reason::Resolved] {
            let text = text.as_str();
            notices.push(Notice::in_words(
                &rule,
                reason,
                Vec::new(),
                id,
                now,
                now,
                text,
            ));
        }
    }
    sinks.tell(&notices, Some(now));
    let untried = sinks.finish(HOOK_PATIENCE).len();
    let (said, exit) = match sinks.hook_outcomes() {
        None => ("there is no hook (--exec)".to_owned(), Exit::Clean),
        Some(outcomes) if outcomes.failed == 0 && untried == 0 => (
            format!(
                "the hook ran {} times and each time ended well",
                outcomes.ok
            ),
            Exit::Clean,
        ),
        Some(outcomes) => {
            let tried = outcomes.failed + outcomes.ok;
            let rest = match untried {
                0 => String::new(),
                n => format!(" and was not run for {n} more: after five failures it rests"),
            };
            let text = format!(
                "the hook failed {} of {tried} times{rest}; what it said stands above",
                outcomes.failed
            );
            (text, Exit::Found)
        }
    };
    let json = if output.json {
        "stdout as JSON"
    } else {
        "no JSON (--json)"
    };
    sinks.printer.line(&format!(
        "{} test notices: stderr as above, {json}, {said}",
        notices.len()
    ));
    sinks.printer.drain();
    exit
}
