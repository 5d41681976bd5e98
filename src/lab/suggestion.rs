//! What `--suggest` proposes: chosen, tried as a whole in a pass of its own, and put into words.
//!
//! How it is chosen is the business of `suggest`.

use anyhow::{Result, bail};

use super::episodes::Episodes;
use super::incidents::Incident;
use super::pass::{Pass, pass};
use super::report::Finding;
use super::suggest;
use crate::config::{Options, Span, Suggest};
use crate::monitor::{Time, Usual};
use crate::pipeline::Pipeline;
use crate::price::PicoUsd;

/// What a suggestion is chosen from.
pub(super) struct Chosen<'a> {
    pub(super) suggest: &'a Suggest,
    pub(super) candidates: &'a [suggest::Candidate],
    pub(super) tried: &'a [Episodes],
    pub(super) incidents: &'a [Incident],
    pub(super) three_times_usual: Option<PicoUsd>,
}

/// Chooses on what lies before `--train-until`, or on all of it, and tries the choice as a whole in a pass of its own.
pub(super) fn try_suggestion(
    options: &Options,
    span: &Span,
    now: Time,
    passed: &Pass,
    chosen: &Chosen<'_>,
) -> Result<Suggestion> {
    let Suggest {
        page_cost,
        train_until,
    } = *chosen.suggest;
    let (first, last) = passed.pipeline.evaluator.totals().span.unwrap_or_default();
    let end = Time(last.0 + 1);
    let until = train_until.unwrap_or(end);
    if train_until.is_some() && (until <= first || until > last) {
        let clock = options.output.stdout.clock;
        bail!(
            "--train-until {}: the log goes from {} to {}; name a moment in it, with something before to choose from and something after to score on",
            clock.full(until),
            clock.full(first),
            clock.full(last)
        );
    }
    let part = |from, to| suggest::Part {
        from,
        to,
        journal: &passed.journal,
        incidents: chosen.incidents,
        present: &passed.episodes,
        page_cost,
        response_secs: span.lab.response_secs,
    };
    let training = part(first, until);
    let rest = part(until, end);
    let mut best = suggest::choose(chosen.candidates, chosen.tried, &training);
    let present = training.cost(&passed.episodes);
    let (mut suggested, mut episodes) = (present, &passed.episodes);
    let second = if best.is_empty() {
        None
    } else {
        let changes: Vec<String> = best.iter().map(suggest::Candidate::assignment).collect();
        let mut with = options.clone();
        with.settings.rules = span.lab.rules_with(&changes)?;
        Some(pass(&with, span, now, &[], None)?)
    };
    if let Some(second) = &second {
        if training.prefers(&second.episodes) {
            episodes = &second.episodes;
            suggested = training.cost(episodes);
        } else {
            // Each is better alone, but not all of them together.
            best.clear();
        }
    }
    let name = if until < end { "training" } else { "all of it" };
    let mut parts = vec![(name, until.millis_since(first), present, suggested)];
    if until < end {
        let costs = (rest.cost(&passed.episodes), rest.cost(episodes));
        parts.push(("the rest", end.millis_since(until), costs.0, costs.1));
    }
    Ok(Suggestion {
        toml: suggest::toml(&best),
        changes: best.iter().map(suggest::Candidate::assignment).collect(),
        rows: suggest::comparison(&parts),
        costs: parts
            .into_iter()
            .map(|(name, _, a, b)| (name, a, b))
            .collect(),
        by_labels: !chosen.incidents.is_empty(),
        page_cost,
        three_times_usual: chosen.three_times_usual,
    })
}

impl Suggestion {
    pub(super) fn finding(&self) -> Finding {
        let measure = if self.by_labels {
            "what was lost is that of the labelled incidents"
        } else {
            "without --labels, what the present rules told and cost more than a page stands for incidents"
        };
        let mut sentences = vec![format!("a page costs {}; {measure}", self.page_cost)];
        if let Some(limit) = self.three_times_usual {
            sentences.push(format!(
                "three times what is usual would be {limit} a minute (--cost-rate)"
            ));
        }
        if self.toml.is_empty() {
            sentences
                .push("nothing tried costs clearly less than the rules as they are".to_owned());
        } else {
            sentences.push("for claude-tokmon.toml:".to_owned());
            sentences.push(String::new());
            sentences.extend(self.toml.lines().map(str::to_owned));
        }
        Finding {
            title: "What is suggested",
            rows: self.rows.clone(),
            sentences,
        }
    }

    pub(super) fn object(&self) -> impl serde::Serialize {
        let parts = self.costs.iter().map(|(name, present, suggested)| {
            let cost = |cost: &suggest::Cost| {
                serde_json::json!({
                    "alerts": cost.alerts, "pages": cost.pages,
                    "lost_usd": crate::sink::usd(cost.lost), "cost_usd": crate::sink::usd(cost.all),
                })
            };
            serde_json::json!({ "part": name, "present": cost(present), "suggested": cost(suggested) })
        });
        serde_json::json!({
            "schema": 1, "event": "suggestion", "set": self.changes, "toml": self.toml,
            "page_cost_usd": crate::sink::usd(self.page_cost), "parts": parts.collect::<Vec<_>>(),
        })
    }
}

/// Three times what a minute usually costs, as a limit for `cost-rate`.
pub(super) fn three_times_usual(pipeline: &mut Pipeline) -> Option<PicoUsd> {
    let explained = pipeline.evaluator.explain();
    let rate = explained
        .iter()
        .find(|rule| &*rule.rule.name == "cost-rate")?;
    let usual = Some(rate.usual).filter(Usual::is_learned)?;
    Some(PicoUsd(3 * usual.usual))
}

/// What is suggested, and what it comes to.
pub(super) struct Suggestion {
    /// As a configuration; empty if nothing is better than what is in force.
    toml: String,
    changes: Vec<String>,
    rows: Vec<Vec<String>>,
    costs: Vec<(&'static str, suggest::Cost, suggest::Cost)>,
    by_labels: bool,
    page_cost: PicoUsd,
    three_times_usual: Option<PicoUsd>,
}
