//! Rules from TOML and back. An unknown key or an impossible rule is refused with its name and the way out.

use anyhow::{Context, Result, anyhow, bail};
use globset::Glob;
use toml::{Table, Value};

use super::units::{amount, duration, write_amount, write_duration};
use crate::cli::RuleArgs;
use crate::monitor::{
    Amount, DEFAULT_RULES, Filter, LABELS, Label, Limit, METRICS, Metric, Rule, Severity,
};
use crate::price::PicoUsd;

/// Every key that a rule may have.
const KEYS: [&str; 18] = [
    "name",
    "metric",
    "per",
    "window",
    "min_requests",
    "min_prompt_tokens",
    "min_waste",
    "where",
    "by",
    "above",
    "below",
    "times_usual",
    "by_chance",
    "share_of_cost",
    "floor",
    "for",
    "keep_firing",
    "severity",
];

const LIMIT_KEYS: [&str; 4] = ["above", "below", "times_usual", "by_chance"];

/// The default rules as changed by flags.
///
/// # Errors
/// If a flag names a rule or field that does not exist, or makes a rule impossible.
pub fn rules(args: &RuleArgs) -> Result<Vec<Rule>> {
    let mut tables = read_tables(DEFAULT_RULES).context("the built-in rules")?;
    let short = [
        ("--cost-rate", "cost-rate", "above", &args.cost_rate),
        ("--cache-miss", "cache-miss", "above", &args.cache_miss),
        ("--cache-waste", "cache-waste", "above", &args.cache_waste),
        (
            "--token-spike",
            "token-spike",
            "times_usual",
            &args.token_spike,
        ),
    ];
    for (flag, rule, field, value) in short {
        if let Some(value) = value {
            amount(value).map_err(|e| anyhow!("{flag}: {e}"))?;
            set(&mut tables, rule, field, Value::String(value.clone()))?;
        }
    }
    if let Some(n) = args.min_requests {
        for rule in ["cost-rate", "token-spike", "cache-miss"] {
            set(&mut tables, rule, "min_requests", Value::Integer(n.into()))?;
        }
    }
    if let Some(window) = &args.window {
        let secs = duration(window).map_err(|e| anyhow!("--window: {e}"))?;
        set_window(&mut tables, window, secs)?;
    }
    for assignment in &args.set {
        assign(&mut tables, assignment).with_context(|| format!("--set {assignment}"))?;
    }
    tables.iter().map(read_rule).collect()
}

fn read_tables(text: &str) -> Result<Vec<Table>> {
    let mut document: Table = text.parse()?;
    match document.remove("rule") {
        Some(Value::Array(rules)) => rules
            .into_iter()
            .map(|rule| match rule {
                Value::Table(table) => Ok(table),
                other => bail!("a rule is a table [[rule]], not {}", other.type_str()),
            })
            .collect(),
        _ => bail!("there is no [[rule]]"),
    }
}

/// `--window` sets the window of the two rate rules and the first step of the ladder; longer steps stay.
fn set_window(tables: &mut [Table], window: &str, secs: i64) -> Result<()> {
    for rule in ["cost-rate", "token-spike"] {
        set(tables, rule, "window", Value::String(window.to_owned()))?;
    }
    let ladder = find(tables, "cache-miss")?.get("window").cloned();
    let steps = ladder
        .and_then(|steps| steps.as_array().cloned())
        .unwrap_or_default();
    let longer = |step: &Value| {
        step.as_str()
            .and_then(|text| duration(text).ok())
            .is_some_and(|s| s > secs)
    };
    let mut steps: Vec<Value> = steps.into_iter().skip(1).filter(longer).collect();
    steps.insert(0, Value::String(window.to_owned()));
    set(tables, "cache-miss", "window", Value::Array(steps))
}

/// `RULE.FIELD=VALUE`; the value is TOML, or a plain word.
fn assign(tables: &mut [Table], assignment: &str) -> Result<()> {
    let (path, value) = assignment
        .split_once('=')
        .context("write it as RULE.FIELD=VALUE, such as cost-rate.above=0.50")?;
    let (rule, field) = path
        .trim()
        .split_once('.')
        .context("write it as RULE.FIELD=VALUE, such as cost-rate.above=0.50")?;
    let parsed = format!("value = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("value"));
    let value = parsed.unwrap_or_else(|| Value::String(value.trim().to_owned()));
    set(tables, rule, field, value)
}

fn find<'a>(tables: &'a mut [Table], name: &str) -> Result<&'a mut Table> {
    let names: Vec<String> = tables
        .iter()
        .filter_map(|t| Some(t.get("name")?.as_str()?.to_owned()))
        .collect();
    let at = names.iter().position(|known| known == name);
    let at = at.ok_or_else(|| {
        anyhow!(
            "there is no rule \"{name}\"{}",
            suggestion(name, names.iter().map(String::as_str))
        )
    })?;
    Ok(&mut tables[at])
}

fn set(tables: &mut [Table], rule: &str, field: &str, value: Value) -> Result<()> {
    let table = find(tables, rule)?;
    check_key(field)?;
    if LIMIT_KEYS.contains(&field) {
        for other in LIMIT_KEYS {
            table.remove(other);
        }
    }
    table.insert(field.to_owned(), value);
    Ok(())
}

fn check_key(key: &str) -> Result<()> {
    if KEYS.contains(&key) || key == "enabled" {
        return Ok(());
    }
    bail!(
        "unknown key \"{key}\"{}",
        suggestion(key, KEYS.into_iter().chain(["enabled"]))
    )
}

/// `; did you mean "above"?`, or all there is to choose from.
fn suggestion<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
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

fn read_rule(table: &Table) -> Result<Rule> {
    let name = table
        .get("name")
        .and_then(Value::as_str)
        .context("a rule without a name")?;
    let rule = build(name, table).with_context(|| format!("rule \"{name}\""))?;
    rule.check().with_context(|| format!("rule \"{name}\""))?;
    Ok(rule)
}

fn build(name: &str, table: &Table) -> Result<Rule> {
    for key in table.keys() {
        check_key(key)?;
    }
    let field = Fields(table);
    let metric = field.one_of("metric", &METRICS.map(|m| (m.name(), m)))?;
    let metric: Metric = metric.context("metric is missing")?;
    let severity = [Severity::Info, Severity::Warning, Severity::Critical].map(|s| (s.name(), s));
    Ok(Rule {
        name: name.into(),
        metric,
        per_secs: field.duration("per")?,
        windows: field.durations("window")?,
        min_requests: field.integer("min_requests")?.unwrap_or(0),
        min_prompt_tokens: u64::try_from(field.integer("min_prompt_tokens")?.unwrap_or(5000))?,
        min_waste: PicoUsd(field.amount("min_waste")?.unwrap_or(0)),
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
        value.transpose().map_err(|e| anyhow!("{key}: {e}"))
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
        let list = self.read(key, |value| match value {
            Value::String(text) => Ok(vec![duration(text)?]),
            Value::Array(items) => items
                .iter()
                .map(|item| {
                    item.as_str()
                        .ok_or("write each as text, such as \"5m\"".to_owned())
                        .and_then(duration)
                })
                .collect(),
            other => Err(format!(
                "write \"60s\" or [\"60s\", \"5m\"], not {}",
                other.type_str()
            )),
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
        let list = self.read("by", |value| match value {
            Value::String(text) => Ok(vec![label(text)?]),
            Value::Array(items) => items
                .iter()
                .map(|item| {
                    item.as_str()
                        .ok_or("write each as text".to_owned())
                        .and_then(label)
                })
                .collect(),
            other => Err(format!("write [\"session\"], not {}", other.type_str())),
        })?;
        Ok(list.unwrap_or_default())
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
                let glob = Glob::new(pattern).map_err(|e| format!("{key}: {}", e.kind()))?;
                let label = label(key)?;
                if label == Label::Conversation {
                    return Err("a conversation has no name to match; use session".to_owned());
                }
                patterns.push((label, glob.compile_matcher()));
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
        if let [first, second, ..] = given[..] {
            bail!("it has two limits, {first} and {second}; keep one");
        }
        let limit = match given.first() {
            Some(&"above") => self.amount("above")?.map(Limit::Above),
            Some(&"below") => self.amount("below")?.map(Limit::Below),
            Some(&"times_usual") => self.amount("times_usual")?.map(Limit::TimesUsual),
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
    LABELS
        .into_iter()
        .find(|label| label.name() == name)
        .ok_or_else(|| {
            format!(
                "unknown label \"{name}\"{}",
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
    let windows: Vec<String> = rule.windows.iter().map(|secs| time(*secs)).collect();
    match &windows[..] {
        [] => {}
        [one] => fields.push(("window", one.clone())),
        several => fields.push(("window", format!("[{}]", several.join(", ")))),
    }
    if rule.min_requests > 0 {
        fields.push(("min_requests", rule.min_requests.to_string()));
    }
    if rule.metric.is_about_cache() || rule.metric == Metric::NoCache {
        fields.push(("min_prompt_tokens", rule.min_prompt_tokens.to_string()));
    }
    if rule.min_waste > PicoUsd::ZERO {
        fields.push(("min_waste", write_amount(rule.min_waste.0)));
    }
    if !rule.filter.patterns.is_empty() {
        let patterns: Vec<String> = rule
            .filter
            .patterns
            .iter()
            .map(|(label, glob)| format!("{} = {}", label.name(), quoted(glob.glob().glob())))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[&str]) -> Result<Vec<Rule>> {
        let set = set.iter().map(|s| (*s).to_owned()).collect();
        rules(&RuleArgs {
            set,
            ..RuleArgs::default()
        })
    }

    fn refused(assignment: &str) -> String {
        format!("{:#}", with(&[assignment]).unwrap_err())
    }

    #[test]
    fn rules_read_back_as_they_were_written() {
        let rules = with(&[
            "cost-rate.window=[\"60s\",\"10m\"]",
            "no-cache.enabled=false",
        ])
        .unwrap();
        let again: Vec<Rule> = read_tables(&write_rules(&rules))
            .unwrap()
            .iter()
            .map(|t| read_rule(t).unwrap())
            .collect();
        assert_eq!(rules, again);
    }

    #[test]
    fn a_mistake_is_named_with_the_way_out() {
        assert_eq!(
            refused("cost-rate.abvoe=1"),
            "--set cost-rate.abvoe=1: unknown key \"abvoe\"; did you mean \"above\"?"
        );
        assert_eq!(
            refused("cost-rat.above=1"),
            "--set cost-rat.above=1: there is no rule \"cost-rat\"; did you mean \"cost-rate\"?"
        );
        assert_eq!(
            refused("cost-rate.above=a lot"),
            "rule \"cost-rate\": above: \"a lot\" is not a number; write it like 2, 0.5 or 50%"
        );
        assert_eq!(
            refused("cost-rate.window=90s"),
            "rule \"cost-rate\": window 90 s is not a multiple of 60 s; the nearest is 120 s"
        );
        assert_eq!(
            refused("cache-miss.above=1.2"),
            "rule \"cache-miss\": a share is never above 1; it can never fire"
        );
        assert_eq!(
            refused("cache-miss.per=1m"),
            "rule \"cache-miss\": per does not go with metric cache-miss; remove it"
        );
        assert!(refused("cost-rate").starts_with("--set cost-rate: write it as RULE.FIELD=VALUE"));
    }

    #[test]
    fn a_limit_of_another_kind_replaces_the_one_there_was() {
        let rules = with(&["cost-rate.times_usual=4"]).unwrap();
        assert_eq!(rules[0].limit, Limit::TimesUsual(4 * crate::monitor::UNIT));
    }

    #[test]
    fn the_window_flag_sets_the_first_step_and_keeps_the_longer_ones() {
        let args = RuleArgs {
            window: Some("10m".to_owned()),
            ..RuleArgs::default()
        };
        let rules = rules(&args).unwrap();
        let windows = |name: &str| {
            rules
                .iter()
                .find(|r| &*r.name == name)
                .unwrap()
                .windows
                .clone()
        };
        assert_eq!(windows("cost-rate"), [600]);
        assert_eq!(windows("cache-miss"), [600, 3600]);
    }
}
