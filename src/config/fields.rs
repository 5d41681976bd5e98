//! The fields of a rule as TOML: read with their types, and written so that they read back as the same. An unknown key is refused
//! with its name and the way out.
//!
//! Knows one rule. Where it was written, and what is laid over what, is for those who put rules together.

use anyhow::{Result, bail};
use toml::{Table, Value};

use super::units::{amount, duration, write_amount, write_duration};
use crate::monitor::{
    Amount, Filter, LABELS, Label, Limit, METRICS, Metric, PERIODS, Rule, Severity,
};
use crate::parse::Pointer;
use crate::pattern::Pattern;
use crate::price::PicoUsd;

/// Every key that a rule may have.
const KEYS: [&str; 21] = [
    "name",
    "metric",
    "per",
    "window",
    "min_requests",
    "min_prompt_tokens",
    "min_waste",
    "min_cost",
    "where",
    "by",
    "above",
    "below",
    "times_usual",
    "beyond_busy",
    "by_chance",
    "silent_for",
    "share_of_cost",
    "floor",
    "for",
    "keep_firing",
    "severity",
];

/// Those that set a limit.
pub(super) const LIMIT_KEYS: [&str; 6] = [
    "above",
    "below",
    "times_usual",
    "beyond_busy",
    "by_chance",
    "silent_for",
];

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct KeyError {
    pub(super) key: String,
    text: String,
}

pub(super) fn key_error(key: &str, text: String) -> anyhow::Error {
    let key = key.to_owned();
    KeyError { key, text }.into()
}

/// Refuses a key that no rule has.
///
/// # Errors
/// Names the one that may be meant.
pub(super) fn check_key(key: &str) -> Result<()> {
    if KEYS.contains(&key) || key == "enabled" {
        return Ok(());
    }
    let near = suggestion(key, KEYS.into_iter().chain(["enabled"]));
    Err(key_error(key, format!("unknown key \"{key}\"{near}")))
}

/// `; did you mean "above"?`, or all there is to choose from.
pub(super) fn suggestion<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let near = known
        .iter()
        .map(|name| (strsim::osa_distance(wrong, name), *name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4);
    match near {
        Some((_, name)) => format!("; did you mean \"{name}\"?"),
        None => format!("; there are {}", known.join(", ")),
    }
}

/// The rule that a table says. `near` says of its name which built-in one may be meant: those need no metric.
///
/// # Errors
/// Names the key and what it may hold.
pub(super) fn build(name: &str, table: &Table, near: impl FnOnce() -> String) -> Result<Rule> {
    for key in table.keys() {
        check_key(key)?;
    }
    let field = Fields(table);
    let metric = field.one_of("metric", &METRICS.map(|m| (m.name(), m)))?;
    let metric: Metric = metric.ok_or_else(|| {
        let near = near();
        key_error(
            "name",
            format!("no built-in rule has this name, and a new one needs a metric{near}"),
        )
    })?;
    let severity = [Severity::Info, Severity::Warning, Severity::Critical].map(|s| (s.name(), s));
    Ok(Rule {
        name: name.into(),
        metric,
        per_secs: if metric == Metric::Budget {
            None
        } else {
            field.duration("per")?
        },
        period: if metric == Metric::Budget {
            field.one_of("per", &PERIODS.map(|period| (period.name(), period)))?
        } else {
            None
        },
        windows: field.durations("window")?,
        min_requests: field.integer("min_requests")?.unwrap_or(0),
        min_prompt_tokens: u64::try_from(field.integer("min_prompt_tokens")?.unwrap_or(5000))?,
        min_waste: PicoUsd(field.amount("min_waste")?.unwrap_or(0)),
        min_cost: PicoUsd(field.amount("min_cost")?.unwrap_or(0)),
        filter: field.filter()?,
        by: field.labels()?,
        limit: field.limit(metric)?,
        share_of_cost: field.amount("share_of_cost")?.unwrap_or(0),
        floor: field.amount("floor")?.unwrap_or(0),
        hold_secs: field.duration("for")?.unwrap_or(0),
        keep_firing_secs: field.duration("keep_firing")?.unwrap_or(300),
        severity: field
            .one_of("severity", &severity)?
            .unwrap_or(Severity::Warning),
        enabled: field.boolean("enabled")?.unwrap_or(true),
    })
}

/// The values of a rule's table, by type.
struct Fields<'a>(&'a Table);

impl Fields<'_> {
    fn read<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Result<Option<T>> {
        let value = self.0.get(key).map(read);
        value
            .transpose()
            .map_err(|e| key_error(key, format!("{key}: {e}")))
    }

    fn text<T>(
        &self,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>> {
        self.read(key, |value| match value {
            Value::String(text) => read(text),
            other => Err(format!(
                "write it as text in quotes, not as {}",
                other.type_str()
            )),
        })
    }

    fn duration(&self, key: &str) -> Result<Option<i64>> {
        self.text(key, duration)
    }

    fn durations(&self, key: &str) -> Result<Vec<i64>> {
        self.list(key, "\"60s\" or [\"60s\", \"5m\"]", duration)
    }

    /// One text or several, each read by itself.
    fn list<T>(
        &self,
        key: &str,
        example: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>> {
        let each = |item: &Value| {
            let text = item.as_str();
            text.ok_or_else(|| format!("write each as text: {example}"))
                .and_then(&read)
        };
        let list = self.read(key, |value| match value {
            Value::String(text) => Ok(vec![read(text)?]),
            Value::Array(items) => items.iter().map(each).collect(),
            other => Err(format!("write {example}, not {}", other.type_str())),
        })?;
        Ok(list.unwrap_or_default())
    }

    /// A decimal number. The shortest text of a binary fraction is what was typed, so nothing is lost by way of it.
    fn amount(&self, key: &str) -> Result<Option<Amount>> {
        self.read(key, |value| match value {
            Value::Integer(n) => amount(&n.to_string()),
            Value::Float(n) => amount(&n.to_string()),
            Value::String(text) => amount(text),
            other => Err(format!("write a number, not {}", other.type_str())),
        })
    }

    fn integer(&self, key: &str) -> Result<Option<i64>> {
        self.read(key, |value| {
            value
                .as_integer()
                .filter(|n| *n >= 0)
                .ok_or_else(|| "write a whole number of 0 or more".to_owned())
        })
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.read(key, |value| {
            value
                .as_bool()
                .ok_or_else(|| "write true or false".to_owned())
        })
    }

    fn one_of<T: Copy>(&self, key: &str, known: &[(&str, T)]) -> Result<Option<T>> {
        self.text(key, |text| {
            let found = known.iter().find(|(name, _)| *name == text);
            found.map(|(_, value)| *value).ok_or_else(|| {
                format!(
                    "unknown \"{text}\"{}",
                    suggestion(text, known.iter().map(|(name, _)| *name))
                )
            })
        })
    }

    fn labels(&self) -> Result<Vec<Label>> {
        self.list("by", "[\"session\"]", label)
    }

    fn filter(&self) -> Result<Filter> {
        let patterns = self.read("where", |value| {
            let table = value
                .as_table()
                .ok_or("write { model = \"claude-opus-*\" }")?;
            let mut patterns = Vec::new();
            for (key, pattern) in table {
                let pattern = pattern
                    .as_str()
                    .ok_or_else(|| format!("{key}: write a pattern as text"))?;
                let pattern = Pattern::of_names(pattern).map_err(|e| format!("{key}: {e}"))?;
                let label = label(key)?;
                if label == Label::Conversation {
                    return Err("a conversation has no name to match; use session".to_owned());
                }
                patterns.push((label, pattern));
            }
            Ok(patterns)
        })?;
        Ok(Filter {
            patterns: patterns.unwrap_or_default(),
        })
    }

    fn limit(&self, metric: Metric) -> Result<Limit> {
        let given: Vec<&str> = LIMIT_KEYS
            .into_iter()
            .filter(|key| self.0.contains_key(*key))
            .collect();
        if let ["above", "beyond_busy"] = given[..] {
            return Ok(Limit::AboveBusy {
                above: self.amount("above")?.unwrap_or(0),
                beyond: self.amount("beyond_busy")?.unwrap_or(0),
            });
        }
        if let [first, second, ..] = given[..] {
            let text = format!("it has two limits, {first} and {second}; keep one");
            return Err(key_error(second, text));
        }
        let limit = match given.first() {
            Some(&"above") => self.amount("above")?.map(Limit::Above),
            Some(&"below") => self.amount("below")?.map(Limit::Below),
            Some(&"times_usual") => self.amount("times_usual")?.map(Limit::TimesUsual),
            Some(&"beyond_busy") => self.amount("beyond_busy")?.map(Limit::BeyondBusy),
            Some(&"silent_for") => self.duration("silent_for")?.map(Limit::SilentFor),
            Some(_) => {
                let secs = self.duration("by_chance")?;
                secs.map(|secs| Limit::ByChance {
                    days: u64::try_from(secs / 86_400).unwrap_or(0),
                })
            }
            None => None,
        };
        match limit {
            Some(limit) => Ok(limit),
            None if metric.is_limitless() => Ok(Limit::Once),
            None => bail!("it has no limit; add one of {}", LIMIT_KEYS.join(", ")),
        }
    }
}

fn label(name: &str) -> Result<Label, String> {
    if name.starts_with('/') {
        name.parse::<Pointer>()?;
        // There are as many as the configuration names.
        let pointer = Box::leak(name.to_owned().into_boxed_str());
        return Ok(Label::Place { pointer, slot: 0 });
    }
    LABELS
        .into_iter()
        .find(|label| label.name() == name)
        .ok_or_else(|| {
            format!(
                "unknown label \"{name}\"{} (a place in the line is written as /{name})",
                suggestion(name, LABELS.iter().map(|l| l.name()))
            )
        })
}

/// Writes rules as TOML that reads back as the same rules.
pub fn write_rules(rules: &[Rule]) -> String {
    let mut out = String::new();
    for rule in rules {
        out.push_str("[[rule]]\n");
        for (key, value) in fields_of(rule) {
            out.push_str(key);
            out.push_str(" = ");
            out.push_str(&value);
            out.push('\n');
        }
        out.push('\n');
    }
    out
}

fn fields_of(rule: &Rule) -> Vec<(&'static str, String)> {
    let quoted = |text: &str| format!("{text:?}");
    let time = |secs: i64| quoted(&write_duration(secs));
    let mut fields = vec![("name", quoted(&rule.name))];
    let comment = format!(
        "{}   # {}",
        quoted(rule.metric.name()),
        rule.metric.describe()
    );
    fields.push(("metric", comment));
    fields.extend(rule.per_secs.map(|secs| ("per", time(secs))));
    fields.extend(rule.period.map(|period| ("per", quoted(period.name()))));
    let windows: Vec<String> = rule.windows.iter().map(|secs| time(*secs)).collect();
    match &windows[..] {
        [] => {}
        [one] => fields.push(("window", one.clone())),
        several => fields.push(("window", format!("[{}]", several.join(", ")))),
    }
    if rule.min_requests > 0 {
        fields.push(("min_requests", rule.min_requests.to_string()));
    }
    if rule.metric.is_about_cache() || matches!(rule.metric, Metric::NoCache | Metric::CacheLeak) {
        fields.push(("min_prompt_tokens", rule.min_prompt_tokens.to_string()));
    }
    if rule.min_waste > PicoUsd::ZERO {
        fields.push(("min_waste", write_amount(rule.min_waste.0)));
    }
    if rule.min_cost > PicoUsd::ZERO {
        fields.push(("min_cost", write_amount(rule.min_cost.0)));
    }
    if !rule.filter.patterns.is_empty() {
        let patterns: Vec<String> = rule
            .filter
            .patterns
            .iter()
            .map(|(label, pattern)| {
                let name = match label {
                    Label::Place { pointer, .. } => quoted(pointer),
                    other => other.name().to_owned(),
                };
                format!("{name} = {}", quoted(pattern.text()))
            })
            .collect();
        fields.push(("where", format!("{{ {} }}", patterns.join(", "))));
    }
    if !rule.by.is_empty() {
        let labels: Vec<String> = rule.by.iter().map(|label| quoted(label.name())).collect();
        fields.push(("by", format!("[{}]", labels.join(", "))));
    }
    match rule.limit {
        Limit::Above(limit) => fields.push(("above", write_amount(limit))),
        Limit::Below(limit) => fields.push(("below", write_amount(limit))),
        Limit::TimesUsual(times) => fields.push(("times_usual", write_amount(times))),
        Limit::AboveBusy { above, beyond } => {
            fields.push(("above", write_amount(above)));
            fields.push(("beyond_busy", write_amount(beyond)));
        }
        Limit::BeyondBusy(times) => fields.push(("beyond_busy", write_amount(times))),
        Limit::SilentFor(secs) => fields.push(("silent_for", time(secs))),
        Limit::ByChance { days } => fields.push(("by_chance", quoted(&format!("{days}d")))),
        Limit::Once => {}
    }
    if rule.share_of_cost > 0 {
        fields.push(("share_of_cost", write_amount(rule.share_of_cost)));
    }
    if rule.floor > 0 {
        fields.push(("floor", write_amount(rule.floor)));
    }
    if rule.metric.is_announcement() {
        fields.push(("severity", quoted(rule.severity.name())));
    } else {
        fields.push(("for", time(rule.hold_secs)));
        fields.push(("keep_firing", time(rule.keep_firing_secs)));
        fields.push(("severity", quoted(rule.severity.name())));
    }
    if !rule.enabled {
        fields.push(("enabled", "false".to_owned()));
    }
    fields
}
