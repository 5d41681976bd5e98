//! Records and ticks in, notices out: where windows, cache, rules and alerts meet.
//!
//! A record is evaluated the moment it is observed. What needs no record (decay, `for`, resolving, repeats) happens at ticks,
//! which are whole seconds of event time; seconds at which nothing can change are skipped, so idle hours cost nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use super::alert::{Episode, Notice, Phase, Reading, Reason};
use super::baseline::{Amount, Baseline, UNIT, Usual};
use super::cache::{CacheTracker, Miss, Outcome};
use super::dedupe::{Dedupe, Growth, Sighting};
use super::metric::{Metric, Value};
use super::record::{Labels, Stamp, Time, UsageRecord};
use super::rule::{Limit, Rule};
use super::scope::{Key, Scope, shares};
use super::totals::Totals;
use super::window::{Sums, Window, signed};
use crate::price::PicoUsd;

/// A key that has not read the cache for this long does not use it.
const READ_MEMORY_MS: i64 = 7 * 24 * 3_600_000;

/// Fewer requests than this that missed the cache are no pattern, however large their share.
const MIN_AFFECTED: i64 = 3;

/// An alert is explained by others if they account for so many hundredths of what is over its limit.
const EXPLAINED_PERCENT: i128 = 80;

/// How the evaluator is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The rules in force; those switched off are left out.
    pub rules: Vec<Rule>,
    /// Records older than engine time by more than this are late, in seconds.
    pub lateness_secs: i64,
    /// At most so many responses are remembered for seven days; `None` remembers all.
    pub max_responses: Option<usize>,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// It is new.
    New,
    /// It was counted before.
    Copy,
    /// It was counted before with less output.
    Grown,
}

/// A rule that has not yet seen enough to speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learning {
    /// The rule.
    pub rule: Arc<str>,
    /// Minutes with traffic seen so far.
    pub minutes: u64,
}

/// Turns records and ticks into notices.
#[derive(Debug)]
pub struct Evaluator {
    scopes: Vec<Scope>,
    state: State,
}

/// All that scopes share.
#[derive(Debug)]
struct State {
    now: Time,
    lateness_ms: i64,
    live: bool,
    dedupe: Dedupe,
    cache: CacheTracker,
    totals: Totals,
    pace: Pace,
    timers: BinaryHeap<Reverse<(i64, usize, u64)>>,
    notices: Vec<Notice>,
}

/// What a minute of the whole stream usually costs, so that an episode can be told from ordinary spending.
#[derive(Debug)]
struct Pace {
    window: Window,
    minutes: VecDeque<i64>,
    baseline: Baseline,
    /// The last minute in which an alert was on.
    disturbed: i64,
}

/// Waste of a record that an alert has spoken for, passed on to the scopes that come after.
#[derive(Debug, Clone, Copy, Default)]
struct Spoken {
    by_run: PicoUsd,
    by_window: PicoUsd,
}

/// A record on its way through the scopes.
struct Arrival<'a> {
    record: &'a UsageRecord,
    at: Time,
    /// A miss that could have been avoided.
    miss: Option<&'a Miss>,
    /// Tokens that were not read from the cache, whatever the cause.
    unread: u64,
    spoken: Spoken,
}

impl Evaluator {
    /// An evaluator that has seen nothing and tells nothing until [`go_live`](Self::go_live).
    pub fn new(settings: Settings) -> Self {
        let mut rules: Vec<Arc<Rule>> = settings
            .rules
            .into_iter()
            .filter(|rule| rule.enabled)
            .map(Arc::new)
            .collect();
        // What explains comes before what is explained.
        rules.sort_by_key(|rule| rank(rule.metric));
        let cache_rules = rules.iter().filter(|rule| rule.metric.is_about_cache());
        let min_prompt = cache_rules
            .map(|rule| rule.min_prompt_tokens)
            .min()
            .unwrap_or(5000);
        let mut scopes: Vec<Scope> = Vec::new();
        for rule in rules {
            let at = scopes
                .iter()
                .position(|scope| scope.fits(&rule) && !is_run(scope) && !is_run_rule(&rule));
            let at = at.unwrap_or_else(|| {
                scopes.push(Scope::new(&rule));
                scopes.len() - 1
            });
            scopes[at].add_rule(rule);
        }
        Self {
            scopes,
            state: State {
                now: Time(i64::MIN / 2),
                lateness_ms: settings.lateness_secs * 1000,
                live: false,
                dedupe: Dedupe::new(settings.max_responses),
                cache: CacheTracker::new(min_prompt),
                totals: Totals::default(),
                pace: Pace {
                    window: Window::new(60, 420),
                    minutes: VecDeque::new(),
                    baseline: Baseline::default(),
                    disturbed: i64::MIN,
                },
                timers: BinaryHeap::new(),
                notices: Vec::new(),
            },
        }
    }

    /// Engine time: the largest record time or tick so far.
    pub fn now(&self) -> Time {
        self.state.now
    }

    /// The sums of the present span.
    pub fn totals(&self) -> &Totals {
        &self.state.totals
    }

    /// Ends the span and begins another at `from`; gives the sums of the old one.
    pub fn begin_span(&mut self, from: Option<Time>) -> Totals {
        std::mem::replace(&mut self.state.totals, Totals::since(from))
    }

    /// Counts a record that is older than the history asked for: it enters nothing else.
    pub fn count_old(&mut self) {
        self.state.totals.old += 1;
    }

    /// Takes the notices given since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.state.notices)
    }

    /// How many rules are in force.
    pub fn n_rules(&self) -> usize {
        self.scopes.iter().map(|scope| scope.rules.len()).sum()
    }

    /// Learned rules that have not seen enough for any key.
    pub fn learning(&self) -> Vec<Learning> {
        let mut learning = Vec::new();
        for scope in &self.scopes {
            for (slot, rule) in scope
                .rules
                .iter()
                .enumerate()
                .filter(|(_, r)| r.limit.is_learned())
            {
                let own = scope
                    .keys
                    .values()
                    .filter_map(|key| key.baselines.get(slot));
                let pooled = scope.pooled.as_ref().and_then(|pooled| pooled.get(slot));
                let most = own
                    .chain(pooled)
                    .map(|b| b.usual().samples)
                    .max()
                    .unwrap_or(0);
                if most < super::baseline::MIN_SAMPLES {
                    learning.push(Learning {
                        rule: Arc::clone(&rule.name),
                        minutes: most,
                    });
                }
            }
        }
        learning
    }

    /// Takes in a record: counts it once, moves the time on, and evaluates the rules that it touches.
    pub fn observe(&mut self, record: &UsageRecord) -> Counted {
        let sighting = self.state.dedupe.sight(record);
        match &sighting {
            Sighting::New => self.state.totals.count(record),
            Sighting::Copy => self.state.totals.count_copy(None),
            Sighting::Grown(growth) => self.state.totals.count_copy(Some(growth)),
        }
        let Stamp::At(at) = record.stamp else {
            return match sighting {
                Sighting::New => Counted::New,
                Sighting::Copy => Counted::Copy,
                Sighting::Grown(_) => Counted::Grown,
            };
        };
        match sighting {
            Sighting::New => {
                self.advance(at);
                self.observe_new(record, at);
                Counted::New
            }
            Sighting::Copy => {
                self.state.cache.observe_copy(record, at);
                Counted::Copy
            }
            Sighting::Grown(growth) => {
                self.state.cache.observe_copy(record, at);
                self.grow(&growth, record.batch);
                Counted::Grown
            }
        }
    }

    fn observe_new(&mut self, record: &UsageRecord, at: Time) {
        let state = &mut self.state;
        if at.0 < state.now.0 - state.lateness_ms && !record.batch {
            state.totals.late += 1;
        }
        state.now = state.now.max(at);
        if record.batch {
            return;
        }
        let outcome = state.cache.observe(record, at);
        let miss = match &outcome {
            Outcome::Miss(miss) => Some(miss),
            Outcome::Hit | Outcome::NotJudged => None,
        };
        if let Some(miss) = miss {
            state.totals.count_miss(miss);
        }
        state.pace.add(at, record.cost.unwrap_or_default());
        let unread = miss.map_or(0, |miss| miss.tokens);
        let miss = miss.filter(|miss| miss.cause.is_waste());
        let mut arrival = Arrival {
            record,
            at,
            miss,
            unread,
            spoken: Spoken::default(),
        };
        let mut held = false;
        for (index, scope) in self.scopes.iter_mut().enumerate() {
            if scope.filter.matches(&record.labels) {
                held |= state.arrive(index, scope, &mut arrival);
            }
        }
        if !held && !self.scopes.is_empty() {
            state.totals.too_late += 1;
        }
    }

    /// A larger copy adds its difference to the moment and the keys of the first.
    fn grow(&mut self, growth: &Growth, batch: bool) {
        let Some(first) = growth.first.filter(|_| !batch) else {
            return;
        };
        let sums = Sums {
            cost: growth.cost.unwrap_or_default(),
            fresh: signed(growth.tokens.fresh()),
            output: signed(growth.tokens.output),
            ..Sums::default()
        };
        let state = &mut self.state;
        state.pace.window.add(first.secs(), &sums);
        for (index, scope) in self.scopes.iter_mut().enumerate() {
            if !scope.filter.matches(&growth.labels) {
                continue;
            }
            let id = scope.key_of(&growth.labels);
            let Some(key) = scope.keys.get_mut(&id) else {
                continue;
            };
            key.advance(state.now);
            key.add(first.secs(), &sums);
            key.names.add(first, &growth.labels, sums.cost);
            for (alert, rule) in key.alerts.iter_mut().zip(&scope.rules) {
                if let Some(episode) = alert
                    .open_mut()
                    .filter(|e| !rule.metric.is_about_cache() && e.since <= first)
                {
                    episode.exposed += sums.cost;
                }
            }
            state.evaluate(index, scope, id, None);
        }
    }

    /// A Claude Code session was compacted: the next prompt of its conversations is expected to be new. `labels` are those of
    /// the boundary; its model is not known, so all models of the session are meant.
    pub fn compacted(&mut self, labels: &Labels) {
        let scopes = &self.scopes;
        let same = |other: &Labels| other.session == labels.session && other.agent == labels.agent;
        let known: std::collections::HashSet<u64> = scopes
            .iter()
            .flat_map(|scope| scope.keys.values())
            .filter(|key| same(&key.labels))
            .map(|key| key.labels.conversation)
            .collect();
        self.state
            .cache
            .compacted(|conversation| known.contains(&conversation));
    }

    /// Runs all ticks up to a moment. Time never goes back.
    pub fn advance(&mut self, to: Time) {
        while let Some(Reverse((second, index, id))) = self.state.timers.peek().copied() {
            if Time::from_secs(second) > to {
                break;
            }
            self.state.timers.pop();
            let scope = &mut self.scopes[index];
            match scope.keys.get_mut(&id) {
                Some(key) if key.scheduled == Some(second) => key.scheduled = None,
                _ => continue,
            }
            self.state.now = self.state.now.max(Time::from_secs(second));
            self.state.sample(scope, id);
            self.state.evaluate(index, scope, id, None);
            if scope.keys.get(&id).is_some_and(|key| scope.may_forget(key)) {
                scope.keys.remove(&id);
            }
        }
        let whole = Time::from_secs(to.secs());
        if self.state.now.0 > i64::MIN / 2 {
            self.state.now = self.state.now.max(whole);
        }
        self.state.pace.sample(self.state.now);
    }

    /// Ends the silence: from now on notices are given. What is firing at this moment is told as such.
    pub fn go_live(&mut self) {
        self.state.live = true;
        for index in 0..self.scopes.len() {
            let mut ids: Vec<u64> = self.scopes[index].keys.keys().copied().collect();
            ids.sort_unstable();
            for id in ids {
                self.state
                    .tell(&mut self.scopes[index], id, None, Some(Reason::StillFiring));
            }
        }
        self.state.notices.sort_by(|a, b| {
            (a.since, &a.rule.name, a.episode).cmp(&(b.since, &b.rule.name, b.episode))
        });
    }

    /// Gives no notices until [`go_live`](Self::go_live) is called again.
    pub fn mute(&mut self) {
        self.state.live = false;
    }

    /// Lists what is on and has been told, as the watch ends.
    pub fn stop(&mut self) {
        let first = self.state.notices.len();
        for scope in &mut self.scopes {
            let mut ids: Vec<u64> = scope.keys.keys().copied().collect();
            ids.sort_unstable();
            for id in ids {
                for slot in 0..scope.rules.len() {
                    let open = scope.keys[&id].alerts[slot]
                        .open()
                        .is_some_and(Episode::is_told_open);
                    if open && !scope.rules[slot].metric.is_announcement() {
                        let notice = self.state.notice(scope, id, slot, Reason::Stopped);
                        self.state.notices.push(notice);
                    }
                }
            }
        }
        self.state.notices[first..].sort_by(|a, b| {
            (a.since, &a.rule.name, a.episode).cmp(&(b.since, &b.rule.name, b.episode))
        });
    }
}

/// Scopes are evaluated in this order, so that what explains another alert is known before it.
fn rank(metric: Metric) -> u8 {
    match metric {
        Metric::MissRun => 0,
        Metric::CacheWaste => 1,
        Metric::CacheMiss => 2,
        Metric::Cost
        | Metric::Tokens
        | Metric::PromptTokens
        | Metric::OutputTokens
        | Metric::Requests => 3,
        Metric::Unpriced | Metric::NoCache => 4,
    }
}

fn is_run_rule(rule: &Rule) -> bool {
    rule.metric == Metric::MissRun
}

fn is_run(scope: &Scope) -> bool {
    scope.rules.iter().any(|rule| is_run_rule(rule))
}

impl Pace {
    fn add(&mut self, at: Time, cost: PicoUsd) {
        self.window.add(
            at.secs(),
            &Sums {
                cost,
                ..Sums::default()
            },
        );
        if self
            .minutes
            .back()
            .is_none_or(|minute| *minute < at.minute())
        {
            self.minutes.push_back(at.minute());
        }
    }

    fn sample(&mut self, now: Time) {
        while let Some(minute) = self.minutes.front().copied()
            && now.secs() >= minute * 60 + 59 + 300
        {
            self.minutes.pop_front();
            let sample = self.window.total_at(minute * 60 + 59).cost.0;
            if minute > self.disturbed {
                self.baseline.add(minute, sample);
            }
        }
    }
}

impl State {
    /// Takes a record into the windows of its key. False if no window holds its moment any more.
    fn arrive(&mut self, index: usize, scope: &mut Scope, arrival: &mut Arrival) -> bool {
        let Arrival {
            record,
            at,
            miss,
            unread,
            spoken,
        } = arrival;
        let id = scope.key_of(&record.labels);
        let (min_prompt, learns) = (scope.min_prompt_tokens, scope.learns);
        let key = scope.key_mut(id, &record.labels, *at);
        key.advance(self.now);
        let mut sums = key.sums_of(record, *at, *miss, min_prompt);
        sums.unread = signed(*unread);
        sums.waste_told_by_run = spoken.by_run;
        sums.waste_told_by_window = spoken.by_window;
        let held = key.add(at.secs(), &sums);
        key.note_arrival(record, *at, *miss);
        if learns {
            key.note_minute(at.minute());
        }
        // What an open alert has spoken for before this record; one that begins with it speaks for all that led to it.
        let told_before = spoken_for(scope, id);
        let Some(key) = scope.keys.get_mut(&id) else {
            return held;
        };
        for (alert, rule) in key.alerts.iter_mut().zip(&scope.rules) {
            if let Some(episode) = alert.open_mut() {
                accrue(episode, rule, record, *at, *miss, self.now);
            }
        }
        self.evaluate(index, scope, id, Some(&record.labels));
        if miss.is_some() {
            let told = spoken_for(scope, id);
            if let Some(cost) = told.by_run {
                spoken.by_run = cost - told_before.by_run.unwrap_or_default();
            } else if let Some(cost) = told.by_window
                && spoken.by_run == PicoUsd::ZERO
            {
                spoken.by_window = cost - told_before.by_window.unwrap_or_default();
            }
        }
        held
    }

    /// Samples the minutes that are due, for the rules that learn.
    fn sample(&mut self, scope: &mut Scope, id: u64) {
        let Some(key) = scope.keys.get_mut(&id) else {
            return;
        };
        key.advance(self.now);
        while key.next_sample().is_some_and(|due| due <= self.now.secs()) {
            let Some(minute) = key.minutes.pop_front() else {
                break;
            };
            for (slot, rule) in scope
                .rules
                .iter()
                .enumerate()
                .filter(|(_, r)| r.limit.is_learned())
            {
                let Some(sample) = key.sample(rule, minute) else {
                    continue;
                };
                let baseline = match &mut scope.pooled {
                    Some(pooled) => &mut pooled[slot],
                    None => &mut key.baselines[slot],
                };
                let alert = &key.alerts[slot];
                let minute_end = Time::from_secs(minute * 60 + 59);
                match alert
                    .episode
                    .as_deref()
                    .filter(|episode| episode.since <= minute_end)
                {
                    Some(episode) => {
                        let clipped = episode.usual.unwrap_or_default().clip(sample);
                        key.held.push((slot, minute, clipped));
                    }
                    None => baseline.add(minute, sample),
                }
            }
        }
        // Minutes of an episode enter the baseline once it can no longer reopen.
        let over = |slot: usize| key.alerts[slot].episode.is_none();
        let (ended, still): (Vec<_>, Vec<_>) =
            key.held.drain(..).partition(|(slot, ..)| over(*slot));
        key.held = still;
        for (slot, minute, sample) in ended {
            match &mut scope.pooled {
                Some(pooled) => pooled[slot].add(minute, sample),
                None => key.baselines[slot].add(minute, sample),
            }
        }
    }

    /// Reads all rules of a key, moves their alerts, and gives the notices that are due.
    fn evaluate(
        &mut self,
        index: usize,
        scope: &mut Scope,
        id: u64,
        arrived: Option<&Arc<Labels>>,
    ) {
        for slot in 0..scope.rules.len() {
            self.step(scope, id, slot, arrived);
        }
        self.tell(scope, id, arrived, None);
        let Some(key) = scope.keys.get_mut(&id) else {
            return;
        };
        if let Some(next) = key.next_change(&scope.rules, self.now.secs())
            && key.scheduled.is_none_or(|scheduled| next < scheduled)
        {
            key.scheduled = Some(next);
            self.timers.push(Reverse((next, index, id)));
        }
    }

    fn step(&mut self, scope: &mut Scope, id: u64, slot: usize, arrived: Option<&Arc<Labels>>) {
        let rule = Arc::clone(&scope.rules[slot]);
        let key_labels = |scope: &Scope, labels: &Labels| scope.key_labels(labels);
        let Some(key) = scope.keys.get_mut(&id) else {
            return;
        };
        key.advance(self.now);
        let pooled = scope.pooled.as_ref().and_then(|pooled| pooled.get(slot));
        let usual = pooled
            .or_else(|| key.baselines.get(slot))
            .map(Baseline::usual)
            .unwrap_or_default();
        let read = match rule.metric {
            Metric::MissRun => self.read_run(key, &rule, slot),
            Metric::Unpriced => read_unpriced(key, slot, arrived.is_some()),
            Metric::NoCache => read_no_cache(key, &rule, slot),
            _ => read_window(key, &rule, slot, usual, self.now),
        };
        let mut alert = std::mem::take(&mut key.alerts[slot]);
        let before = alert.phase;
        alert.step(self.now, read.reading, &rule, || {
            let key = &scope.keys[&id];
            let labels = arrived.unwrap_or(&key.labels);
            let mut episode = self.begin(key, &rule, &read, usual, labels);
            episode.id = episode_id(&rule, &key_labels(scope, &key.labels), episode.since);
            episode
        });
        if let Some(episode) = alert.open_mut().filter(|_| read.has_value) {
            episode.step = read.step;
            episode.last_value = self.now;
        }
        if alert.phase == Phase::Firing
            && before != Phase::Firing
            && rule.metric == Metric::MissRun
            && let Some(key) = scope.keys.get(&id)
        {
            self.cache.run_was_told(key.labels.conversation);
        }
        if matches!(alert.phase, Phase::Firing) && !rule.metric.is_announcement() {
            self.pace.disturbed = self.pace.disturbed.max(self.now.minute());
        }
        if let Some(key) = scope.keys.get_mut(&id) {
            key.alerts[slot] = alert;
        }
    }

    fn read_run(&mut self, key: &Key, rule: &Rule, slot: usize) -> Read {
        let conversation = key.labels.conversation;
        let open = key.alerts[slot].open();
        let run = self.cache.run(conversation);
        let (length, waste) = run.map_or((0, PicoUsd::ZERO), |run| (run.length, run.waste));
        let value = Value::count(length);
        let odds = self.cache.odds(self.now);
        let shortest = match rule.limit {
            Limit::ByChance { days } => odds.shortest_run(days),
            // Strictly above a number is from the next whole one on.
            Limit::Above(limit) => u32::try_from(limit / UNIT + 1).unwrap_or(u32::MAX),
            Limit::Below(_) | Limit::TimesUsual(_) | Limit::Once => u32::MAX,
        };
        let limit = open.map_or(i128::from(shortest) * UNIT, |episode| episode.limit);
        let idle_ms = self
            .cache
            .last_request(conversation)
            .map_or(0, |at| self.now.millis_since(at));
        let window = rule.windows.last().copied().unwrap_or(0);
        let reading = if open.is_some() && idle_ms >= 2 * window * 1000 {
            Reading::Stale
        } else if !value.is_below(limit) && waste >= rule.min_waste {
            Reading::Breach
        } else if value.is_clear_below(limit) {
            Reading::Clear
        } else {
            Reading::Between
        };
        let odds = matches!(rule.limit, Limit::ByChance { .. }).then_some((odds, length));
        Read {
            reading,
            has_value: true,
            limit,
            step: 0,
            odds,
        }
    }

    /// Makes the episode that begins with this reading.
    fn begin(
        &self,
        key: &Key,
        rule: &Rule,
        read: &Read,
        usual: Usual,
        labels: &Arc<Labels>,
    ) -> Episode {
        let mut episode = Episode::new(0, self.now, read.limit, Arc::clone(labels));
        episode.step = read.step;
        episode.last_evidence = self.now;
        episode.last_value = self.now;
        episode.usual = usual.is_learned().then_some(usual);
        episode.odds = read.odds;
        if rule.metric == Metric::MissRun {
            if let Some(run) = self.cache.run(key.labels.conversation) {
                episode.since = run.since;
                episode.before = run.before;
                episode.exposed = run.waste;
                episode.requests = i64::from(run.length);
            }
        } else if let Some(window) = rule
            .windows
            .get(read.step)
            .and_then(|secs| key.window(*secs))
        {
            let total = window.total();
            let wasteful = |sums: &Sums| sums.missed > 0;
            let first = if rule.metric.is_about_cache() {
                episode.exposed = total.waste;
                window.first_second(wasteful)
            } else {
                episode.exposed = total.cost;
                episode.requests = total.requests;
                window.first_second(|sums| sums.requests > 0)
            };
            episode.since = first.map_or(self.now, Time::from_secs);
            let minutes = self.now.minute() - episode.since.minute() + 1;
            episode.minutes = minutes;
            episode.last_minute = self.now.minute();
        }
        if rule.metric.is_about_cache() {
            let since = episode.since;
            for miss in key.misses.iter().filter(|miss| miss.at >= since) {
                episode.add_miss(miss);
            }
            if rule.metric != Metric::MissRun {
                episode.requests = episode
                    .causes
                    .iter()
                    .map(|tally| signed(tally.requests))
                    .sum();
            }
        }
        episode
    }

    /// Gives the notices that are due for a key. `instead` replaces the reason of a first notice.
    fn tell(
        &mut self,
        scope: &mut Scope,
        id: u64,
        arrived: Option<&Arc<Labels>>,
        instead: Option<Reason>,
    ) {
        if !self.live {
            return;
        }
        for slot in 0..scope.rules.len() {
            let Some(key) = scope.keys.get(&id) else {
                return;
            };
            let rule = Arc::clone(&scope.rules[slot]);
            let alert = &key.alerts[slot];
            let Some(episode) = alert.episode.as_deref() else {
                continue;
            };
            let told = episode.is_told();
            let inhibited = alert.phase == Phase::Firing && is_explained(key, &rule, episode);
            let exposed = self.exposed(&rule, episode).0;
            let due = alert.due(self.now, exposed, inhibited);
            if inhibited && !told {
                self.note_explained(&rule.name);
            }
            let Some(mut reason) = due else { continue };
            if rule.metric.is_announcement() && reason != Reason::First {
                continue;
            }
            if reason == Reason::First
                && let Some(instead) = instead
            {
                reason = instead;
            }
            if let Some(key) = scope.keys.get_mut(&id)
                && let Some(episode) = key.alerts[slot].episode.as_deref_mut()
            {
                if let Some(labels) = arrived {
                    episode.labels = Arc::clone(labels);
                }
                episode.was_told(reason, self.now, exposed);
            }
            if matches!(reason, Reason::First | Reason::StillFiring) {
                *self
                    .totals
                    .alerts_by_rule
                    .entry(Arc::clone(&rule.name))
                    .or_default() += 1;
            }
            let notice = self.notice(scope, id, slot, reason);
            self.notices.push(notice);
        }
    }

    /// Lists a rule that keeps quiet in the notices of this moment that explain it.
    fn note_explained(&mut self, rule: &Arc<str>) {
        let now = self.now;
        for notice in &mut self.notices {
            let explains = matches!(notice.rule.metric, Metric::MissRun | Metric::CacheWaste);
            if explains
                && notice.at == now
                && notice.rule.name != *rule
                && !notice.explains.contains(rule)
            {
                notice.explains.push(Arc::clone(rule));
            }
        }
    }

    /// What an episode has cost beyond what is usual, and whether nothing usual is known to take off.
    fn exposed(&self, rule: &Rule, episode: &Episode) -> (PicoUsd, bool) {
        if rule.metric.is_about_cache() {
            return (episode.exposed, false);
        }
        let usual = self.pace.baseline.usual();
        if !usual.is_learned() || !rule.by.is_empty() || !rule.filter.patterns.is_empty() {
            return (episode.exposed, true);
        }
        let ordinary = PicoUsd(usual.usual * i128::from(episode.minutes));
        ((episode.exposed - ordinary).max(PicoUsd::ZERO), false)
    }

    fn notice(&self, scope: &Scope, id: u64, slot: usize, reason: Reason) -> Notice {
        let key = &scope.keys[&id];
        let rule = &scope.rules[slot];
        let empty = Episode::new(0, self.now, 0, Arc::clone(&key.labels));
        let episode = key.alerts[slot].episode.as_deref().unwrap_or(&empty);
        let window = rule
            .windows
            .get(episode.step)
            .and_then(|secs| key.window(*secs));
        let value = match rule.metric {
            Metric::MissRun => {
                let run = self.cache.run(key.labels.conversation);
                Value::count(run.map_or(0, |run| run.length)).amount()
            }
            Metric::Unpriced | Metric::NoCache => {
                window.map_or(UNIT, |window| i128::from(window.total().large) * UNIT)
            }
            _ => window
                .and_then(|w| rule.metric.read(w.total(), w.secs(), rule.per_secs))
                .map_or(0, Value::amount),
        };
        let (exposed, exposed_is_all) = self.exposed(rule, episode);
        let [models, sessions] = if rule.metric.is_about_cache() {
            top_of_misses(key, episode.since)
        } else {
            key.names.top()
        };
        let mut causes = episode.causes.clone();
        causes.sort_by_key(|tally| Reverse((tally.cost, tally.requests)));
        Notice {
            reason,
            rule: Arc::clone(rule),
            key: scope.key_labels(&key.labels),
            episode: episode.id,
            at: self.now,
            since: episode.since,
            value,
            at_least: window.is_some_and(|window| window.total().unpriced > 0),
            limit: episode.limit,
            window_secs: window.map(Window::secs),
            requests: episode.requests,
            usual: episode.usual,
            exposed: (!rule.metric.is_announcement()).then_some(exposed),
            exposed_is_all,
            pace: self
                .pace_of(episode, window.map_or(0, Window::secs), exposed)
                .filter(|_| !rule.metric.is_announcement()),
            causes,
            odds: episode.odds,
            models,
            sessions,
            labels: Arc::clone(&episode.labels),
            explains: episode.explains.clone(),
            flapping: episode.is_flapping(),
            stale: episode.stale,
        }
    }

    /// Exposed dollars per hour: of a run since the last request before it, of a window over at least its whole length, so that
    /// a burst of seconds is not blown up to an hour.
    fn pace_of(&self, episode: &Episode, window_secs: i64, exposed: PicoUsd) -> Option<PicoUsd> {
        if episode.requests < 2 {
            return None;
        }
        let elapsed = match episode.before {
            Some(before) => self.now.millis_since(before),
            None => self.now.millis_since(episode.since).max(window_secs * 1000),
        };
        Some(PicoUsd(
            exposed.0 * 3_600_000 / i128::from(elapsed.max(1000)),
        ))
    }
}

/// A reading of a rule, with what a notice will say of it.
struct Read {
    reading: Reading,
    /// The deciding window has a value.
    has_value: bool,
    limit: Amount,
    step: usize,
    odds: Option<(super::cache::Odds, u32)>,
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
            step: 0,
            odds: None,
        }
    }
}

/// A model without a price is announced with its first record and stays so.
fn read_unpriced(key: &Key, slot: usize, arrived: bool) -> Read {
    let on = key.alerts[slot].phase == Phase::Firing;
    Read::announcement(on || (arrived && key.unpriced))
}

fn read_no_cache(key: &Key, rule: &Rule, slot: usize) -> Read {
    let on = key.alerts[slot].phase == Phase::Firing;
    let total = rule
        .windows
        .first()
        .and_then(|secs| key.window(*secs))
        .map(Window::total);
    let uncached = total.is_some_and(|sums| sums.cached == 0 && sums.large >= rule.min_requests);
    Read::announcement(on || uncached)
}

fn read_window(key: &Key, rule: &Rule, slot: usize, usual: Usual, now: Time) -> Read {
    let open = key.alerts[slot].open();
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
    let total = key
        .window(secs)
        .map(|window| *window.total())
        .unwrap_or_default();
    let limit = open
        .map(|episode| episode.limit)
        .or_else(|| rule.limit_now(usual, total.cost));
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
            step,
            odds: None,
        };
    };
    // A share says nothing if it is that of a single large prompt, or if most of it was in the nature of things: first prompts,
    // pauses, users that cannot be told apart.
    let unread = total.eligible_prompt - total.eligible_read;
    let avoidable = rule.metric != Metric::CacheMiss
        || (total.missed * 2 >= unread && total.affected >= MIN_AFFECTED);
    let enough_waste = total.waste >= rule.min_waste && avoidable;
    let little_waste = rule.min_waste > PicoUsd::ZERO && total.waste.0 * 5 < rule.min_waste.0 * 4;
    let (breach, clear) = match rule.limit {
        Limit::Below(_) => (value.is_below(limit), value.is_clear_above(limit)),
        _ => (
            value.is_above(limit) && enough_waste,
            value.is_clear_below(limit) || little_waste,
        ),
    };
    let reading = match (breach, clear) {
        (true, _) => Reading::Breach,
        (false, true) => Reading::Clear,
        (false, false) => Reading::Between,
    };
    Read {
        reading,
        has_value: true,
        limit,
        step,
        odds: None,
    }
}

/// Whether other alerts have spoken for so much of what is over the limit that this one has nothing to add.
fn is_explained(key: &Key, rule: &Rule, episode: &Episode) -> bool {
    let Some(window) = rule
        .windows
        .get(episode.step)
        .and_then(|secs| key.window(*secs))
    else {
        return false;
    };
    let total = window.total();
    let told = total.waste_told_by_run + total.waste_told_by_window;
    let mostly = |part: i128, whole: i128| part > 0 && part * 100 >= whole * EXPLAINED_PERCENT;
    // Over the limit, in the unit of the window's sum.
    let scale = i128::from(window.secs());
    let per = i128::from(rule.per_secs.unwrap_or(window.secs()));
    let excess = |sum: i128| sum - episode.limit * scale / per;
    match rule.metric {
        Metric::CacheWaste => mostly(total.waste_told_by_run.0, total.waste.0),
        Metric::CacheMiss => mostly(told.0, total.waste.0),
        Metric::Cost => mostly(told.0, excess(total.cost.0)),
        // Tokens that the cache did not give are for the rules about the cache to judge.
        Metric::Tokens => mostly(
            i128::from(total.unread) * UNIT,
            excess(i128::from(total.fresh) * UNIT),
        ),
        Metric::MissRun
        | Metric::PromptTokens
        | Metric::OutputTokens
        | Metric::Requests
        | Metric::Unpriced
        | Metric::NoCache => false,
    }
}

/// Dollars that the open alerts of a key have spoken for so far, by kind of rule.
#[derive(Default)]
struct SpokenFor {
    by_run: Option<PicoUsd>,
    by_window: Option<PicoUsd>,
}

fn spoken_for(scope: &Scope, id: u64) -> SpokenFor {
    let mut spoken = SpokenFor::default();
    let Some(key) = scope.keys.get(&id).filter(|_| scope.explains) else {
        return spoken;
    };
    for (alert, rule) in key.alerts.iter().zip(&scope.rules) {
        let said = alert.open().map(|episode| episode.exposed);
        match rule.metric {
            Metric::MissRun => spoken.by_run = said,
            Metric::CacheWaste => spoken.by_window = said,
            _ => {}
        }
    }
    spoken
}

/// Adds a record to an episode that is on.
fn accrue(
    episode: &mut Episode,
    rule: &Rule,
    record: &UsageRecord,
    at: Time,
    miss: Option<&Miss>,
    now: Time,
) {
    if rule.metric.is_about_cache() {
        if let Some(miss) = miss {
            episode.exposed += miss.cost;
            episode.requests += 1;
            episode.last_evidence = now;
            episode.add_miss(miss);
        }
    } else {
        episode.exposed += record.cost.unwrap_or_default();
        episode.requests += 1;
        episode.last_evidence = now;
        episode.note_minute(at);
    }
}

/// Models and sessions by their share of the waste.
fn top_of_misses(key: &Key, since: Time) -> [Vec<(Arc<str>, u8)>; 2] {
    let mut weights = [Vec::<(Arc<str>, i128)>::new(), Vec::new()];
    for miss in key.misses.iter().filter(|miss| miss.at >= since) {
        let names = [Some(&miss.labels.model), miss.labels.session.as_ref()];
        for (weights, name) in weights.iter_mut().zip(names) {
            let Some(name) = name else { continue };
            match weights.iter_mut().find(|(known, _)| known == name) {
                Some((_, weight)) => *weight += miss.cost.0,
                None => weights.push((Arc::clone(name), miss.cost.0)),
            }
        }
    }
    weights.map(shares)
}

impl Key {
    fn sums_of(
        &self,
        record: &UsageRecord,
        at: Time,
        miss: Option<&Miss>,
        min_prompt: u64,
    ) -> Sums {
        let tokens = &record.tokens;
        let mut sums = Sums::of(&record.all_tokens(), record.cost);
        sums.prompt = signed(record.all_tokens().prompt());
        if tokens.prompt() >= min_prompt {
            sums.large = 1;
            sums.cached = i64::from(tokens.cache_read > 0 || tokens.cache_write() > 0);
            let uses_cache = self
                .last_read
                .is_some_and(|read| at.millis_since(read) <= READ_MEMORY_MS);
            if uses_cache {
                sums.eligible = 1;
                sums.eligible_prompt = signed(tokens.prompt());
                sums.eligible_read = signed(tokens.cache_read);
            }
        }
        if let Some(miss) = miss {
            sums.waste = miss.cost;
            sums.affected = 1;
            sums.missed = signed(miss.tokens);
        }
        sums
    }

    fn note_arrival(&mut self, record: &UsageRecord, at: Time, miss: Option<&Miss>) {
        if record.tokens.cache_read > 0 {
            self.last_read = Some(self.last_read.map_or(at, |read| read.max(at)));
        }
        self.last_record = self.last_record.max(at);
        self.unpriced = record.cost.is_none();
        self.names
            .add(at, &record.labels, record.cost.unwrap_or_default());
        if let Some(miss) = miss {
            self.note_miss(miss);
        }
    }
}

/// The identity of an episode: the same in every run over the same log.
fn episode_id(rule: &Rule, key: &[(super::rule::Label, String)], since: Time) -> u64 {
    let mut text = format!("{}\n{}\n", rule.name, since.0);
    for (label, value) in key {
        text.push_str(label.name());
        text.push('=');
        text.push_str(value);
        text.push('\n');
    }
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}
