//! Incidents that really were, as their owner wrote them down: one JSON object a line.
//!
//! Reading only; whether an alert found them is judged elsewhere.

use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use serde::Deserialize;

use crate::config::moment;
use crate::monitor::{Rule, Time};
use crate::parse::Zone;
use crate::source::reason;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    start: String,
    end: String,
    rule: Option<String>,
    key: Option<String>,
    note: Option<String>,
}

/// An incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Incident {
    pub(super) id: String,
    pub(super) start: Time,
    pub(super) end: Time,
    /// Only this rule counts as having found it.
    pub(super) rule: Option<String>,
    /// The session, project, model or agent that it was about.
    pub(super) key: Option<String>,
    pub(super) note: Option<String>,
    /// Its dollars are those paid again for cached prompt, not all.
    pub(super) is_about_cache: bool,
}

const FORM: &str = r#"write {"id":"loop-1","start":"2026-11-20T14:00:00Z","end":"2026-11-20T15:30:00Z"}, and if known "rule", "key", "note""#;

/// Reads a file of incidents.
///
/// # Errors
/// If it cannot be read, or a line is no incident; says which and how to write it.
pub(super) fn read(path: &Path, rules: &[Rule], now: Time, zone: Zone) -> Result<Vec<Incident>> {
    let name = path.display();
    let text = fs::read_to_string(path)
        .map_err(|e| anyhow!("--labels: cannot read {name}: {}", reason(&e)))?;
    let mut incidents = Vec::new();
    for (n, line) in text
        // Some editors put one before the text.
        .trim_start_matches('\u{feff}')
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let place = format!("{name}:{}", n + 1);
        let written: Written =
            serde_json::from_str(line).map_err(|e| anyhow!("{place}: {}; {FORM}", plain(&e)))?;
        let time = |field: &str, text: &str| {
            moment(text, now, zone).map_err(|e| anyhow!("{place}: {field}: {e}"))
        };
        let (start, end) = (time("start", &written.start)?, time("end", &written.end)?);
        if end < start {
            bail!("{place}: it ends before it starts");
        }
        let rule = written.rule.as_deref().map(|name| {
            let known = rules.iter().find(|rule| *rule.name == *name);
            known.ok_or_else(|| {
                let names: Vec<&str> = rules.iter().map(|rule| &*rule.name).collect();
                anyhow!(
                    "{place}: there is no rule \"{name}\"; there are {}",
                    names.join(", ")
                )
            })
        });
        incidents.push(Incident {
            start,
            end,
            is_about_cache: rule
                .transpose()?
                .is_some_and(|rule| rule.metric.is_about_cache()),
            id: written.id,
            rule: written.rule,
            key: written.key,
            note: written.note,
        });
    }
    if incidents.is_empty() {
        bail!("{name} holds no incident; {FORM}");
    }
    Ok(incidents)
}

/// The library's words without the place, which is that of the line alone.
fn plain(error: &serde_json::Error) -> String {
    if !error.is_data() {
        return "it is no JSON object".to_owned();
    }
    let text = error.to_string();
    text.split(" at line").next().unwrap_or(&text).to_owned()
}
