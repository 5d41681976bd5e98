//! Rules that look at the same records under the same keys, and which keys there are.
//!
//! Knows what its rules ask for. What one key has seen is that key's business; what other scopes or the cache know is handed in by the
//! evaluator.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::alert::{Alert, Phase};
use super::cache::is_of_several;
use super::key::{Key, SAMPLE_DELAY_SECS, SAMPLED_MINUTES, sampled_at};
use super::metric::Metric;
use super::quick::Quick;
use super::reading::{may_be_explained, never_comes_by_itself, waste_without_effect};
use super::record::{Labels, Time};
use super::rule::{Filter, Label, Limit, Rule};
use super::usual::Baseline;
use super::who::{Makeup, Past, is_of_makeup};
use super::window::{BUCKETS, Window, Windows};
use crate::price::PicoUsd;

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
    /// The rule that tellers judge, each for itself, if it is about the whole stream; the alerts of keys are not those of this rule.
    pub(super) own: Option<usize>,
    /// Lengths of the windows of those that they judge.
    own_secs: BTreeSet<i64>,
    /// Each by itself: many come and go, and a table of them has far more room than it holds.
    pub(super) keys: FxHashMap<u64, Box<Key>>,
    max_keys: usize,
    /// What the keys saw that had to make room: sums stay whole, though nothing is judged by them.
    pub(super) other: Option<Windows>,
    /// Baselines of each rule over all keys, where a single key is too short-lived to learn from.
    pub(super) pooled: Option<Vec<Baseline>>,
    /// When it is soon enough to look at a key again.
    pub(super) soon: Soon,
    /// One of its rules learns what is usual.
    pub(super) learns: bool,
    /// One of its alerts may explain others.
    pub(super) explains: bool,
    /// The longest window of those of its rules that waste may explain.
    pub(super) explained_secs: Option<i64>,
    /// Whether one of its rules fires depends on how often the cache misses by chance.
    pub(super) asks_for_odds: bool,
    /// One of its rules tells who has fallen silent: who was seen last in a key.
    pub(super) keeps_last: bool,
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
    /// Tellers judge one of the rules. A look at that is none at the others.
    is_beside_own: bool,
}

impl Soon {
    /// The key will be looked at before a plain response that has just come could change anything by growing old; what was there
    /// before is seen to.
    #[inline]
    pub(super) fn sees_to(self, key: &Key, now: i64) -> bool {
        let scheduled = if self.is_beside_own {
            Some(key.others_until)
        } else {
            key.scheduled
        };
        let Some(second) = scheduled else {
            return self.of_waste.is_some_and(|most| key.waste() <= most);
        };
        let is_before_sample = || second <= sampled_at(now.div_euclid(60));
        second > now
            && (key.is_still || second <= now.saturating_add(self.secs))
            && (!self.is_sampled || is_before_sample())
    }

    /// The same for rules that tellers judge, as far as they have to look because of what leaves their windows.
    #[inline]
    pub(super) fn sees_to_own(self, key: &Key, now: i64) -> bool {
        let scheduled = key.scheduled.filter(|second| *second > now);
        scheduled.is_some_and(|second| second <= now.saturating_add(self.secs))
    }
}

/// Rules that are asked whether they stay quiet.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) rules: Vec<Arc<Rule>>,
    /// What each of them needs at least.
    pub(super) quick: Vec<Quick>,
    /// Those that are about a mean.
    pub(super) means: Vec<usize>,
    /// The others, as far as they may come to fire though nothing comes.
    pub(super) by_themselves: Vec<usize>,
    /// The one that tellers judge.
    pub(super) own: Option<usize>,
}

impl Asked {
    /// The rule is about a mean that has a room.
    pub(super) fn is_mean(&self, slot: usize) -> bool {
        self.means.contains(&slot)
    }
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
            other: None,
            pooled: pooled.then(Vec::new),
            soon: Soon::default(),
            learns: false,
            explains: false,
            explained_secs: None,
            asks_for_odds: false,
            keeps_last: false,
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
        let has_windows = matches!(rule.metric, Metric::NoCache | Metric::CacheLeak);
        if rule.metric.is_windowed() || has_windows {
            self.add_windows(&rule.windows);
        }
        if let Some(pooled) = &mut self.pooled {
            pooled.push(rule.baseline());
        }
        self.learns |= rule.limit.learns();
        self.explains |= matches!(rule.metric, Metric::MissRun | Metric::CacheWaste);
        self.asks_for_odds |= matches!(rule.metric, Metric::CacheMiss | Metric::CacheWaste);
        if may_be_explained(rule.metric) {
            self.explained_secs = self.explained_secs.max(rule.windows.iter().max().copied());
        }
        self.keeps_last |= rule.metric == Metric::Silence;
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
        self.own = Some(slot).filter(|_| self.by.is_empty());
        self.asked.own = Some(slot);
        for rule in rules {
            self.add_windows(&rule.windows);
            self.own_secs.extend(&rule.windows);
            self.learns |= rule.limit.learns();
        }
        self.work_out();
    }

    /// Tellers judge one of its rules, each for itself, for each key.
    pub(super) fn is_own_by_key(&self) -> bool {
        self.own.is_none() && self.asked.own.is_some()
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
                && !never_comes_by_itself(&self.asked.rules[*slot])
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
        let is_of_waste = self.asked.own.is_none() && rules.iter().all(is_of_waste);
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
            is_beside_own: self.asked.own.is_some(),
        };
    }

    /// What the responses of a key, or of its like, were made of before a moment, if the rule is about that and enough is known.
    pub(super) fn before(&self, id: u64, rule: &Rule, moment: Time) -> Option<Makeup> {
        let key = self.keys.get(&id).filter(|_| is_of_makeup(rule.metric))?;
        let past = match self.pooled {
            Some(_) => Some(&self.past),
            None => key.past.as_deref(),
        };
        past?.before(moment)
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

    /// Sees to it that there is a key. `has_on` tells of which of them tellers have something on.
    pub(super) fn open_key(
        &mut self,
        id: u64,
        labels: &Arc<Labels>,
        at: Time,
        has_on: impl Fn(u64) -> bool,
    ) {
        if self.keys.contains_key(&id) {
            return;
        }
        if self.keys.len() >= self.max_keys {
            self.make_room(has_on);
        }
        let minutes = if self.learns { SAMPLED_MINUTES } else { 0 };
        let windows = Windows::new(self.window_secs.iter().copied(), minutes);
        let own = self.rules.iter().filter(|_| self.pooled.is_none());
        let own = own.map(|rule| rule.baseline());
        let key = Key::new(labels, windows, self.rules.len(), own.collect(), at);
        self.keys.insert(id, Box::new(key));
    }

    /// Adds the least recent tenth of the keys to the others, but for those that have something on. What was announced of one is
    /// announced again if it comes back behind so many others.
    fn make_room(&mut self, has_on: impl Fn(u64) -> bool) {
        let (rules, own_by_key) = (&self.rules, self.is_own_by_key());
        let idle = |id: u64, key: &Key| {
            let mut alerts = key.alerts.iter().zip(rules);
            let is_idle = alerts.all(|(alert, rule)| {
                alert.phase == Phase::Inactive || rule.metric.is_announcement()
            });
            is_idle && !(own_by_key && has_on(id))
        };
        let times = self.keys.values().map(|key| key.last_record);
        let Some(mut cut) = tenth(times.collect()) else {
            return;
        };
        let mut old = self.keys.iter().filter(|(_, key)| key.last_record <= cut);
        if !old.any(|(id, key)| idle(*id, key)) {
            let idle = self.keys.iter().filter(|(id, key)| idle(**id, key));
            match tenth(idle.map(|(_, key)| key.last_record).collect()) {
                Some(of_idle) => cut = of_idle,
                None => return,
            }
        }
        let secs = self.window_secs.iter().copied();
        let other = self.other.get_or_insert_with(|| Windows::new(secs, 0));
        for (_, key) in self
            .keys
            .extract_if(|id, key| key.last_record <= cut && idle(*id, key))
        {
            other.absorb(&key.windows);
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

/// The time that a tenth of these are not later than.
fn tenth(mut times: Vec<Time>) -> Option<Time> {
    let nth = times.len() / 10;
    (!times.is_empty()).then(|| *times.select_nth_unstable(nth).1)
}

#[cfg(test)]
mod tests {
    use super::super::window::{Summed, Sums};
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
        let mut whole = Windows::new([3600], 0);
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
            scope.open_key(id, &labels, Time::from_secs(n), |_| false);
            scope.keys.get_mut(&id).unwrap().windows.add(n, &sums);
            whole.add(n, &sums);
        }
        assert!(scope.keys.len() <= 100 && scope.other.is_some());
        let mut sum = Sums::default();
        let keys = scope.keys.values_mut().map(|key| &mut key.windows);
        for windows in keys.chain(&mut scope.other) {
            windows.advance(4_999);
            sum.add(&windows.at(0).total());
        }
        assert_eq!(sum, whole.at(0).total());
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
            scope.open_key(id, &labels, Time::from_secs(n), |_| false);
            scope.keys.get_mut(&id).unwrap().alerts[0].phase = Phase::Firing;
            assert!(scope.keys.len() <= 100 && scope.keys.contains_key(&id));
        }
    }

    /// Of a hundred the oldest tenth makes room, unless something is on; where all of that is on, the oldest others do.
    #[test]
    fn what_is_on_stays_and_the_oldest_others_make_room() {
        let rule = Arc::new(Rule {
            metric: Metric::Cost,
            by: vec![Label::Session],
            ..Rule::blank()
        });
        let left = |on: std::ops::Range<i64>| {
            let mut scope = Scope::new(&rule, 100);
            scope.add_rule(Arc::clone(&rule));
            let mut ids = Vec::new();
            for n in 0..=100 {
                let labels = Labels {
                    session: Some(format!("s{n}").into()),
                    ..Labels::default()
                };
                let labels = Arc::new(labels.with_hashes());
                let id = scope.key_of(&labels);
                scope.open_key(id, &labels, Time::from_secs(n), |_| false);
                if on.contains(&n) {
                    scope.keys.get_mut(&id).unwrap().alerts[0].phase = Phase::Firing;
                }
                ids.push(id);
            }
            let gone = |n: &i64| !scope.keys.contains_key(&ids[usize::try_from(*n).unwrap()]);
            (0..=100).filter(gone).collect::<Vec<_>>()
        };
        assert_eq!(left(0..0), (0..=10).collect::<Vec<_>>());
        assert_eq!(left(3..8), [0, 1, 2, 8, 9, 10]);
        assert_eq!(left(0..20), (20..=28).collect::<Vec<_>>());
        assert_eq!(left(0..100), [] as [i64; 0]);
    }
}
