//! The windows and alerts of the rules that look at the same records under the same keys.
//!
//! Knows what one key has seen. What other keys, scopes or the cache know is handed in by the evaluator.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::alert::{ADAPT_MS, Alert, Episode, Phase};
use super::baseline::{Amount, Baseline, Held};
use super::cache::{CacheTracker, LONG_TTL, Miss};
use super::calm::Calm;
use super::makeup::{Makeup, Past, is_of_makeup};
use super::metric::{Metric, Value};
use super::names::Names;
use super::quick::Quick;
use super::reading::{
    limit_at_least, may_come_by_itself, never_comes_by_itself, waste_without_effect,
};
use super::record::{Labels, Time, UsageRecord};
use super::rule::{Filter, Label, Limit, Rule};
use super::spread::is_of_several;
use super::window::{BUCKETS, Sums, Window, signed};
use crate::price::PicoUsd;

/// A minute is sampled this long after its end, so that output that comes late is in.
const SAMPLE_DELAY_SECS: i64 = 300;

/// How far back a window of a learned rule must be able to look.
const LOOKBACK_SECS: i64 = SAMPLE_DELAY_SECS + 120;

/// No baseline remembers more minutes.
const MINUTES_OF_A_WEEK: usize = 7 * 24 * 60;

/// Samples of an episode that is on count after so many minutes.
const RIPE_MINUTES: i64 = 6 * 60;

/// No run of misses is over sooner for want of traffic.
const RUN_ENDS_SECS: i64 = 15 * 60;

/// Misses remembered for naming the cause of a windowed alert.
const RECENT_MISSES: usize = 32;

/// Rules that share keys.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) by: Vec<Label>,
    pub(super) filter: Filter,
    pub(super) min_prompt_tokens: u64,
    /// Lengths of all windows that its rules need, shortest first.
    pub(super) window_secs: Vec<i64>,
    pub(super) rules: Vec<Arc<Rule>>,
    /// The same rules as they are asked whether all is quiet: of variants the most sensitive.
    pub(super) asked: Asked,
    /// The rule that tellers judge, each for itself; the alerts of keys are not those of this rule.
    pub(super) own: Option<usize>,
    /// Lengths of the windows of those that they judge.
    own_secs: BTreeSet<i64>,
    pub(super) keys: FxHashMap<u64, Key>,
    max_keys: usize,
    /// What the keys saw that had to make room: sums stay whole, though nothing is judged by them.
    pub(super) other: Vec<Window>,
    /// Baselines of each rule over all keys, where a single key is too short-lived to learn from.
    pub(super) pooled: Option<Vec<Baseline>>,
    /// When it is soon enough to look at a key again.
    pub(super) soon: Soon,
    /// One of its rules learns what is usual.
    pub(super) learns: bool,
    /// One of its alerts may explain others.
    pub(super) explains: bool,
    /// One of its rules tells what responses are made of.
    pub(super) keeps_past: bool,
    /// What those of all keys were, where a single key is too short-lived to have a past.
    pub(super) past: Past,
    /// Its keys are forgotten when nothing can be learned from them any more. Those that know whether the cache is in use, or
    /// what was announced, are kept.
    pub(super) forgets: bool,
}

/// When it is soon enough to look at a key again after a plain response.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Soon {
    /// It changes nothing by growing old for so long.
    secs: i64,
    /// What is learned samples its minute before that.
    is_sampled: bool,
    /// All rules are about waste, and the keys are kept: up to so much of it, it changes nothing at all.
    of_waste: Option<PicoUsd>,
}

impl Soon {
    /// The key will be looked at before a plain response that has just come could change anything by growing old; what was there
    /// before is seen to.
    #[inline]
    pub(super) fn sees_to(self, key: &Key, now: i64) -> bool {
        let Some(second) = key.scheduled else {
            return self.of_waste.is_some_and(|most| key.waste() <= most);
        };
        let is_before_sample = || second <= sampled_at(now.div_euclid(60));
        second > now
            && second <= now.saturating_add(self.secs)
            && (!self.is_sampled || is_before_sample())
    }
}

/// Rules that are asked whether they stay quiet.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) rules: Vec<Arc<Rule>>,
    /// What each of them needs at least.
    pub(super) quick: Vec<Quick>,
    /// Those that are about a mean.
    means: Vec<usize>,
    /// The others, as far as they may come to fire though nothing comes.
    by_themselves: Vec<usize>,
    /// The one that tellers judge.
    pub(super) own: Option<usize>,
}

impl Asked {
    /// The rule is about a mean that has a room.
    pub(super) fn is_mean(&self, slot: usize) -> bool {
        self.means.contains(&slot)
    }

    /// A response that adds this lifts no mean above its limit until its key is looked at again, whatever leaves its windows.
    #[inline]
    pub(super) fn has_room(&self, key: &mut Key, sums: &Sums) -> bool {
        key.rooms.len() == self.means.len()
            && self.means.iter().zip(&mut key.rooms).all(|(slot, room)| {
                if !room.is_endless() {
                    let taken = self.quick[*slot].takes(sums, room.limit);
                    room.left = room.left.saturating_sub(taken);
                }
                room.left >= 0
            })
    }
}

/// How far a mean is from its limit.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// At least so far, whatever leaves its windows.
    left: Amount,
    /// From this limit.
    limit: Amount,
    /// It holds up to this second; if none, only for now.
    until: Option<i64>,
}

impl Room {
    /// No plain response takes it.
    const ENDLESS: Self = Self {
        left: Amount::MAX,
        limit: Amount::MAX,
        until: None,
    };

    const fn is_endless(&self) -> bool {
        self.limit == Amount::MAX
    }

    fn holds(&self, limit: Amount, now: i64) -> bool {
        self.limit == limit && self.left >= 0 && self.until.is_some_and(|until| until > now)
    }
}

/// What one key has seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) labels: Arc<Labels>,
    pub(super) windows: Vec<Window>,
    pub(super) alerts: Vec<Alert>,
    pub(super) baselines: Vec<Baseline>,
    /// Samples of minutes in an episode, which enter the baseline after it, by rule.
    pub(super) held: BTreeMap<usize, VecDeque<Held>>,
    pub(super) last_read: Option<Time>,
    pub(super) first_record: Time,
    pub(super) last_record: Time,
    /// The last response; errors are none.
    pub(super) last_usage: Option<Time>,
    /// By when the first response is due.
    pub(super) expected_by: Option<Time>,
    /// The last record had no price.
    pub(super) unpriced: bool,
    pub(super) misses: VecDeque<Miss>,
    pub(super) names: Names,
    /// What its responses were made of, if a rule asks for that and it lasts long enough.
    pub(super) past: Past,
    /// Minutes with traffic that have not been sampled yet.
    pub(super) minutes: VecDeque<i64>,
    /// When it is to be looked at again: a notice that was withheld may be due, or a limit has fallen.
    pub(super) retry: Option<i64>,
    /// How far means are from their limits; empty if that is not known.
    #[serde(skip)]
    rooms: Vec<Room>,
    /// How far the other rules are from theirs.
    #[serde(skip)]
    pub(super) calm: Calm,
    /// The second for which this key stands in the queue of timers.
    pub(super) scheduled: Option<i64>,
    /// The second that its windows have been moved to.
    advanced: i64,
}

impl Scope {
    pub(super) fn new(rule: &Arc<Rule>, max_keys: usize) -> Self {
        let pooled = rule.is_of_sessions();
        Self {
            by: rule.by.clone(),
            filter: rule.filter.clone(),
            min_prompt_tokens: rule.min_prompt_tokens,
            window_secs: Vec::new(),
            rules: Vec::new(),
            asked: Asked::default(),
            own: None,
            own_secs: BTreeSet::new(),
            keys: FxHashMap::default(),
            max_keys,
            other: Vec::new(),
            pooled: pooled.then(Vec::new),
            soon: Soon::default(),
            learns: false,
            explains: false,
            keeps_past: false,
            past: Past::default(),
            forgets: false,
        }
    }

    /// Whether a rule's records and keys are those of this scope.
    pub(super) fn fits(&self, rule: &Rule) -> bool {
        self.by == rule.by
            && self.filter == rule.filter
            && self.min_prompt_tokens == rule.min_prompt_tokens
    }

    pub(super) fn add_rule(&mut self, rule: Arc<Rule>) {
        if rule.metric.is_windowed() || rule.metric == Metric::NoCache {
            self.add_windows(&rule.windows);
        }
        if let Some(pooled) = &mut self.pooled {
            pooled.push(Baseline::new(rule.goes_with_the_days()));
        }
        self.learns |= rule.limit.learns();
        self.explains |= matches!(rule.metric, Metric::MissRun | Metric::CacheWaste);
        self.keeps_past |= is_of_makeup(rule.metric);
        self.asked.rules.push(Arc::clone(&rule));
        self.rules.push(rule);
        self.work_out();
    }

    /// Has keys that are opened from now on sum up over these windows too.
    fn add_windows(&mut self, secs: &[i64]) {
        self.window_secs.extend(secs);
        self.window_secs.sort_unstable();
        self.window_secs.dedup();
    }

    /// Leaves one of its rules to tellers, which judge these instead. It takes a scope that has no key yet.
    pub(super) fn leave(&mut self, slot: usize, rules: &[Arc<Rule>]) {
        self.own = Some(slot);
        self.asked.own = Some(slot);
        for rule in rules {
            self.add_windows(&rule.windows);
            self.own_secs.extend(&rule.windows);
            self.learns |= rule.limit.learns();
        }
        self.work_out();
    }

    /// The next second after `now` at which anything leaves a window of a rule that tellers judge.
    pub(super) fn next_expiry_of_own(&self, id: u64, now: i64) -> Option<i64> {
        let key = self.keys.get(&id)?;
        let windows = self.own_secs.iter().filter_map(|secs| key.window(*secs));
        let expiries = windows.filter_map(Window::next_expiry);
        expiries.filter(|second| *second > now).min()
    }

    /// Works out what is the same for all records, after a change of rules.
    pub(super) fn work_out(&mut self) {
        let quick = |rule: &Arc<Rule>| Quick::of(rule, &self.window_secs);
        self.asked.quick = self.asked.rules.iter().map(quick).collect();
        let is_own = self.pooled.is_none();
        let is_of_mean = |slot: &usize| {
            is_own && self.asked.own != Some(*slot) && self.asked.quick[*slot].is_of_mean()
        };
        self.asked.means = (0..self.asked.quick.len()).filter(is_of_mean).collect();
        let may_come = |slot: &usize| {
            self.asked.own != Some(*slot)
                && !is_of_mean(slot)
                && !never_comes_by_itself(&self.asked.rules[*slot], !is_own)
        };
        self.asked.by_themselves = (0..self.asked.rules.len()).filter(may_come).collect();
        self.forgets = self.works_out_whether_it_forgets();
        for key in self.keys.values_mut() {
            key.forget_rooms();
        }
        let own = self.keys.values().flat_map(|key| &key.baselines);
        for baseline in own.chain(self.pooled.iter().flatten()) {
            baseline.forget_limit();
        }
        // It leaves the shortest window no earlier than that, but of some rules it may be what makes them worth looking at again.
        let rules = &self.asked.rules;
        let of_runs = || rules.iter().flat_map(|rule| &rule.windows).min();
        let shortest = self.window_secs.first().or_else(of_runs);
        let in_window = shortest.map_or(0, |shortest| shortest - shortest / BUCKETS);
        let is_calm = |rule: &Arc<Rule>| {
            !self.learns && (rule.metric.is_about_cache() || rule.metric.is_announcement())
        };
        let is_of_runs = |rule: &Arc<Rule>| rule.metric == Metric::MissRun;
        let is_of_waste = |rule: &Arc<Rule>| rule.metric == Metric::CacheWaste;
        let is_of_waste = self.own.is_none() && rules.iter().all(is_of_waste);
        let is_kept = is_of_waste && !self.learns && !self.forgets;
        let without_effect = rules.iter().map(|rule| waste_without_effect(rule)).min();
        let secs = if rules.iter().all(is_of_runs) {
            // A run goes on or ends with what comes, and is forgotten the later the more comes.
            i64::MAX
        } else if self.learns || rules.iter().all(is_calm) {
            in_window
        } else {
            in_window.min(SAMPLE_DELAY_SECS)
        };
        self.soon = Soon {
            secs,
            is_sampled: self.learns,
            of_waste: without_effect.filter(|_| is_kept),
        };
    }

    /// What the responses of a key, or of its like, were made of before a moment, if the rule is about that and enough is known.
    pub(super) fn before(&self, id: u64, rule: &Rule, moment: Time) -> Option<Makeup> {
        let key = self.keys.get(&id).filter(|_| is_of_makeup(rule.metric))?;
        let past = self.pooled.as_ref().map_or(&key.past, |_| &self.past);
        past.before(moment)
    }

    /// The key that a record falls under.
    pub(super) fn key_of(&self, labels: &Labels) -> u64 {
        use std::hash::{Hash, Hasher};
        match self.by.as_slice() {
            [] => 0,
            [Label::Conversation] => labels.conversation,
            [Label::Session] => labels.run.unwrap_or(0),
            by => {
                let mut hasher = rustc_hash::FxHasher::default();
                for label in by {
                    match label {
                        Label::Conversation => labels.conversation.hash(&mut hasher),
                        other => other.of(labels).hash(&mut hasher),
                    }
                }
                hasher.finish()
            }
        }
    }

    /// Sees to it that there is a key.
    pub(super) fn open_key(&mut self, id: u64, labels: &Arc<Labels>, at: Time) {
        if self.keys.contains_key(&id) {
            return;
        }
        if self.keys.len() >= self.max_keys {
            self.make_room();
        }
        let lookback = if self.learns { LOOKBACK_SECS } else { 0 };
        let own = self.rules.iter().filter(|_| self.pooled.is_none());
        let windows = self.window_secs.iter();
        let key = Key {
            labels: Arc::clone(labels),
            windows: windows.map(|secs| Window::new(*secs, lookback)).collect(),
            alerts: vec![Alert::default(); self.rules.len()],
            baselines: own
                .map(|rule| Baseline::new(rule.goes_with_the_days()))
                .collect(),
            held: BTreeMap::new(),
            last_read: None,
            first_record: at,
            last_record: at,
            last_usage: None,
            expected_by: None,
            unpriced: false,
            misses: VecDeque::new(),
            names: Names::default(),
            past: Past::default(),
            minutes: VecDeque::new(),
            retry: None,
            rooms: Vec::new(),
            calm: Calm::default(),
            scheduled: None,
            advanced: i64::MIN,
        };
        self.keys.insert(id, key);
    }

    /// Adds the least recent tenth of the keys that have nothing on to the others. What was announced of one is announced again if
    /// it comes back behind so many others.
    fn make_room(&mut self) {
        let rules = &self.rules;
        let idle = |key: &Key| {
            let mut alerts = key.alerts.iter().zip(rules);
            alerts.all(|(alert, rule)| {
                alert.phase == Phase::Inactive || rule.metric.is_announcement()
            })
        };
        let mut times: Vec<Time> = self
            .keys
            .values()
            .filter(|k| idle(k))
            .map(|k| k.last_record)
            .collect();
        if times.is_empty() {
            return;
        }
        let tenth = times.len() / 10;
        let (_, cut, _) = times.select_nth_unstable(tenth);
        let cut = *cut;
        let lookback = if self.learns { LOOKBACK_SECS } else { 0 };
        if self.other.is_empty() {
            let windows = self.window_secs.iter();
            self.other = windows.map(|secs| Window::new(*secs, lookback)).collect();
        }
        for (_, key) in self
            .keys
            .extract_if(|_, key| idle(key) && key.last_record <= cut)
        {
            for (other, window) in self.other.iter_mut().zip(&key.windows) {
                other.absorb(window);
            }
        }
    }

    /// The labels of a key with their values, for people and for the identity of an episode.
    pub(super) fn key_labels(&self, labels: &Labels) -> Vec<(Label, String)> {
        let mut parts = Vec::new();
        for label in &self.by {
            match label {
                Label::Conversation => parts.extend(conversation_labels(labels)),
                other => parts.push((*other, other.of(labels).unwrap_or("-").to_owned())),
            }
        }
        parts.sort();
        parts
    }

    fn works_out_whether_it_forgets(&self) -> bool {
        let remembers = |rule: &Arc<Rule>| {
            rule.metric == Metric::CacheMiss || rule.metric.is_announcement() || rule.limit.learns()
        };
        !self.by.is_empty() && (self.pooled.is_some() || !self.rules.iter().any(remembers))
    }

    /// It may be forgotten, and to look at it once more would tell nothing: of what has no window any more nothing is too much.
    pub(super) fn is_over(&self, key: &Key, now: i64) -> bool {
        let is_of_little = |rule: &Arc<Rule>| matches!(rule.limit, Limit::Below(_));
        self.may_forget(key, now) && !self.rules.iter().any(is_of_little)
    }

    /// Nothing can be learned from this key any more.
    pub(super) fn may_forget(&self, key: &Key, now: i64) -> bool {
        let is_quiet = |alert: &Alert| alert.phase == Phase::Inactive;
        self.forgets
            && key.minutes.is_empty()
            && key.held.is_empty()
            && key.alerts.iter().all(is_quiet)
            && key.over_at(&self.rules).is_none_or(|over| over <= now)
    }
}

/// The second at which a minute is sampled.
pub(super) const fn sampled_at(minute: i64) -> i64 {
    minute * 60 + 59 + SAMPLE_DELAY_SECS
}

/// A conversation is named by its session and agent, or without them by its model and project.
fn conversation_labels(labels: &Labels) -> Vec<(Label, String)> {
    let mut parts = vec![(Label::Model, labels.model.to_string())];
    if let Some(session) = &labels.session {
        let agent = labels
            .agent
            .as_ref()
            .map(|agent| format!("/{agent}"))
            .unwrap_or_default();
        parts.push((Label::Session, format!("{session}{agent}")));
    }
    let is_of_project = labels.session.is_none() || is_of_several(labels);
    if let Some(project) = labels.project.as_ref().filter(|_| is_of_project) {
        parts.push((Label::Project, project.to_string()));
    }
    parts
}

impl Key {
    pub(super) fn advance(&mut self, now: Time) {
        self.advance_to(now.secs());
    }

    /// The same, if the second is known.
    #[inline]
    pub(super) fn advance_to(&mut self, second: i64) {
        if second > self.advanced {
            self.advanced = second;
            for window in &mut self.windows {
                window.advance(second);
            }
        }
    }

    /// Moves all that it has seen in time: the clock was wrong by so much. What was learned stays where it is.
    pub(super) fn shift(&mut self, ms: i64) {
        let secs = ms / 1000;
        for window in &mut self.windows {
            window.shift(secs);
        }
        for alert in &mut self.alerts {
            alert.shift(ms);
        }
        for miss in &mut self.misses {
            miss.at.shift(ms);
        }
        for minute in &mut self.minutes {
            *minute += secs.div_euclid(60);
        }
        if let Some(read) = &mut self.last_read {
            read.shift(ms);
        }
        self.first_record.shift(ms);
        self.last_record.shift(ms);
        let silence = [&mut self.last_usage, &mut self.expected_by];
        for time in silence.into_iter().flatten() {
            time.shift(ms);
        }
        self.names.shift(secs);
        self.past.shift(secs);
        self.forget_rooms();
        self.advanced = self.advanced.saturating_add(secs);
        if let Some(retry) = &mut self.retry {
            *retry += secs;
        }
        if let Some(scheduled) = &mut self.scheduled {
            *scheduled += secs;
        }
    }

    /// Adds to all windows; false if one of them does not hold that second any more.
    pub(super) fn add(&mut self, second: i64, sums: &Sums) -> bool {
        let mut held = true;
        for window in &mut self.windows {
            held &= window.add(second, sums);
        }
        held
    }

    pub(super) fn window(&self, secs: i64) -> Option<&Window> {
        self.windows.iter().find(|window| window.secs() == secs)
    }

    /// The value of a windowed rule, and the step of its ladder of windows that it comes from: the one an open episode fired
    /// on, else the shortest that holds enough.
    pub(super) fn value(&self, rule: &Rule, open_step: Option<usize>) -> (usize, Option<Value>) {
        let read = |step: usize| {
            let secs = *rule.windows.get(step)?;
            let total = self.window(secs)?.total();
            (rule.is_enough(total) || (open_step.is_some() && rule.metric.is_sum()))
                .then(|| rule.metric.read(total, secs, rule.per_secs))
                .flatten()
        };
        match open_step {
            Some(step) => (step, read(step)),
            None => (0..rule.windows.len())
                .find_map(|step| read(step).map(|value| (step, Some(value))))
                .unwrap_or((0, None)),
        }
    }

    /// Looks at its windows as they stood at the end of a minute.
    pub(super) fn look_back(&mut self, minute: i64) {
        for window in &mut self.windows {
            window.look_back(minute * 60 + 59);
        }
    }

    /// The value that a rule had at the end of the minute that was [looked back](Self::look_back) to, with what has come in since.
    /// What is usual may have cost next to nothing.
    pub(super) fn sample(&self, rule: &Rule) -> Option<Amount> {
        rule.windows.iter().find_map(|secs| {
            let total = self.window(*secs)?.past();
            (rule.metric.evidence(total) >= rule.min_requests)
                .then(|| rule.metric.read(total, *secs, rule.per_secs))
                .flatten()
                .map(Value::amount)
        })
    }

    /// Notes that a minute had traffic.
    pub(super) fn note_minute(&mut self, minute: i64) {
        // Nearly all come in order.
        if self.minutes.back() == Some(&minute) {
            return;
        }
        let at = self.minutes.partition_point(|m| *m < minute);
        if self.minutes.get(at) != Some(&minute) {
            self.minutes.insert(at, minute);
        }
    }

    /// The next minute that is due to be sampled.
    pub(super) fn next_sample(&self) -> Option<i64> {
        self.minutes.front().copied().map(sampled_at)
    }

    pub(super) fn note_miss(&mut self, miss: &Miss) {
        if self.misses.len() == RECENT_MISSES {
            self.misses.pop_front();
        }
        self.misses.push_back(miss.clone());
    }

    /// What the cache could have served of a record is for each key to say.
    pub(super) fn judge_prompt(
        &self,
        sums: &mut Sums,
        record: &UsageRecord,
        at: Time,
        min_prompt: u64,
    ) {
        let tokens = &record.tokens;
        let is_large = tokens.prompt() >= min_prompt;
        let uses_cache = || {
            self.last_read
                .is_some_and(|read| at.millis_since(read) <= super::cache::READ_MEMORY_MS)
        };
        let is_eligible = is_large && uses_cache();
        let of_eligible = |tokens: u64| if is_eligible { signed(tokens) } else { 0 };
        sums.large = i64::from(is_large);
        sums.cached = i64::from(is_large && (tokens.cache_read > 0 || tokens.cache_write() > 0));
        sums.eligible = i64::from(is_eligible);
        sums.eligible_prompt = of_eligible(tokens.prompt());
        sums.eligible_read = of_eligible(tokens.cache_read);
    }

    /// Remembers what a record tells about this key.
    pub(super) fn note_arrival(&mut self, record: &UsageRecord, at: Time, miss: Option<&Miss>) {
        if record.tokens.cache_read > 0 {
            self.last_read = Some(self.last_read.map_or(at, |read| read.max(at)));
        }
        self.last_record = self.last_record.max(at);
        self.last_usage = self.last_usage.max(Some(at));
        self.unpriced = record.cost.is_none();
        self.names
            .add(at, &record.labels, record.cost.unwrap_or_default());
        if let Some(miss) = miss {
            self.note_miss(miss);
        }
    }

    /// From when on it is silent, if a response may be so many seconds away. What never spoke, and need not, is not silent.
    pub(super) fn silent_from(&self, secs: i64) -> Option<Time> {
        let last = self.last_usage.map(|last| last.plus_secs(secs));
        last.or(self.expected_by)
    }

    /// None of its alerts is on or could reopen, and nothing waits for the end of one.
    pub(super) fn is_at_rest(&self) -> bool {
        self.held.is_empty() && self.alerts.iter().all(Alert::is_quiet)
    }

    /// How much of what its longest window holds was paid again.
    fn waste(&self) -> PicoUsd {
        let longest = self.windows.last().map(Window::total);
        longest.map_or(PicoUsd::ZERO, |total| total.waste)
    }

    /// The second at which it is silent, if nothing comes.
    fn silent_at(&self, secs: i64) -> Option<i64> {
        self.silent_from(secs).map(Time::first_tick)
    }

    /// From which second on nothing is known here that any of the rules asks for. `None` if it is so already.
    fn over_at(&self, rules: &[Arc<Rule>]) -> Option<i64> {
        // Whoever fell silent is to be heard of, however long ago it was.
        if rules.iter().any(|rule| rule.metric == Metric::Silence) {
            return Some(i64::MAX);
        }
        // A conversation that nobody goes on with for so long is in no run of misses any more.
        let runs = rules.iter().filter(|rule| rule.metric == Metric::MissRun);
        let idle = runs.filter_map(|rule| rule.windows.last()).max();
        let idle = idle.map(|longest| self.last_record.secs() + 2 * longest + 1);
        let windows = self.windows.iter().filter_map(Window::last_expiry);
        windows.chain(idle).max()
    }

    /// The next second after `now` at which time alone changes something here: what is quiet may not stay so, and what is on may
    /// end or be told again. `until_clear` says of what is on whether it goes on as it is until it is clear of a limit, and which of
    /// its windows decides.
    pub(super) fn next_change(
        &mut self,
        cache: &CacheTracker,
        asked: &Asked,
        pooled: Option<&[Baseline]>,
        forgets: bool,
        now: i64,
        until_clear: impl Fn(usize, &Alert, &Rule) -> Option<(usize, Amount)>,
    ) -> Option<i64> {
        let mut next = i64::MAX;
        let mut at = |second: Option<i64>| {
            if let Some(second) = second.filter(|second| *second > now) {
                next = next.min(second);
            }
        };
        let is_pooled = pooled.is_some();
        for slot in &asked.by_themselves {
            let (rule, alert) = (&asked.rules[*slot], &self.alerts[*slot]);
            if let Limit::SilentFor(secs) = rule.limit
                && alert.open().is_none()
            {
                at(self.silent_at(secs));
            }
            if alert.is_quiet() && may_come_by_itself(cache, self, rule, is_pooled) {
                for change in self.expiries_of(rule) {
                    at(change);
                }
            }
        }
        let alerts = self.alerts.iter().enumerate();
        for (slot, alert) in alerts.filter(|(_, alert)| !alert.is_quiet()) {
            if asked.own == Some(slot) {
                continue;
            }
            let rule = &asked.rules[slot];
            let last_request = cache.last_request(self.labels.conversation);
            for change in self.changes_of(alert, rule, last_request) {
                at(change);
            }
            if let Some((step, limit)) = until_clear(slot, alert, rule) {
                at(asked.quick[slot].clear_at(self, step, limit));
            } else {
                for change in self.expiries_of(rule) {
                    at(change);
                }
            }
        }
        if forgets {
            at(self.over_at(&asked.rules));
        }
        at(self.next_sample());
        at(self.retry);
        at(self.look_ahead(cache, asked, now));
        (next < i64::MAX).then_some(next)
    }

    /// When something leaves the windows of a rule next.
    fn expiries_of(&self, rule: &Rule) -> impl Iterator<Item = Option<i64>> {
        let windows = rule.windows.iter().map(|secs| self.window(*secs));
        windows.map(|window| window.and_then(Window::next_expiry))
    }

    /// When time alone moves an alert on: a wait is over, it may begin again, or it ends for want of traffic. `last_request` is that of
    /// the conversation, as far as it was judged; small ones go on with no run.
    pub(super) fn changes_of(
        &self,
        alert: &Alert,
        rule: &Rule,
        last_request: Option<Time>,
    ) -> [Option<i64>; 3] {
        let changes = [alert.next_change(rule), alert.may_begin_again_at()];
        let [moves, begins] = changes.map(|change| change.map(Time::first_tick));
        [moves, begins, self.stale_at(alert, rule, last_request)]
    }

    /// The second up to which no mean that is quiet comes above its limit because of what leaves its windows, as far as is known.
    fn look_ahead(&mut self, cache: &CacheTracker, asked: &Asked, now: i64) -> Option<i64> {
        let mut next = None;
        let mut rooms = std::mem::take(&mut self.rooms);
        rooms.resize(asked.means.len(), Room::ENDLESS);
        for (slot, room) in asked.means.iter().zip(&mut rooms) {
            let (rule, is_quiet) = (&asked.rules[*slot], self.alerts[*slot].is_quiet());
            // Otherwise it takes a miss that could have been avoided.
            let may_come = !is_quiet || may_come_by_itself(cache, self, rule, false);
            let limit = || limit_at_least(rule, self.baselines.get(*slot));
            *room = match may_come.then(limit).flatten() {
                // It cannot fire before it learns more.
                None => Room::ENDLESS,
                Some(limit) if !is_quiet => Room {
                    left: 0,
                    limit,
                    until: None,
                },
                Some(limit) if room.holds(limit, now) => *room,
                Some(limit) => {
                    let (until, left) = asked.quick[*slot].look_ahead(self, limit, now);
                    Room { left, limit, until }
                }
            };
            next = [next, room.until].into_iter().flatten().min();
        }
        self.rooms = rooms;
        next
    }

    /// Has it looked at again at the first tick from then on, if nothing before that does.
    pub(super) fn look_again_at(&mut self, now: Time, then: Time) {
        let known = self.retry.filter(|second| *second > now.secs());
        let then = then.first_tick();
        self.retry = Some(known.map_or(then, |known| known.min(then)));
    }

    /// What is known of limits holds no longer: one has changed, or what came was not counted off.
    pub(super) fn forget_rooms(&mut self) {
        self.rooms.clear();
        self.calm = Calm::default();
    }

    /// The next second after `now` at which anything leaves a window.
    pub(super) fn next_expiry(&self, now: i64) -> Option<i64> {
        let expiries = self.windows.iter().filter_map(Window::next_expiry);
        expiries.filter(|second| *second > now).min()
    }

    /// After so many seconds without a request a run of misses is over. That of one conversation when nothing that it missed would
    /// still be in the cache; what stands for several, or has no name, may go on with another one.
    pub(super) fn run_ends_after(&self, rule: &Rule) -> i64 {
        let longest = rule.windows.last().copied().unwrap_or(0);
        if self.labels.session.is_none() || is_of_several(&self.labels) {
            return 2 * longest;
        }
        let ttl = self.misses.back().map_or(LONG_TTL, |miss| miss.ttl_secs);
        ttl.max(RUN_ENDS_SECS).min(2 * longest)
    }

    /// When an open alert may end for want of traffic: twice the window that decides after its last value; that of a run when nothing
    /// is in the cache any more.
    fn stale_at(&self, alert: &Alert, rule: &Rule, last_request: Option<Time>) -> Option<i64> {
        let ends_by_itself = rule.metric.is_announcement() || rule.metric == Metric::Silence;
        let episode = alert.open().filter(|_| !ends_by_itself)?;
        let deciding = rule.windows.get(episode.step).copied().unwrap_or(0);
        Some(if rule.metric == Metric::MissRun {
            let ends_after = self.run_ends_after(rule);
            let last = last_request.unwrap_or(self.last_record);
            last.plus_secs(ends_after).first_tick()
        } else {
            episode.last_value.plus_secs(2 * deciding).first_tick()
        })
    }
}

/// The sample of a minute as it is kept until the episode in which it lies is over; none if it lies in none. How much there is goes
/// with the hours of the day, and what every day shows is ordinary. What a response costs is so once it has lasted for a day: another
/// model stays. What a session costs, or what of the cache is lost, never is.
pub(super) fn hold(
    episode: Option<&Episode>,
    rule: &Rule,
    is_pooled: bool,
    minute: i64,
    sample: Amount,
) -> Option<Held> {
    let minute_end = Time::from_secs(minute * 60 + 59);
    let episode = episode.filter(|episode| episode.since <= minute_end)?;
    let counted = episode.usual.unwrap_or_default().clip(sample);
    let lasts = || minute_end.millis_since(episode.since) >= ADAPT_MS;
    let is_of_days = !is_pooled && (rule.metric.is_volume() || rule.metric.is_mean() && lasts());
    Some(Held {
        minute,
        counted,
        seen: if is_of_days { sample } else { counted },
    })
}

/// Keeps such a sample.
pub(super) fn keep(held: &mut VecDeque<Held>, sample: Held) {
    held.push_back(sample);
    // Older ones would be forgotten at once.
    if held.len() > MINUTES_OF_A_WEEK {
        held.pop_front();
    }
}

/// Takes out those that count though the episode goes on, because they are old: it may go on for weeks.
pub(super) fn ripe(held: &mut VecDeque<Held>, minute: i64) -> impl Iterator<Item = Held> + '_ {
    let is_ripe = move |oldest: &Held| oldest.minute <= minute - RIPE_MINUTES;
    std::iter::from_fn(move || {
        held.front().filter(|oldest| is_ripe(oldest))?;
        held.pop_front()
    })
}

#[cfg(test)]
mod tests {
    use super::super::baseline::Usual;
    use super::super::window::Summed;
    use super::*;

    /// Law 12: what is told apart and what had to make room are the whole.
    #[test]
    fn keys_and_the_others_are_the_whole() {
        let rule = Arc::new(Rule {
            windows: vec![3600],
            by: vec![Label::Session],
            ..Rule::blank()
        });
        let mut scope = Scope::new(&rule, 100);
        scope.add_rule(rule);
        let mut whole = Window::new(3600, 0);
        for n in 0..5_000_i64 {
            let labels = Labels {
                session: Some(format!("s-{}", n * 7919 % 2_000).into()),
                ..Labels::default()
            };
            let labels = Arc::new(labels.with_hashes());
            let sums = Sums {
                cost: PicoUsd(i128::from(n)),
                requests: 1,
                ..Sums::default()
            };
            let id = scope.key_of(&labels);
            scope.open_key(id, &labels, Time::from_secs(n));
            scope.keys.get_mut(&id).unwrap().add(n, &sums);
            whole.add(n, &sums);
        }
        assert!(scope.keys.len() <= 100 && !scope.other.is_empty());
        let mut sum = Sums::default();
        for window in scope.keys.values_mut().flat_map(|key| &mut key.windows) {
            window.advance(4_999);
            sum.add(window.total());
        }
        scope.other[0].advance(4_999);
        sum.add(scope.other[0].total());
        assert_eq!(sum, *whole.total());
    }

    /// What was announced stays so, and has no end; there is an end to what is remembered of it.
    #[test]
    fn what_was_announced_makes_room_too() {
        let rule = Arc::new(Rule {
            metric: Metric::Unpriced,
            by: vec![Label::Model],
            ..Rule::blank()
        });
        let mut scope = Scope::new(&rule, 100);
        scope.add_rule(rule);
        for n in 0..1_000_i64 {
            let labels = Labels {
                model: format!("m{n}").into(),
                ..Labels::default()
            };
            let labels = Arc::new(labels.with_hashes());
            let id = scope.key_of(&labels);
            scope.open_key(id, &labels, Time::from_secs(n));
            scope.keys.get_mut(&id).unwrap().alerts[0].phase = Phase::Firing;
            assert!(scope.keys.len() <= 100 && scope.keys.contains_key(&id));
        }
    }

    /// Minutes of an alert count as busy ones; of how much there is as they were, of what a response costs once that has lasted for a
    /// day, of a session or the cache never.
    #[test]
    fn what_lasts_is_seen_as_it_was_where_it_may_become_usual() {
        let mut episode = Episode::new(1, Time::from_secs(0), 0, Arc::default());
        episode.usual = Some(Usual {
            usual: 10,
            busy: 20,
            minutes: 1_000,
            is_of_days: true,
        });
        let seen = |metric, is_pooled, minute| {
            let rule = Rule {
                metric,
                ..Rule::blank()
            };
            let held = hold(Some(&episode), &rule, is_pooled, minute, 90).unwrap();
            assert_eq!(held.counted, 20);
            held.seen
        };
        let day = 24 * 60;
        assert_eq!(seen(Metric::Tokens, false, 0), 90);
        assert_eq!(seen(Metric::CostPerRequest, false, day - 1), 20);
        assert_eq!(seen(Metric::CostPerRequest, false, day), 90);
        assert_eq!(seen(Metric::Cost, true, 3 * day), 20);
        assert_eq!(seen(Metric::CacheMiss, false, 3 * day), 20);
    }
}
