//! Rules from TOML and back. An unknown key or an impossible rule is refused with its name and the way out.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use toml::{Table, Value};

use super::file::Config;
use super::units::{amount, duration, write_amount, write_duration};
use crate::cli::RuleArgs;
use crate::monitor::{
    Amount, DEFAULT_RULES, Filter, LABELS, Label, Limit, METRICS, Metric, PERIODS, Rule, Severity,
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

const LIMIT_KEYS: [&str; 6] = [
    "above",
    "below",
    "times_usual",
    "beyond_busy",
    "by_chance",
    "silent_for",
];

/// A rule as it is put together: the built-in one, what the configuration says, what flags say.
#[derive(Debug, Clone, Default)]
struct Draft {
    table: Table,
    /// Where keys were written, if in a configuration.
    places: BTreeMap<String, String>,
    /// Where the rule was begun there.
    place: Option<String>,
    /// It is off for want of a limit that people want, and on once it has one.
    lacks_limit: bool,
}

/// All rules, before flags change them.
#[derive(Debug, Clone)]
pub(super) struct Drafts(Vec<Draft>);

impl Drafts {
    /// The built-in ones, with those of a configuration laid over them.
    pub(super) fn with(written: impl Iterator<Item = WrittenRule>) -> Result<Self> {
        let mut drafts = built_in()?;
        for rule in written {
            lay_over(&mut drafts, rule)?;
        }
        Ok(Self(drafts))
    }
}

/// A rule of a configuration.
#[derive(Debug)]
pub(super) struct WrittenRule {
    /// File and line.
    pub(super) place: String,
    /// Keys with the line they stand in.
    pub(super) keys: Vec<(String, String, Value)>,
}

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct KeyError {
    key: String,
    text: String,
}

fn key_error(key: &str, text: String) -> anyhow::Error {
    let key = key.to_owned();
    KeyError { key, text }.into()
}

/// The default rules as changed by a configuration and by flags.
///
/// # Errors
/// If either names a rule or key that does not exist, or makes a rule impossible; with the line, if it stands in a file.
pub fn rules(args: &RuleArgs, config: &Config) -> Result<Vec<Rule>> {
    let Drafts(mut drafts) = config.rules.clone();
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
            set(&mut drafts, rule, field, &Value::String(value.clone()))?;
        }
    }
    if let Some(time) = &args.silent_for {
        duration(time).map_err(|e| anyhow!("--silent-for: {e}"))?;
        set(
            &mut drafts,
            "silence",
            "silent_for",
            &Value::String(time.clone()),
        )?;
        // Whatever a configuration says.
        set(&mut drafts, "silence", "enabled", &Value::Boolean(true))?;
    }
    for budget in &args.budget {
        add_budget(&mut drafts, budget).with_context(|| format!("--budget {budget}"))?;
    }
    if let Some(n) = args.min_requests {
        for rule in ["cost-rate", "token-spike", "cache-miss"] {
            set(&mut drafts, rule, "min_requests", &Value::Integer(n.into()))?;
        }
    }
    if let Some(window) = &args.window {
        let secs = duration(window).map_err(|e| anyhow!("--window: {e}"))?;
        set_window(&mut drafts, window, secs)?;
    }
    for assignment in &args.set {
        assign(&mut drafts, assignment).with_context(|| format!("--set {assignment}"))?;
    }
    let mut rules: Vec<Rule> = drafts.iter().map(read_rule).collect::<Result<_>>()?;
    number_places(&mut rules);
    Ok(rules)
}

/// Gives each place in the line that rules name a number of its own.
fn number_places(rules: &mut [Rule]) {
    let mut known: Vec<&'static str> = Vec::new();
    for rule in rules {
        let patterns = rule.filter.patterns.iter_mut().map(|(label, _)| label);
        for label in rule.by.iter_mut().chain(patterns) {
            if let Label::Place { pointer, slot } = label {
                *slot = known
                    .iter()
                    .position(|other| other == pointer)
                    .unwrap_or_else(|| {
                        known.push(pointer);
                        known.len() - 1
                    });
            }
        }
    }
}

/// The places in the line that rules name, in the order of their numbers.
pub(super) fn places_of(rules: &[Rule]) -> Vec<Pointer> {
    let labels = rules.iter().flat_map(|rule| {
        let patterns = rule.filter.patterns.iter().map(|(label, _)| label);
        rule.by.iter().chain(patterns)
    });
    let mut places: Vec<(usize, Pointer)> = labels
        .filter_map(|label| match label {
            Label::Place { pointer, slot } => Some((*slot, pointer.parse().ok()?)),
            _ => None,
        })
        .collect();
    places.sort_by_key(|(slot, _)| *slot);
    places.dedup_by_key(|(slot, _)| *slot);
    places.into_iter().map(|(_, pointer)| pointer).collect()
}

fn built_in() -> Result<Vec<Draft>> {
    let mut document: Table = DEFAULT_RULES.parse().context("the built-in rules")?;
    let Some(Value::Array(rules)) = document.remove("rule") else {
        bail!("the built-in rules: there is no [[rule]]");
    };
    let table = |rule| match rule {
        Value::Table(table) => Ok(Draft {
            lacks_limit: table.get("enabled") == Some(&Value::Boolean(false)),
            table,
            ..Draft::default()
        }),
        other => bail!("a rule is a table [[rule]], not {}", other.type_str()),
    };
    rules.into_iter().map(table).collect()
}

/// A rule of a configuration changes the one of its name, or is a new one. Budgets are told apart by their period too.
fn lay_over(drafts: &mut Vec<Draft>, rule: WrittenRule) -> Result<()> {
    let text = |key: &str| {
        let value = rule.keys.iter().find(|(known, ..)| known == key);
        value
            .and_then(|(.., value)| value.as_str())
            .map(str::to_owned)
    };
    let name = text("name").with_context(|| {
        format!(
            "{}: a rule without a name; add name = \"…\", that of a built-in rule to change it",
            rule.place
        )
    })?;
    let per = text("per");
    let is_same = |draft: &Draft| {
        let other_period =
            draft.is("metric", "budget") && per.as_deref().is_some_and(|per| !draft.is("per", per));
        draft.is("name", &name) && !other_period
    };
    let at = drafts.iter().position(is_same).unwrap_or_else(|| {
        drafts.push(Draft::default());
        drafts.len() - 1
    });
    let draft = &mut drafts[at];
    draft.place = Some(rule.place);
    // Of several limits in one rule none is dropped: that is a mistake to be told.
    if rule
        .keys
        .iter()
        .any(|(key, ..)| LIMIT_KEYS.contains(&key.as_str()))
    {
        for limit in LIMIT_KEYS {
            draft.table.remove(limit);
        }
    }
    for (key, ..) in &rule.keys {
        draft.note(key);
    }
    for (key, place, value) in rule.keys {
        draft.places.insert(key.clone(), place);
        draft.table.insert(key, value);
    }
    Ok(())
}

/// `50/day`.
fn add_budget(drafts: &mut Vec<Draft>, text: &str) -> Result<()> {
    let way_out = "write it as AMOUNT/PERIOD, such as 50/day, 5/hour or 1000/month";
    let (dollars, period) = text.split_once('/').context(way_out)?;
    amount(dollars).map_err(|e| anyhow!("{e}; {way_out}"))?;
    let period = period.trim();
    if !PERIODS.iter().any(|known| known.name() == period) {
        bail!("\"{period}\" is none of hour, day and month; {way_out}");
    }
    let at = drafts
        .iter()
        .position(|draft| draft.is("name", "budget") && draft.is("per", period));
    let at = at.unwrap_or_else(|| {
        let mut table = Table::new();
        for (key, value) in [("name", "budget"), ("metric", "budget"), ("per", period)] {
            table.insert(key.to_owned(), Value::String(value.to_owned()));
        }
        drafts.push(Draft {
            table,
            ..Draft::default()
        });
        drafts.len() - 1
    });
    drafts[at].set("above", &Value::String(dollars.trim().to_owned()));
    Ok(())
}

impl Draft {
    fn is(&self, key: &str, text: &str) -> bool {
        self.table.get(key).and_then(Value::as_str) == Some(text)
    }

    /// Somebody sets a key: whether the rule is on, or a limit that it was off for want of.
    fn note(&mut self, key: &str) {
        if key == "enabled" {
            self.lacks_limit = false;
        } else if self.lacks_limit && LIMIT_KEYS.contains(&key) {
            self.table.remove("enabled");
        }
    }

    /// Sets a key by a flag. A rule has one limit: a new one takes the place of the old.
    fn set(&mut self, key: &str, value: &Value) {
        self.note(key);
        if LIMIT_KEYS.contains(&key) {
            for other in LIMIT_KEYS {
                self.table.remove(other);
            }
        }
        self.places.remove(key);
        self.table.insert(key.to_owned(), value.clone());
    }
}

/// `--window` sets the window of the two rate rules and the first step of the ladder; longer steps stay.
fn set_window(drafts: &mut [Draft], window: &str, secs: i64) -> Result<()> {
    for rule in ["cost-rate", "token-spike"] {
        set(drafts, rule, "window", &Value::String(window.to_owned()))?;
    }
    let ladder = find(drafts, "cache-miss")?.next();
    let ladder = ladder.and_then(|draft| draft.table.get("window").cloned());
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
    set(drafts, "cache-miss", "window", &Value::Array(steps))
}

/// `RULE.FIELD=VALUE`; the value is TOML, or a plain word.
fn assign(drafts: &mut [Draft], assignment: &str) -> Result<()> {
    let way_out = "write it as RULE.FIELD=VALUE, such as cost-rate.above=0.50";
    let (path, value) = assignment.split_once('=').context(way_out)?;
    let (rule, field) = path.trim().split_once('.').context(way_out)?;
    let parsed = format!("value = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("value"));
    let value = parsed.unwrap_or_else(|| Value::String(value.trim().to_owned()));
    set(drafts, rule, field, &value)
}

/// The rules of a name: several budgets may share theirs.
fn find<'a>(drafts: &'a mut [Draft], name: &'a str) -> Result<impl Iterator<Item = &'a mut Draft>> {
    if !drafts.iter().any(|draft| draft.is("name", name)) {
        let names = drafts
            .iter()
            .filter_map(|draft| draft.table.get("name")?.as_str());
        let names = suggestion(name, names);
        let budget = if name == "budget" {
            "; set one with --budget 50/day"
        } else {
            ""
        };
        bail!("there is no rule \"{name}\"{names}{budget}");
    }
    Ok(drafts
        .iter_mut()
        .filter(move |draft| draft.is("name", name)))
}

fn set(drafts: &mut [Draft], rule: &str, field: &str, value: &Value) -> Result<()> {
    check_key(field)?;
    for draft in find(drafts, rule)? {
        draft.set(field, value);
    }
    Ok(())
}

fn check_key(key: &str) -> Result<()> {
    if KEYS.contains(&key) || key == "enabled" {
        return Ok(());
    }
    let near = suggestion(key, KEYS.into_iter().chain(["enabled"]));
    Err(key_error(key, format!("unknown key \"{key}\"{near}")))
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

/// Reads a rule, and says where it is wrong if it stands in a file.
fn read_rule(draft: &Draft) -> Result<Rule> {
    let name = draft
        .table
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or("");
    let rule = build(name, &draft.table).and_then(|rule| {
        let checked = rule.check();
        checked.map_err(|e| key_error(e.key(&rule), e.to_string()))?;
        Ok(rule)
    });
    rule.map_err(|error| {
        let key = error.downcast_ref::<KeyError>().map(|error| &error.key);
        let place = key
            .and_then(|key| draft.places.get(key))
            .or(draft.place.as_ref());
        let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
        error.context(format!("{place}rule \"{name}\""))
    })
}

fn build(name: &str, table: &Table) -> Result<Rule> {
    for key in table.keys() {
        check_key(key)?;
    }
    let field = Fields(table);
    let metric = field.one_of("metric", &METRICS.map(|m| (m.name(), m)))?;
    let metric: Metric = metric.ok_or_else(|| {
        let known = built_in().unwrap_or_default();
        let known = known
            .iter()
            .filter_map(|draft| draft.table.get("name")?.as_str());
        let near = suggestion(name, known);
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
    if rule.metric.is_about_cache() || rule.metric == Metric::NoCache {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn with(set: &[&str]) -> Result<Vec<Rule>> {
        let set = set.iter().map(|s| (*s).to_owned()).collect();
        let args = RuleArgs {
            set,
            ..RuleArgs::default()
        };
        rules(&args, &Config::read(Some(Path::new("-"))).unwrap())
    }

    /// The rules under a configuration, or what is said of it.
    fn configured(text: &str) -> Result<Vec<Rule>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        let rules =
            Config::read(Some(&path)).and_then(|config| rules(&RuleArgs::default(), &config));
        rules.map_err(|e| format!("{e:#}").replace(&format!("{}/", dir.path().display()), ""))
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
        assert_eq!(configured(&write_rules(&rules)), Ok(rules));
    }

    #[test]
    fn a_rule_that_is_off_for_want_of_a_limit_is_on_once_it_has_one() {
        let is_on = |rules: Result<Vec<Rule>, String>| {
            let mut rules = rules.unwrap().into_iter();
            rules.any(|rule| &*rule.name == "silence" && rule.enabled)
        };
        let set = |set: &[&str]| is_on(with(set).map_err(|e| e.to_string()));
        assert!(!set(&[]) && !set(&["silence.severity=critical"]));
        assert!(set(&["silence.silent_for=1h"]));
        assert!(!set(&["silence.silent_for=1h", "silence.enabled=false"]));
        assert!(!set(&["silence.enabled=false", "silence.silent_for=1h"]));
        let rule = "[[rule]]\nname = \"silence\"\nsilent_for = \"1h\"\n";
        assert!(is_on(configured(rule)));
        assert!(!is_on(configured(&format!("{rule}enabled = false\n"))));
        assert!(!is_on(configured("[[rule]]\nname = \"silence\"\n")));
    }

    #[test]
    fn a_configuration_changes_rules_and_adds_some() {
        let text = "[[rule]]\nname = \"cost-rate\"\ntimes_usual = 4.0\n\n[[rule]]\nname = \"opus-burn\"\nmetric = \"cost\"\nper = \"1m\"\nwindow = [\"60s\", \"5m\"]\nwhere = { model = \"claude-opus-*\" }\nby = [\"project\"]\nabove = 1.50\n\n[[rule]]\nname = \"budget\"\nmetric = \"budget\"\nper = \"day\"\nabove = 50\n\n[[rule]]\nname = \"budget\"\nmetric = \"budget\"\nper = \"month\"\nabove = 900\n";
        let rules = configured(text).unwrap();
        let unit = crate::monitor::UNIT;
        assert_eq!(rules[0].limit, Limit::TimesUsual(4 * unit));
        let named = |name: &str| rules.iter().filter(|rule| &*rule.name == name).count();
        assert_eq!((named("opus-burn"), named("budget")), (1, 2));
        assert_eq!(configured(&write_rules(&rules)), Ok(rules));
    }

    #[test]
    fn a_mistake_in_a_configuration_is_named_with_its_line_and_the_way_out() {
        let wrong = |line: &str| {
            let text = format!("# mine\n[[rule]]\nname = \"cost-rate\"\n{line}\n");
            configured(&text).unwrap_err()
        };
        let place = "c.toml:4: rule \"cost-rate\": ";
        for (line, expected) in [
            (
                "abvoe = 1",
                "unknown key \"abvoe\"; did you mean \"above\"?",
            ),
            (
                "above = \"a lot\"",
                "above: \"a lot\" is not a number; write it like 2, 0.5 or 50%",
            ),
            (
                "above = -1",
                "above: \"-1\" is not a number; write it like 2, 0.5 or 50%",
            ),
            ("below = 0", "nothing is below 0; it can never fire"),
            (
                "window = \"90s\"",
                "window 90 s is not a multiple of 60 s; the nearest is 120 s",
            ),
            (
                "window = [\"5m\", \"60s\"]",
                "windows must grow: write the shortest first",
            ),
            (
                "window = 5",
                "window: write \"60s\" or [\"60s\", \"5m\"], not integer",
            ),
            (
                "for = \"soon\"",
                "for: \"soon\" is not a duration; write 30s, 5m, 1h or 7d",
            ),
            (
                "severity = \"bad\"",
                "severity: unknown \"bad\"; there are info, warning, critical",
            ),
            (
                "metric = \"costs\"",
                "metric: unknown \"costs\"; did you mean \"cost\"?",
            ),
            (
                "by = [\"sesion\"]",
                "by: unknown label \"sesion\"; did you mean \"session\"? (a place in the line is written as /sesion)",
            ),
            (
                "where = { model = \"[\" }",
                "where: model: unclosed character class at byte 0; missing ']' (to match a literal '[', escape it as '\\[' or '[[]')",
            ),
            (
                "silent_for = \"5m\"",
                "silent_for does not go with metric cost; remove it",
            ),
            ("enabled = \"no\"", "enabled: write true or false"),
        ] {
            assert_eq!(wrong(line), format!("{place}{expected}"), "{line}");
        }
        assert_eq!(
            wrong("above = 1\nbelow = 2"),
            "c.toml:5: rule \"cost-rate\": it has two limits, above and below; keep one"
        );
        let whole = |text: &str| configured(text).unwrap_err();
        assert_eq!(
            whole("[[rule]]\nname = \"cost-rat\"\nabove = 1\n"),
            "c.toml:2: rule \"cost-rat\": no built-in rule has this name, and a new one needs a metric; did you mean \"cost-rate\"?"
        );
        assert_eq!(
            whole("\n[[rule]]\nabove = 1\n"),
            "c.toml:2: a rule without a name; add name = \"…\", that of a built-in rule to change it"
        );
        assert_eq!(
            whole("[[rule]]\nname = \"x\"\nmetric = \"budget\"\nabove = 5\n"),
            "c.toml:3: rule \"x\": a budget is for an hour, a day or a month: add per = \"day\""
        );
        assert_eq!(
            whole("[[rule]]\nname = \"x\"\nmetric = \"cost\"\nwindow = \"60s\"\n"),
            "c.toml:1: rule \"x\": it has no limit; add one of above, below, times_usual, beyond_busy, by_chance, silent_for"
        );
        assert_eq!(
            whole("[[ruel]]\nname = \"x\"\n"),
            "c.toml:1: unknown field \"ruel\", expected \"model_alias\" or \"rule\"; a rule begins with [[rule]] and its name = \"cost-rate\", as `claude-tokmon rules` prints them"
        );
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
        let config = Config::read(Some(Path::new("-"))).unwrap();
        let rules = rules(&args, &config).unwrap();
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
