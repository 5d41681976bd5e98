//! What a rule reads now: its value held against its limit, and whether another alert explains it.
//!
//! Reads only. What follows from a reading is the alert's business.

use super::alert::{Alert, Basis, Episode, Phase, Reading};
use super::cache::{CacheTracker, Odds};
use super::calm::Slack;
use super::key::Key;
use super::leak::leak;
use super::metric::{Metric, Value};
use super::quick::Quick;
use super::record::Time;
use super::rule::{Limit, Rule};
use super::scope::Asked;
use super::step::Step;
use super::usual::{Amount, Baseline, UNIT, Usual};
use super::variants::{Variants, decide};
use super::window::{Sums, Window};
use crate::price::PicoUsd;

/// Fewer requests than this that missed the cache are no pattern, however large their share.
pub(super) const MIN_AFFECTED: i64 = 3;

/// Waste over the limit that ordinary misses may show by chance is told from so many times the limit on.
const ORDINARY_MISSES: i128 = 4;

/// An alert is explained by others if they account for so many hundredths of what is over its limit.
const EXPLAINED_PERCENT: i128 = 80;

/// A reading of a rule, with what a notice will say of it.
pub(super) struct Read {
    pub(super) reading: Reading,
    /// The deciding window has a value.
    pub(super) has_value: bool,
    pub(super) limit: Amount,
    pub(super) basis: Basis,
    pub(super) step: usize,
    pub(super) odds: Option<(Odds, u32)>,
}

/// Reads a rule for a key.
pub(super) fn read(cache: &mut CacheTracker, key: &Key, alert: &Alert, step: &Step<'_>) -> Read {
    let Step { now, rule, .. } = *step;
    match rule.metric {
        Metric::MissRun => read_run(cache, key, alert, step),
        Metric::Silence => read_silence(key, rule, now),
        Metric::Unpriced => read_unpriced(key, alert, step.arrived.is_some()),
        Metric::NoCache => read_no_cache(key, alert, rule),
        Metric::CacheLeak => read_leak(key, alert, step),
        Metric::Cost
        | Metric::Tokens
        | Metric::PromptTokens
        | Metric::OutputTokens
        | Metric::Requests
        | Metric::CacheMiss
        | Metric::CostPerRequest
        | Metric::PromptPerRequest
        | Metric::OutputPerRequest
        | Metric::CacheGain
        | Metric::Errors
        | Metric::Blind
        | Metric::Budget
        | Metric::CacheWaste => read_window(cache, key, alert, step),
    }
}

/// Lists the rules that have to be read: those with something on, and those that may not stay quiet. `has_come`: something has
/// been added to the windows of the key.
pub(super) fn find_due(
    cache: &CacheTracker,
    key: &Key,
    asked: &Asked,
    pooled: Option<&[Baseline]>,
    has_come: bool,
    due: &mut Vec<usize>,
) {
    due.clear();
    let may_begin = |slot: usize| has_come || !takes_more(&asked.rules[slot], pooled.is_some());
    for (slot, alert) in key.alerts.iter().enumerate() {
        let is_judged = asked.own != Some(slot);
        let stays_quiet = || !may_begin(slot) || asked.stays_quiet(cache, key, pooled, slot);
        if is_judged && !(alert.is_quiet() && stays_quiet()) {
            due.push(slot);
        }
    }
}

/// Nothing but what comes for its key has the rule fire. That others show less, and its limit falls, is no news of a session that
/// spends nothing.
pub(super) fn takes_more(rule: &Rule, is_pooled: bool) -> bool {
    is_pooled && rule.limit.learns() && never_comes_by_itself(rule)
}

/// Whether all rules of a key that is at rest surely stay quiet at this moment.
#[inline]
pub(super) fn stay_quiet(
    cache: &CacheTracker,
    key: &Key,
    asked: &Asked,
    pooled: Option<&[Baseline]>,
) -> bool {
    let mut slots = 0..asked.quick.len();
    slots.all(|slot| asked.own == Some(slot) || asked.stays_quiet(cache, key, pooled, slot))
}

impl Asked {
    /// How much may come in plain responses, for which the means [have room](Self::has_room), before any rule of a key that is
    /// quiet may not be; none if that cannot be told.
    pub(super) fn slack(
        &self,
        cache: &CacheTracker,
        key: &Key,
        pooled: Option<&[Baseline]>,
    ) -> Option<Slack> {
        let rules = self.rules.iter().zip(&self.quick).enumerate();
        let asked = rules.filter(|(slot, _)| self.own != Some(*slot) && !self.is_mean(*slot));
        let slacks = asked.map(|(slot, (rule, quick))| {
            // What is learned for all keys together may change with any of them.
            let learned = || {
                let is_own = pooled.is_none() && rule.limit.learns();
                let baseline = key.baselines.get(slot).filter(|_| is_own)?;
                quick.slack_under(key, limit_at_least(rule, Some(baseline)))
            };
            quick.slack(cache, key).or_else(learned)
        });
        slacks
            .reduce(|a, b| Some(a?.min(b?)))
            .unwrap_or(Some(Slack::ENDLESS))
    }

    /// Whether a rule that is quiet surely stays so at this moment, with what it has learned.
    #[inline]
    fn stays_quiet(
        &self,
        cache: &CacheTracker,
        key: &Key,
        pooled: Option<&[Baseline]>,
        slot: usize,
    ) -> bool {
        let quick = &self.quick[slot];
        quick.stays_quiet(cache, key) || {
            let (rule, baseline) = (
                &self.rules[slot],
                pooled.unwrap_or(&key.baselines).get(slot),
            );
            stays_quiet_as_learned(cache, key, rule, quick, baseline)
        }
    }
}

/// Whether a rule that is quiet surely stays so at this moment, with what it has learned.
pub(super) fn stays_quiet_as_learned(
    cache: &CacheTracker,
    key: &Key,
    rule: &Rule,
    quick: &Quick,
    baseline: Option<&Baseline>,
) -> bool {
    let baseline = baseline.filter(|_| rule.limit.learns());
    let limit = |baseline: &Baseline| limit_at_least(rule, Some(baseline));
    baseline.is_some_and(|baseline| quick.is_under(key, limit(baseline)))
        || stays_quiet(cache, key, rule, baseline)
}

/// Whether a rule that is quiet surely stays so at this moment: a reading would be no breach. Far cheaper than a reading, and
/// asked of each rule for each response. `baseline` has what is usual for the key.
fn stays_quiet(cache: &CacheTracker, key: &Key, rule: &Rule, baseline: Option<&Baseline>) -> bool {
    if is_under_least(cache, key, rule) {
        return true;
    }
    // Over what its limit may be at least, as the traffic of a large service always is: it takes what has been learned, or what
    // all else has cost.
    let is_of_cost = rule.share_of_cost > 0 && !rule.metric.is_limitless();
    if !is_of_cost && !rule.limit.learns() {
        return false;
    }
    let (step, value) = key.value(rule, None);
    let limit = if is_of_cost {
        let secs = rule.windows.get(step);
        let total = secs.and_then(|secs| key.window(*secs)).map(Window::total);
        let usual = baseline.map(Baseline::usual).unwrap_or_default();
        rule.limit_now(usual, total.map_or(PicoUsd::ZERO, |total| total.cost))
    } else {
        limit_at_least(rule, baseline)
    };
    match (value, limit) {
        (Some(value), Some(limit)) => !value.is_above(limit),
        // Without a value nothing fires, nor while it learns.
        _ => true,
    }
}

/// What the limit of a rule is not lower than, with what it has learned. `None` while it cannot fire.
pub(super) fn limit_at_least(rule: &Rule, baseline: Option<&Baseline>) -> Option<Amount> {
    let limit = |usual| rule.limit_now(usual, PicoUsd::ZERO);
    match baseline {
        Some(baseline) => baseline.limit(limit),
        None => limit(Usual::default()),
    }
}

/// Whether a rule that is quiet stays so whatever it learns.
fn is_under_least(cache: &CacheTracker, key: &Key, rule: &Rule) -> bool {
    match rule.metric {
        Metric::MissRun => {
            let is_run = |run: &super::cache::Run| run.length > 1;
            matches!(rule.limit, Limit::ByChance { .. })
                && !cache.run(key.labels.conversation).is_some_and(is_run)
        }
        Metric::Unpriced => !key.unpriced,
        Metric::CacheMiss if !may_come_by_itself(key, rule) => true,
        Metric::NoCache => !is_uncached(key, rule),
        Metric::CacheLeak => leak(key, rule).is_none(),
        Metric::Silence => false,
        _ => {
            let Some(least) = rule.least_limit() else {
                return false;
            };
            let (_, value) = key.value(rule, None);
            value.is_none_or(|value| !value.is_above(least))
        }
    }
}

/// Whether a rule that is quiet may come to fire though nothing comes, because of what leaves its windows.
pub(super) fn may_come_by_itself(key: &Key, rule: &Rule) -> bool {
    if matches!(rule.limit, Limit::Below(_)) {
        return true;
    }
    if never_comes_by_itself(rule) {
        return false;
    }
    // What the longest window has not, none of them has.
    let longest = rule.windows.last().and_then(|secs| key.window(*secs));
    let Some(total) = longest.map(Window::total) else {
        return false;
    };
    match rule.metric {
        // It is silent at a moment of its own.
        Metric::Silence => false,
        Metric::CacheMiss => total.waste >= rule.min_waste && total.affected >= MIN_AFFECTED,
        // It only falls. So does what all else costs, and with it a limit that is a share of that.
        Metric::CacheWaste => total.waste > waste_without_effect(rule),
        Metric::Errors => total.errors > 0,
        // What came before the first large prompt is no matter: from then on the cache may fall out of use.
        Metric::NoCache => total.large > 0,
        Metric::MissRun
        | Metric::Unpriced
        | Metric::CacheLeak
        | Metric::Blind
        | Metric::Budget
        | Metric::Cost
        | Metric::Tokens
        | Metric::PromptTokens
        | Metric::OutputTokens
        | Metric::Requests
        | Metric::CacheGain
        | Metric::CostPerRequest
        | Metric::PromptPerRequest
        | Metric::OutputPerRequest => true,
    }
}

/// A rule that is quiet never fires though nothing comes, whatever it has seen.
pub(super) fn never_comes_by_itself(rule: &Rule) -> bool {
    if matches!(rule.limit, Limit::Below(_)) {
        return false;
    }
    match rule.metric {
        Metric::MissRun | Metric::Unpriced | Metric::CacheLeak | Metric::Blind | Metric::Budget => {
            true
        }
        // A sum only falls.
        Metric::Cost
        | Metric::Tokens
        | Metric::PromptTokens
        | Metric::OutputTokens
        | Metric::Requests => rule.windows.len() == 1,
        Metric::CacheMiss
        | Metric::CacheWaste
        | Metric::Errors
        | Metric::NoCache
        | Metric::Silence
        | Metric::CacheGain
        | Metric::CostPerRequest
        | Metric::PromptPerRequest
        | Metric::OutputPerRequest => false,
    }
}

/// A rule that would not come to fire by itself does not either after responses that missed nothing: it takes a miss or an error.
/// What is silent has a moment of its own.
pub(super) const fn takes_more_than_plain(rule: &Rule) -> bool {
    !matches!(rule.limit, Limit::Below(_))
        && matches!(
            rule.metric,
            Metric::CacheMiss | Metric::CacheWaste | Metric::Errors | Metric::Silence
        )
}

/// So much waste in the longest window of a rule about it is above the limit for none of its windows.
pub(super) fn waste_without_effect(rule: &Rule) -> PicoUsd {
    let least = rule.least_limit().unwrap_or(0);
    let in_window =
        |secs: &i64| least * i128::from(*secs) / i128::from(rule.per_secs.unwrap_or(*secs));
    PicoUsd(rule.windows.iter().map(in_window).min().unwrap_or(0).max(0))
}

impl Read {
    fn announcement(said: bool) -> Self {
        let reading = if said {
            Reading::Breach
        } else {
            Reading::Nothing
        };
        Self {
            reading,
            has_value: true,
            limit: 0,
            basis: Basis::default(),
            step: 0,
            odds: None,
        }
    }
}

/// A model without a price is announced with its first record and stays so.
fn read_unpriced(key: &Key, alert: &Alert, arrived: bool) -> Read {
    let on = alert.phase == Phase::Firing;
    Read::announcement(on || (arrived && key.unpriced))
}

/// What never spoke is not silent.
fn read_silence(key: &Key, rule: &Rule, now: Time) -> Read {
    let limit = rule.limit_now(Usual::default(), PicoUsd::ZERO).unwrap_or(0);
    let secs = i64::try_from(limit / UNIT).unwrap_or(i64::MAX);
    let reading = match key.silent_from(secs) {
        None => Reading::Nothing,
        Some(from) if now >= from => Reading::Breach,
        Some(_) => Reading::Clear,
    };
    Read {
        reading,
        has_value: true,
        limit,
        basis: Basis::default(),
        step: 0,
        odds: None,
    }
}

fn read_no_cache(key: &Key, alert: &Alert, rule: &Rule) -> Read {
    let on = alert.phase == Phase::Firing;
    Read::announcement(on || is_uncached(key, rule))
}

/// It is said with a response, and stays so.
fn read_leak(key: &Key, alert: &Alert, step: &Step<'_>) -> Read {
    let on = alert.phase == Phase::Firing;
    let has_come = !on && step.arrived.is_some();
    let leak = has_come.then(|| leak(key, step.rule)).flatten();
    Read {
        limit: leak.map_or(0, |limit| limit.0),
        ..Read::announcement(on || leak.is_some())
    }
}

/// Many large prompts, and none of them used the cache.
fn is_uncached(key: &Key, rule: &Rule) -> bool {
    let window = rule.windows.first().and_then(|secs| key.window(*secs));
    let total = window.map(Window::total);
    total.is_some_and(|sums| sums.cached == 0 && sums.large >= rule.min_requests)
}

fn read_window(cache: &mut CacheTracker, key: &Key, alert: &Alert, with: &Step<'_>) -> Read {
    let Step {
        now, rule, usual, ..
    } = *with;
    let open = alert.open();
    let (mut step, mut value) = key.value(rule, open.map(|episode| episode.step));
    let secs_of = |step: usize| rule.windows.get(step).copied().unwrap_or(0);
    let mut stale = false;
    if let (Some(episode), None) = (open, value) {
        // The window that it fired on has been too thin for long: a longer one decides, or the episode is over.
        if now.millis_since(episode.last_value) >= 2 * secs_of(step) * 1000 {
            (step, value) = key.value(rule, None);
            stale = value.is_none();
        }
    }
    let secs = secs_of(step);
    let total = key.window(secs).map(Window::total).unwrap_or_default();
    let basis = open.map_or(
        Basis {
            usual,
            cost: total.cost,
        },
        |episode| episode.basis,
    );
    let limit = open
        .map(|episode| episode.limit)
        .or_else(|| rule.limit_on(basis));
    // Too little can only be said of a window that has been watched from end to end.
    let is_young = |secs: i64| {
        matches!(rule.limit, Limit::Below(_)) && now.millis_since(key.first_record) < secs * 1000
    };
    let value = value.filter(|_| !is_young(secs));
    let has_begun = open.is_some() || matches!(alert.phase, Phase::Pending { .. });
    let may_begin = has_begun || with.may_begin;
    let (Some(value), Some(limit)) = (value, limit) else {
        let reading = if stale {
            Reading::Stale
        } else {
            Reading::Nothing
        };
        return Read {
            reading,
            has_value: false,
            limit: limit.unwrap_or(0),
            basis,
            step,
            odds: None,
        };
    };
    let against = Against {
        variants: with.variants,
        key,
        rule,
        basis,
        limit,
        may_be_told: !with.is_told && may_begin,
        open,
        odds: rule
            .metric
            .is_about_cache()
            .then(|| key.odds.unwrap_or_else(|| cache.odds(now))),
    };
    let mut reading = against.read(secs, value);
    if reading == Reading::Breach && !may_begin {
        reading = Reading::Between;
    }
    if reading == Reading::Clear && open.is_some() {
        // The windows decide anew: where the first that can is over the limit, it goes on there.
        let (other, value) = key.value(rule, None);
        let value = value.filter(|_| other != step && !is_young(secs_of(other)));
        let again = Against {
            may_be_told: true,
            ..against
        };
        if value.is_some_and(|value| again.read(secs_of(other), value) == Reading::Breach) {
            step = other;
            reading = Reading::Breach;
        }
    }
    Read {
        reading,
        has_value: true,
        limit,
        basis,
        step,
        odds: None,
    }
}

/// What the value of a window is held against.
struct Against<'a> {
    variants: Option<&'a Variants>,
    key: &'a Key,
    rule: &'a Rule,
    basis: Basis,
    limit: Amount,
    /// Whether it leads anywhere that it is over the limit: what is told and on goes on until it is clear.
    may_be_told: bool,
    /// The episode that is on. Where none is, being clear leads nowhere.
    open: Option<&'a Episode>,
    /// How often misses are chance, for rules about the cache.
    odds: Option<Odds>,
}

impl Against<'_> {
    /// Whether something holds of the limit. Each variant of the rule is asked with its own, as far as the answer leads anywhere.
    fn ask(&self, matters: bool, holds: impl Fn(Amount) -> bool) -> bool {
        match self.variants {
            Some(_) if matters => decide(self.variants, self.rule, |rule| {
                rule.limit_on(self.basis).is_some_and(&holds)
            }),
            _ => holds(self.limit),
        }
    }

    /// The same of the rule itself.
    fn ask_rule(&self, matters: bool, holds: impl Fn(&Rule) -> bool) -> bool {
        let variants = self.variants.filter(|_| matters);
        decide(variants, self.rule, holds)
    }

    /// The reading of a window of this length that has this value.
    fn read(&self, secs: i64, value: Value) -> Reading {
        let Self {
            rule,
            may_be_told,
            open,
            ..
        } = *self;
        let may_end = open.is_some();
        let is_clear = |limit| {
            let ends_under = open.map_or(limit, |episode| episode.ends_under(limit));
            value.is_clear_below(ends_under)
        };
        let total = self.key.window(secs).map(Window::total);
        let total = total.unwrap_or_default();
        let may_be_chance = || {
            let odds = self.odds.as_ref();
            odds.is_some_and(|odds| odds.may_be_chance(total.affected, total.eligible))
        };
        // A share says nothing if it is that of a single large prompt, or if most of it was in the nature of things: first
        // prompts, pauses, users that cannot be told apart.
        let unread = total.eligible_prompt - total.eligible_read;
        let avoidable = rule.metric != Metric::CacheMiss
            || (total.missed * 2 >= unread && total.affected >= MIN_AFFECTED && !may_be_chance());
        // A few ordinary misses of a large prompt soon cost more than the limit; that is no news unless it is much more.
        let is_ordinary = rule.metric == Metric::CacheWaste
            && !self.ask(may_be_told, |limit| {
                value_of(total.evident_waste, rule, secs).is_above(limit)
            })
            && !self.ask(may_be_told, |limit| value.is_above(limit * ORDINARY_MISSES))
            && may_be_chance();
        let enough_waste = || {
            let is_enough = |rule: &Rule| total.waste >= rule.min_waste;
            avoidable && !is_ordinary && self.ask_rule(may_be_told, is_enough)
        };
        let little_waste = || {
            let is_little = |rule: &Rule| {
                rule.min_waste > PicoUsd::ZERO && total.waste.0 * 5 < rule.min_waste.0 * 4
            };
            self.ask_rule(may_end, is_little)
        };
        let (breach, clear) = match rule.limit {
            Limit::Below(_) => (value.is_below(self.limit), value.is_clear_above(self.limit)),
            _ => (
                self.ask(may_be_told, |limit| value.is_above(limit)) && enough_waste(),
                self.ask(may_end, is_clear) || little_waste(),
            ),
        };
        match (breach, clear) {
            (true, _) => Reading::Breach,
            (false, true) => Reading::Clear,
            (false, false) => Reading::Between,
        }
    }
}

/// Waste as the value of a rule about it.
fn value_of(waste: PicoUsd, rule: &Rule, secs: i64) -> Value {
    let sums = Sums {
        waste,
        ..Sums::default()
    };
    let value = rule.metric.read(&sums, secs, rule.per_secs);
    value.unwrap_or(Value::new(0, 1))
}

/// The shortest run that a rule fires for, as its limit. None if that takes odds and there are none.
fn run_limit(rule: &Rule, odds: Option<Odds>) -> Option<Amount> {
    let shortest = match rule.limit {
        Limit::ByChance { days } => odds?.shortest_run(days),
        // Strictly above a number is from the next whole one on.
        Limit::Above(limit) => u32::try_from(limit / UNIT + 1).unwrap_or(u32::MAX),
        Limit::Below(_)
        | Limit::TimesUsual(_)
        | Limit::BeyondBusy(_)
        | Limit::AboveBusy { .. }
        | Limit::SilentFor(_)
        | Limit::Once => u32::MAX,
    };
    Some(i128::from(shortest) * UNIT)
}

/// The limit of a rule that an episode would be held against if it were one of that rule.
pub(super) fn limit_of(rule: &Rule, episode: &Episode) -> Option<Amount> {
    if rule.metric != Metric::MissRun {
        return rule.limit_on(episode.basis);
    }
    run_limit(rule, episode.odds.map(|(odds, _)| odds))
}

fn read_run(cache: &mut CacheTracker, key: &Key, alert: &Alert, step: &Step<'_>) -> Read {
    let Step { now, rule, .. } = *step;
    let conversation = key.labels.conversation;
    let open = alert.open();
    let run = cache.run(conversation);
    let (length, waste) = run.map_or((0, PicoUsd::ZERO), |run| (run.length, run.waste));
    let value = Value::count(length);
    let odds = cache.odds(now);
    let limit_now = |rule: &Rule| run_limit(rule, Some(odds)).unwrap_or(Amount::MAX);
    let limit = open.map_or_else(|| limit_now(rule), |episode| episode.limit);
    let held_to = |other: &Rule| match open {
        _ if std::ptr::eq(other, rule) => limit,
        Some(episode) => limit_of(other, episode).unwrap_or(limit),
        None => limit_now(other),
    };
    let idle_ms = cache
        .last_request(conversation)
        .map_or(0, |at| now.millis_since(at));
    let idle = idle_ms >= key.run_ends_after(rule) * 1000;
    // Its limit follows the odds, which other conversations change. That of a run that nobody goes on with is no news.
    let has_begun = open.is_some() || matches!(alert.phase, Phase::Pending { .. });
    let may_begin = has_begun || step.arrived.is_some();
    // What is told and on goes on until it is clear, and what is not on need not be.
    let to_tell = step.variants.filter(|_| !step.is_told);
    let to_end = step.variants.filter(|_| open.is_some());
    let is_long = || decide(to_tell, rule, |rule| !value.is_below(held_to(rule)));
    let is_enough = || decide(to_tell, rule, |rule| waste >= rule.min_waste);
    let is_clear = || decide(to_end, rule, |rule| value.is_clear_below(held_to(rule)));
    let reading = if idle {
        // Nobody goes on with this conversation: its last run is no news any more.
        if open.is_some() {
            Reading::Stale
        } else {
            Reading::Nothing
        }
    } else if may_begin && is_long() && is_enough() {
        Reading::Breach
    } else if is_clear() {
        Reading::Clear
    } else {
        Reading::Between
    };
    Read {
        reading,
        has_value: true,
        limit,
        basis: Basis::default(),
        step: 0,
        odds: matches!(rule.limit, Limit::ByChance { .. }).then_some((odds, length)),
    }
}

/// What was paid again may be what is over the limit, as far as a rule about waste has spoken for it.
pub(super) const fn may_be_explained(metric: Metric) -> bool {
    matches!(
        metric,
        Metric::CacheMiss | Metric::Cost | Metric::CostPerRequest
    )
}

/// Alerts about the cache have spoken for so much of what is over the limit that this one has nothing to add. `told_by_own` is what
/// one that a teller judges itself has spoken for in a window of a length.
pub(super) fn is_explained(
    variants: Option<&Variants>,
    key: &Key,
    rule: &Rule,
    episode: &Episode,
    told_by_own: impl Fn(i64) -> PicoUsd,
) -> bool {
    let secs = rule.windows.get(episode.step);
    let Some(window) = secs.and_then(|secs| key.window(*secs)) else {
        return false;
    };
    let total = window.total();
    let told = total.waste_told_by_run + total.waste_told_by_window + told_by_own(window.secs());
    let mostly = |part: i128, whole: i128| part > 0 && part * 100 >= whole * EXPLAINED_PERCENT;
    // Over the limit, in the unit of the window's sum.
    let scale = i128::from(window.secs());
    let per = i128::from(rule.per_secs.unwrap_or(window.secs()));
    let limit_of = |rule: &Rule| match variants {
        Some(_) => rule.limit_on(episode.basis).unwrap_or(episode.limit),
        None => episode.limit,
    };
    let mostly_excess = |part: i128, sum: i128| {
        decide(variants, rule, |rule| {
            mostly(part, sum - limit_of(rule) * scale / per)
        })
    };
    match rule.metric {
        // What nobody has told of would not be enough by itself.
        Metric::CacheWaste => {
            let (told, waste) = (total.waste_told_by_run.0, total.waste.0);
            let is_little = || decide(variants, rule, |rule| waste - told <= limit_of(rule));
            told > 0 && (mostly(told, waste) || is_little())
        }
        Metric::CacheMiss => mostly(told.0, total.waste.0),
        Metric::Cost => mostly_excess(told.0, total.cost.0),
        Metric::CostPerRequest => {
            let requests = i128::from(total.requests);
            decide(variants, rule, |rule| {
                mostly(told.0, total.cost.0 - limit_of(rule) * requests)
            })
        }
        // Tokens that the cache did not give are for the rules about the cache to judge.
        Metric::Tokens => mostly_excess(
            i128::from(total.unread) * UNIT,
            i128::from(total.fresh) * UNIT,
        ),
        Metric::MissRun
        | Metric::PromptTokens
        | Metric::OutputTokens
        | Metric::Requests
        | Metric::PromptPerRequest
        | Metric::OutputPerRequest
        | Metric::CacheGain
        | Metric::Errors
        | Metric::Silence
        | Metric::Budget
        | Metric::Blind
        | Metric::Unpriced
        | Metric::NoCache
        | Metric::CacheLeak => false,
    }
}
