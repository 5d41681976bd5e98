//! What `replay` is asked to try: settings to sweep, incidents to be judged by, and when it is a failure.
//!
//! Reads flags only; what comes of it is the laboratory's business.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};

use super::units::{amount, duration, moment, write_amount, write_duration};
use super::{Config, Options, rules, seconds};
use crate::cli::{ReplayArgs, RuleArgs, SeverityArg};
use crate::monitor::{Rule, Severity, Time};
use crate::price::PicoUsd;
use crate::sink::count;

/// More combinations than this are a mistake.
const MAX_COMBINATIONS: u64 = 10_000;

/// What a page costs if nobody says otherwise: a few minutes of somebody's attention.
const PAGE_COST: PicoUsd = PicoUsd(5 * PicoUsd::DOLLAR.0);

/// One field of one rule, and what is tried for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// The rule and field, as `rule.field`.
    pub field: String,
    /// The values, as they are written.
    pub values: Vec<String>,
}

/// Rules with one choice for each axis.
#[derive(Debug, Clone)]
pub struct Combination {
    /// The value of each axis, in their order.
    pub values: Vec<String>,
    /// All rules that are in force with them.
    pub rules: Vec<Rule>,
}

/// Fields whose values are proposed.
#[derive(Debug, Clone)]
pub struct Suggest {
    /// What a page costs.
    pub page_cost: PicoUsd,
    /// Chosen on what lies before it, scored on the rest.
    pub train_until: Option<Time>,
}

/// What `replay` is asked to try.
#[derive(Debug, Clone)]
pub struct Laboratory {
    /// What is varied.
    pub axes: Vec<Axis>,
    /// All combinations of it.
    pub combinations: Vec<Combination>,
    /// Incidents that really were.
    pub labels: Option<PathBuf>,
    /// How long it takes from a notice until something is done.
    pub response_secs: i64,
    /// How long it took without any notice.
    pub without_secs: Option<i64>,
    /// Propose values.
    pub suggest: Option<Suggest>,
    /// Where the page with all that was found goes.
    pub report: Option<PathBuf>,
    /// It is a failure if a rule fires that is as severe as this.
    pub fail_on: Option<Severity>,
    args: RuleArgs,
    config: Config,
}

impl Laboratory {
    /// What the flags ask for.
    ///
    /// # Errors
    /// If a flag cannot be meant.
    pub fn resolve(
        args: &ReplayArgs,
        options: &Options,
        config: Config,
        now: Time,
    ) -> Result<Self> {
        let lab = &args.lab;
        let axes: Vec<Axis> = lab
            .sweep
            .iter()
            .map(|text| axis(text).with_context(|| format!("--sweep {text}")))
            .collect::<Result<_>>()?;
        for (n, axis) in axes.iter().enumerate() {
            let field = &axis.field;
            if axes[..n].iter().any(|other| other.field == *field) {
                bail!(
                    "--sweep {field}: it is given twice; write all its values in one, such as {field}=1,2,4"
                );
            }
        }
        let train_until = lab.train_until.as_deref().map(|text| {
            let zone = options.output.stderr.clock.zone;
            moment(text, now, zone).map_err(|e| anyhow!("--train-until: {e}"))
        });
        let page_cost = lab.page_cost.as_deref().map(|text| {
            amount(text)
                .map(PicoUsd)
                .map_err(|e| anyhow!("--page-cost: {e}"))
        });
        if !lab.suggest && (train_until.is_some() || page_cost.is_some()) {
            bail!("--page-cost and --train-until say how --suggest chooses; add --suggest");
        }
        let suggest = lab.suggest.then(|| -> Result<Suggest> {
            Ok(Suggest {
                page_cost: page_cost.transpose()?.unwrap_or(PAGE_COST),
                train_until: train_until.transpose()?,
            })
        });
        if lab.response.is_some() && lab.labels.is_none() && lab.without.is_none() && !lab.suggest {
            bail!(
                "--response: it counts for what alerts save; add --without 9h (how long it took before) or --labels FILE"
            );
        }
        let mut this = Self {
            combinations: Vec::new(),
            labels: lab.labels.clone(),
            response_secs: seconds("--response", lab.response.as_deref())?.unwrap_or(0),
            without_secs: seconds("--without", lab.without.as_deref())?,
            suggest: suggest.transpose()?,
            report: lab.report.clone(),
            fail_on: lab.fail_on.map(|severity| match severity {
                SeverityArg::Info => Severity::Info,
                SeverityArg::Warning => Severity::Warning,
                SeverityArg::Critical => Severity::Critical,
            }),
            args: args.rules.clone(),
            config,
            axes,
        };
        this.combinations = this.combine()?;
        Ok(this)
    }

    /// Nothing but the plain report is asked for.
    pub fn is_plain(&self) -> bool {
        self.axes.is_empty()
            && self.labels.is_none()
            && self.without_secs.is_none()
            && self.suggest.is_none()
    }

    /// The rules with these fields changed, each as `rule.field=value`.
    ///
    /// # Errors
    /// If a field does not exist or a value makes its rule impossible.
    pub fn rules_with(&self, changes: &[String]) -> Result<Vec<Rule>> {
        let mut args = self.args.clone();
        args.set.extend_from_slice(changes);
        rules(&args, &self.config)
    }

    fn combine(&self) -> Result<Vec<Combination>> {
        if self.axes.is_empty() {
            return Ok(Vec::new());
        }
        let n = self
            .axes
            .iter()
            .try_fold(1_u64, |n, axis| n.checked_mul(axis.values.len() as u64));
        if n.is_none_or(|n| n > MAX_COMBINATIONS) {
            bail!(
                "--sweep: these are more than {} combinations; take larger steps or fewer fields at once",
                count(MAX_COMBINATIONS)
            );
        }
        let mut rows: Vec<Vec<String>> = vec![Vec::new()];
        for axis in &self.axes {
            rows = rows
                .into_iter()
                .flat_map(|row| {
                    axis.values.iter().map(move |value| {
                        let mut row = row.clone();
                        row.push(value.clone());
                        row
                    })
                })
                .collect();
        }
        let combinations: Vec<Combination> = rows
            .into_iter()
            .map(|values| {
                let changes: Vec<String> = self
                    .axes
                    .iter()
                    .zip(&values)
                    .map(|(axis, value)| format!("{}={value}", axis.field))
                    .collect();
                let rules = self
                    .rules_with(&changes)
                    .map_err(|e| anyhow!("--sweep {}: {}", changes.join(", "), e.root_cause()))?;
                Ok(Combination { values, rules })
            })
            .collect::<Result<_>>()?;
        for axis in &self.axes {
            let name = axis.field.split_once('.').map_or("", |(rule, _)| rule);
            let mut rules = combinations.iter().flat_map(|c| &c.rules);
            if !rules.any(|rule| rule.enabled && *rule.name == *name) {
                bail!(
                    "--sweep {}: the rule {name} is off, so all values lead to the same; add --set {name}.enabled=true",
                    axis.field
                );
            }
        }
        Ok(combinations)
    }
}

const SWEEP_FORMS: &str = "write RULE.FIELD=0.5..5:0.5 or RULE.FIELD=1m..10m:1m (from, to, step), or RULE.FIELD=1,2,4 (each value)";

fn axis(text: &str) -> Result<Axis> {
    let Some((field, values)) = text.split_once('=') else {
        bail!("{SWEEP_FORMS}");
    };
    let values = match values.split_once("..") {
        Some((from, rest)) => {
            let Some((to, step)) = rest.split_once(':') else {
                bail!("\"{values}\" has no step; {SWEEP_FORMS}");
            };
            range(from.trim(), to.trim(), step.trim())?
        }
        None => each(values),
    };
    if values.iter().any(String::is_empty) {
        bail!("a value is missing; {SWEEP_FORMS}");
    }
    Ok(Axis {
        field: field.trim().to_owned(),
        values,
    })
}

/// The values between commas. Those within a list, a table or quotes are part of a value.
fn each(values: &str) -> Vec<String> {
    let (mut depth, mut in_quotes) = (0_u32, false);
    let is_between = |c: char| {
        match c {
            '"' => in_quotes = !in_quotes,
            '[' | '{' if !in_quotes => depth += 1,
            ']' | '}' if !in_quotes => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0 && !in_quotes
    };
    let values = values.split(is_between);
    values.map(|value| value.trim().to_owned()).collect()
}

/// The numbers, or the durations, from one to another, exactly.
fn range(from: &str, to: &str, step: &str) -> Result<Vec<String>> {
    let ends = [from, to, step];
    let (ends, write): ([i128; 3], fn(i128) -> String) =
        if let [Ok(from), Ok(to), Ok(step)] = ends.map(duration) {
            ([from, to, step].map(i128::from), |secs| {
                write_duration(i64::try_from(secs).unwrap_or(i64::MAX))
            })
        } else {
            let read = |text: &str| amount(text).map_err(|e| anyhow!("{e}; {SWEEP_FORMS}"));
            ([read(from)?, read(to)?, read(step)?], |amount| {
                let text = write_amount(amount);
                text.strip_suffix(".0").unwrap_or(&text).to_owned()
            })
        };
    let [from, to, step] = ends;
    if step <= 0 || to < from {
        let (from, to) = (write(from), write(to));
        bail!("there is nothing from {from} to {to} in such steps; {SWEEP_FORMS}");
    }
    let n = (to - from) / step + 1;
    if n > i128::from(MAX_COMBINATIONS) {
        let most = count(MAX_COMBINATIONS);
        bail!("these are more than {most} values; take a larger step");
    }
    Ok((0..n).map(|at| write(from + at * step)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_both_its_ends_and_exact_steps() {
        let Axis { field, values } = axis("cost-rate.above=0.1..0.5:0.1").unwrap();
        assert_eq!(field, "cost-rate.above");
        assert_eq!(values, ["0.1", "0.2", "0.3", "0.4", "0.5"]);
        assert_eq!(axis("a.window=30s, 60s").unwrap().values, ["30s", "60s"]);
        let durations = axis("a.for=0s..3m:90s").unwrap().values;
        assert_eq!(durations, ["0s", "90s", "3m"]);
        let lists = axis(r#"a.window=["5m", "1h"], ["10m","2h"]"#).unwrap();
        assert_eq!(lists.values, [r#"["5m", "1h"]"#, r#"["10m","2h"]"#]);
        let tables = axis(r#"a.where={ model = "x,y", source = "b" },{}"#).unwrap();
        assert_eq!(tables.values, [r#"{ model = "x,y", source = "b" }"#, "{}"]);
    }

    #[test]
    fn what_is_no_range_is_refused_with_the_way_to_write_it() {
        for text in [
            "cost-rate.above",
            "a.b=1..2",
            "a.b=2..1:1",
            "a.b=1..2:0",
            "a.b=1,,2",
            "a.b=x..y:z",
            "a.b=0..1:0.00000001",
        ] {
            let error = axis(text).unwrap_err().to_string();
            assert!(
                error.contains("write") || error.contains("larger step"),
                "{text}: {error}"
            );
        }
    }
}
