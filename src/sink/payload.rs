//! What a hook reads on its standard input: our own object, or what Slack, PagerDuty and Alertmanager take as it is.
//!
//! Shapes only: sending is the hook's business, which is the user's.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Told;
use super::json::{alert_text, episode, rfc3339};
use super::text::{Clock, clean, details, headline, who};
use crate::monitor::{Reason, Severity};

/// The shape of what a hook reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// The object of `--json`.
    Json,
    /// A message for an incoming webhook of Slack.
    Slack,
    /// An event for `/v2/enqueue` of PagerDuty.
    PagerDuty {
        /// The integration key, which is part of the event.
        routing_key: String,
    },
    /// Alerts for `/api/v2/alerts` of Alertmanager.
    Alertmanager,
}

/// The most characters that PagerDuty takes as a summary.
const MAX_SUMMARY: usize = 1024;

impl Payload {
    /// The text for a notice.
    pub(super) fn text(&self, told: Told<'_>, clock: Clock) -> String {
        match self {
            Self::Json => alert_text(told),
            Self::Slack => slack(told, clock).to_string(),
            Self::PagerDuty { routing_key } => pagerduty(told, clock, routing_key).to_string(),
            Self::Alertmanager => alertmanager(told, clock).to_string(),
        }
    }
}

fn is_over(told: Told<'_>) -> bool {
    told.notice.reason == Reason::Resolved
}

/// `cache-break: 3 requests in a row missed the cache: $0.86 paid again · claude-opus-4-7`.
fn summary(told: Told<'_>) -> String {
    let notice = told.notice;
    let mut text = format!("{}: {}", clean(&notice.rule.name), headline(notice));
    for part in who(notice) {
        text.push_str(" · ");
        text.push_str(&part);
    }
    text
}

fn slack(told: Told<'_>, clock: Clock) -> Value {
    // The three characters that Slack gives a meaning.
    let escape = |text: &str| {
        let text = text.replace('&', "&amp;");
        text.replace('<', "&lt;").replace('>', "&gt;")
    };
    let sign = match told.notice.rule.severity {
        _ if is_over(told) => ":white_check_mark: resolved",
        Severity::Critical => ":rotating_light: critical",
        Severity::Warning => ":warning: warning",
        Severity::Info => ":information_source: info",
    };
    let mut text = format!("{sign} {}", escape(&summary(told)));
    for line in details(told.notice, clock) {
        text.push_str("\n> ");
        text.push_str(&escape(&line));
    }
    json!({ "text": text })
}

fn pagerduty(told: Told<'_>, clock: Clock, routing_key: &str) -> Value {
    let notice = told.notice;
    let summary = summary(told);
    let short = &summary[..summary.floor_char_boundary(MAX_SUMMARY)];
    let alert: Value = serde_json::from_str(&alert_text(told)).unwrap_or(Value::Null);
    json!({
        "routing_key": routing_key,
        "event_action": if is_over(told) { "resolve" } else { "trigger" },
        "dedup_key": episode(notice),
        "client": "claude-tokmon",
        "payload": {
            "summary": short,
            "source": clean(&notice.labels.source),
            "severity": notice.rule.severity.name(),
            "timestamp": rfc3339(notice.at),
            "component": clean(&notice.rule.name),
            "class": notice.rule.metric.name(),
            "custom_details": { "details": details(notice, clock), "alert": alert },
        },
    })
}

/// Alertmanager tells alerts apart by their labels, so these are the same for all notices of an episode.
fn alertmanager(told: Told<'_>, clock: Clock) -> Value {
    let notice = told.notice;
    let mut labels: BTreeMap<&str, String> = notice
        .key
        .iter()
        .map(|(label, value)| (label.name(), clean(value).into_owned()))
        .collect();
    labels.insert("alertname", clean(&notice.rule.name).into_owned());
    labels.insert("severity", notice.rule.severity.name().to_owned());
    labels.insert("episode", episode(notice));
    let mut alert = json!({
        "labels": labels,
        "annotations": {
            "summary": summary(told),
            "description": details(notice, clock).join("\n"),
            "reason": notice.reason.name(),
        },
        "startsAt": rfc3339(notice.since),
    });
    if is_over(told) {
        alert["endsAt"] = json!(rfc3339(notice.at));
    }
    json!([alert])
}
