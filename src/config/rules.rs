//! The rules in force: the built-in ones, what a configuration says of them, what flags say. An impossible one is refused with its
//! name, the line, and the way out.
//!
//! Knows what is laid over what. What a field may hold is for `fields`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use toml::{Table, Value};

use super::fields::{KeyError, LIMIT_KEYS, build, check_key, key_error, suggestion};
use super::file::Config;
use super::units::{amount, duration};
use crate::cli::RuleArgs;
use crate::monitor::{DEFAULT_RULES, Label, PERIODS, Rule};
use crate::parse::Pointer;

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
    /// The limits that flags have set.
    flagged: Vec<String>,
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
    let keys = rule.keys.iter().map(|(key, ..)| key.as_str());
    let limits: Vec<&str> = keys.filter(|key| LIMIT_KEYS.contains(key)).collect();
    draft.make_room_for(&limits);
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

    /// A rule has one limit: these take the place of the old. Only of a number and what is learned beside it the number stays, where
    /// what is learned changes: it is the net under that.
    fn make_room_for(&mut self, limits: &[&str]) {
        let has_both = ["above", "beyond_busy"]
            .iter()
            .all(|key| self.table.contains_key(*key));
        let keeps_number = has_both && limits.iter().all(|key| *key == "beyond_busy");
        let stays = |key: &str| limits.contains(&key) || (keeps_number && key == "above");
        if !limits.is_empty() {
            self.table
                .retain(|key, _| !LIMIT_KEYS.contains(&key) || stays(key));
        }
    }

    /// Sets a key by a flag.
    fn set(&mut self, key: &str, value: &Value) {
        self.note(key);
        if LIMIT_KEYS.contains(&key) {
            self.flagged.push(key.to_owned());
            // A number and what is learned go together; of others the last counts.
            let is_of_both = |key: &String| matches!(key.as_str(), "above" | "beyond_busy");
            if !self.flagged.iter().all(is_of_both) {
                self.flagged = vec![key.to_owned()];
            }
            let limits = self.flagged.clone();
            self.make_room_for(&limits.iter().map(String::as_str).collect::<Vec<_>>());
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
    if field == "name" {
        bail!("a rule keeps its name; write one of your own into claude-tokmon.toml");
    }
    let limit = field == "per" || LIMIT_KEYS.contains(&field);
    let budgets = find(drafts, rule)?.filter(|draft| draft.is("metric", "budget"));
    let periods: Vec<String> = budgets
        .filter_map(|draft| Some(draft.table.get("per")?.as_str()?.to_owned()))
        .collect();
    if let [first, others @ ..] = &periods[..]
        && limit
        && !others.is_empty()
    {
        let all = periods.join(" and one for the ");
        bail!("there is a {rule} for the {all}; say which one with --budget AMOUNT/{first}");
    }
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

/// Reads a rule, and says where it is wrong if it stands in a file.
fn read_rule(draft: &Draft) -> Result<Rule> {
    let name = draft
        .table
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or("");
    let near = || {
        let built_in = built_in().unwrap_or_default();
        let names = built_in
            .iter()
            .filter_map(|draft| draft.table.get("name")?.as_str());
        suggestion(name, names)
    };
    let rule = build(name, &draft.table, near).and_then(|rule| {
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

#[cfg(test)]
mod tests {
    use super::super::fields::write_rules;
    use super::*;
    use crate::monitor::Limit;
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
                "above: \"-1\" is below 0; write it like 2, 0.5 or 50%",
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

    /// Whoever makes what is learned calmer keeps the number under it, and whoever sets a number wants that and no other.
    #[test]
    fn what_is_learned_changes_beside_its_number() {
        let unit = crate::monitor::UNIT;
        let both = |above: i128, beyond: i128| Limit::AboveBusy {
            above: above * unit,
            beyond: beyond * unit,
        };
        let beyond = |n: i128| Limit::BeyondBusy(n * unit);
        for (set, limit) in [
            (&[][..], both(2, 2)),
            (&["beyond_busy=3"], both(2, 3)),
            (&["beyond_busy=3", "beyond_busy=4"], both(2, 4)),
            (&["above=5"], Limit::Above(5 * unit)),
            (&["above=5", "beyond_busy=3"], both(5, 3)),
            (&["beyond_busy=3", "above=5"], both(5, 3)),
            (&["times_usual=3", "beyond_busy=4"], beyond(4)),
            (
                &["beyond_busy=4", "times_usual=3"],
                Limit::TimesUsual(3 * unit),
            ),
        ] {
            let flags: Vec<String> = set.iter().map(|set| format!("cost-rate.{set}")).collect();
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            assert_eq!(with(&flags).unwrap()[0].limit, limit, "{set:?}");
        }
        let written = |limits: &str| {
            let text = format!("[[rule]]\nname = \"cost-rate\"\n{limits}");
            configured(&text).unwrap()[0].limit
        };
        assert_eq!(written("beyond_busy = 3"), both(2, 3));
        assert_eq!(written("above = 5"), Limit::Above(5 * unit));
        assert_eq!(written("above = 5\nbeyond_busy = 3"), both(5, 3));
        // Of a rule without a number there is none to stay.
        let other = &with(&["request-cost.beyond_busy=3"]).unwrap();
        let other = other.iter().find(|rule| &*rule.name == "request-cost");
        assert_eq!(other.map(|rule| rule.limit), Some(beyond(3)));
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
