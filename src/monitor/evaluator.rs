//! Records and ticks in, notices out: where windows, cache, rules and alerts meet.
//!
//! A record is evaluated the moment it is observed. What needs no record (decay, `for`, resolving, repeats) happens at ticks,
//! which are whole seconds of event time; seconds at which nothing can change are skipped, so idle hours cost nothing.

use std::collections::BinaryHeap;
use std::sync::Arc;

use super::alert::Notice;
use super::arrival::{Arrival, Came, Spoken};
use super::blind::{Blind, BlindSpot};
use super::budget::{Budget, Moment, Spending, Spent};
use super::cache::{CacheTracker, Elsewhere, Lifetimes, Outcome};
use super::calendar::Calendar;
use super::dedupe::{Dedupe, Growth, Sighting};
use super::key::Key;
use super::metric::Metric;
use super::reconcile::{Change, Ledger};
use super::record::{Compaction, ErrorRecord, Labels, RunReport, Stamp, Time, UsageRecord};
use super::rule::Rule;
use super::scope::Scope;
use super::settings::Watches;
use super::state::{Pace, State};
use super::step::grow;
use super::tell::{Place, Reason, Teller};
use super::totals::{GroupBy, Totals};
use super::who::Portions;
use super::window::{Sums, signed};
use crate::price::PicoUsd;

/// How the evaluator is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The rules in force; those switched off are left out.
    pub rules: Vec<Rule>,
    /// Records older than engine time by more than this are late, in seconds.
    pub lateness_secs: i64,
    /// At most so many responses are remembered for seven days; `None` remembers all.
    pub max_responses: Option<usize>,
    /// Each rule knows at most so many keys at once.
    pub max_keys: usize,
    /// What sums are also given by.
    pub group_by: Option<GroupBy>,
    /// Where the periods of budgets begin and end.
    pub calendar: Arc<dyn Calendar>,
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

/// Turns records and ticks into notices.
#[derive(Debug, Clone)]
pub struct Evaluator {
    pub(super) scopes: Vec<Scope>,
    blind_rule: Option<Arc<Rule>>,
    pub(super) budgets: Vec<Budget>,
    pub(super) calendar: Arc<dyn Calendar>,
    pub(super) state: State,
    /// One, unless several settings of a rule share all the rest.
    pub(super) tellers: Vec<Teller>,
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
        // It has no window and no key: what it says is said from outside.
        let is_blind = |rule: &mut Arc<Rule>| rule.metric == Metric::Blind;
        let blind_rule = rules.extract_if(.., is_blind).next();
        let budgets: Vec<Budget> = rules.iter().filter_map(Budget::of).collect();
        rules.retain(|rule| rule.metric != Metric::Budget);

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
                scopes.push(Scope::new(&rule, settings.max_keys));
                scopes.len() - 1
            });
            scopes[at].add_rule(rule);
        }
        Self {
            scopes,
            blind_rule,
            calendar: settings.calendar,
            state: State {
                spending: budgets.iter().map(|_| Spending::default()).collect(),
                first: None,
                now: Time(i64::MIN / 2),
                lateness_ms: settings.lateness_secs * 1000,
                last_waste: (PicoUsd::ZERO, 0),
                live: false,
                resuming: false,
                dedupe: Dedupe::new(settings.max_responses),
                ledger: Ledger::new(settings.max_responses.map(|_| MAX_RUNS)),
                cache: CacheTracker::new(min_prompt),
                totals: Totals::since(None, settings.group_by),
                pace: Pace::new(),
                timers: BinaryHeap::new(),
                blind: Blind::default(),
                released: None,
                variants: None,
                due: Vec::new(),
                watches: Watches::default(),
                is_brief: false,
                last_change: None,
                clocks: None,
                event: 0,
            },
            budgets,
            tellers: vec![Teller::default()],
        }
    }

    /// From now on it adds up neither the sums of the span nor whom the responses were of: its notices say what, when and how much,
    /// but not who was behind it nor what changed. What runs have reported [it is told](Self::observe_change). It takes an evaluator
    /// that has seen nothing.
    pub fn be_brief(&mut self) {
        self.state.is_brief = true;
        for scope in &mut self.scopes {
            scope.keeps_past = false;
        }
    }

    /// The rules that look at windows or conversations, as they are in force.
    pub fn scoped_rules(&self) -> impl Iterator<Item = Arc<Rule>> + '_ {
        self.scopes
            .iter()
            .flat_map(|scope| scope.rules.iter().cloned())
    }

    /// Tells what is due of all keys.
    pub(super) fn tell_all(&mut self, instead: Option<Reason>) {
        let has_episode = |key: &Key| key.alerts.iter().any(|alert| alert.episode.is_some());
        for (index, scope) in self.scopes.iter_mut().enumerate() {
            let keys = scope.keys.iter();
            let keys = keys.filter(|(_, key)| scope.asked.own.is_some() || has_episode(key));
            let mut ids: Vec<u64> = keys.map(|(id, _)| *id).collect();
            ids.sort_unstable();
            for id in ids {
                for teller in &mut self.tellers {
                    teller.tell(&mut self.state, index, scope, id, None, instead);
                }
            }
        }
        self.forget_next();
    }

    /// What was worked out ahead for rules that tellers judge no longer holds.
    pub(super) fn forget_next(&mut self) {
        for teller in &mut self.tellers {
            teller.forget_next();
        }
        if self.is_shared() {
            self.state.watches.forget(self.tellers.len());
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
        let state = &mut self.state;
        state.ledger.begin_span();
        let fresh = Totals {
            forgotten: state.dedupe.forgotten(),
            reused_id: state.dedupe.has_reused_id(),
            ..Totals::since(from, state.totals.group_by)
        };
        std::mem::replace(&mut state.totals, fresh)
    }

    /// Counts a record that is older than the history asked for: it enters nothing else.
    pub fn count_old(&mut self) {
        self.state.totals.old += 1;
    }

    /// Takes the notices given since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        let notices = self.tellers.first_mut().map(|teller| &mut teller.notices);
        notices.map(std::mem::take).unwrap_or_default()
    }

    /// There are notices to be taken.
    pub fn has_notices(&self) -> bool {
        let mut tellers = self.tellers.iter();
        tellers.any(|teller| !teller.notices.is_empty())
    }

    /// Some keys had to be added up as one, for want of room.
    pub fn is_folding(&self) -> bool {
        self.scopes.iter().any(|scope| scope.other.is_some())
    }

    /// How many rules are in force.
    pub fn n_rules(&self) -> usize {
        let windowed: usize = self.scopes.iter().map(|scope| scope.rules.len()).sum();
        windowed + self.budgets.len() + usize::from(self.blind_rule.is_some())
    }

    /// Takes in a record: counts it once, moves the time on, and evaluates the rules that it touches.
    pub fn observe(&mut self, record: &UsageRecord) -> Counted {
        match self.state.dedupe.sight(record) {
            Sighting::New => {
                self.observe_new(record);
                Counted::New
            }
            Sighting::Copy => {
                self.observe_copy(record);
                Counted::Copy
            }
            Sighting::Grown(growth) => {
                self.observe_grown(record, &growth);
                Counted::Grown
            }
        }
    }

    /// What tells new responses from copies.
    pub const fn dedupe(&mut self) -> &mut Dedupe {
        &mut self.state.dedupe
    }

    /// Lends it to somebody who tells them apart before they come here.
    pub fn lend_dedupe(&mut self) -> Dedupe {
        std::mem::replace(&mut self.state.dedupe, Dedupe::new(None))
    }

    /// Takes it back, when all was told apart.
    pub fn take_dedupe_back(&mut self, dedupe: Dedupe) {
        self.state.dedupe = dedupe;
        self.state.note_forgotten();
    }

    /// What the last new response paid again that could have been avoided, and the tokens that this was paid for.
    pub fn last_waste(&self) -> (PicoUsd, u64) {
        self.state.last_waste
    }

    /// What the last event changed of what runs have reported, for [those that do not keep account](Self::be_brief).
    pub fn take_change(&mut self) -> Option<Change> {
        self.state.last_change.take()
    }

    /// Takes in what an event changed of what runs have reported, before that event.
    pub fn observe_change(&mut self, change: &Change) {
        self.spend_residuals(change);
    }

    /// Takes in a record that is no copy. As many evaluators of one log need only one to tell them apart, somebody else may have.
    pub fn observe_new(&mut self, record: &UsageRecord) {
        let state = &mut self.state;
        state.last_waste = (PicoUsd::ZERO, 0);
        if !state.is_brief {
            state.totals.count(record);
            let change = state.ledger.count(record);
            self.reconcile(change);
        }
        self.state.note_forgotten();
        let Stamp::At(at) = record.stamp else {
            return;
        };
        self.advance(at);
        self.judge(record, at);
        self.spend(&Spent {
            at,
            cost: record.cost,
            labels: &record.labels,
            is_new: true,
        });
    }

    /// Takes in a copy of a record that was counted, which adds nothing.
    pub fn observe_copy(&mut self, record: &UsageRecord) {
        let state = &mut self.state;
        state.last_waste = (PicoUsd::ZERO, 0);
        if !state.is_brief {
            state.totals.count_copy(None);
        }
        state.note_forgotten();
        if let Stamp::At(at) = record.stamp {
            state.cache.observe_copy(record, at);
        }
    }

    /// Takes in what a copy adds to a record that was counted.
    pub fn observe_grown(&mut self, record: &UsageRecord, growth: &Growth) {
        let state = &mut self.state;
        state.last_waste = (PicoUsd::ZERO, 0);
        // What a report had taken off is given back before the response itself is.
        if !state.is_brief {
            let given_back = state.ledger.grow(growth);
            self.reconcile(given_back);
            self.state.totals.count_copy(Some(growth));
        }
        let state = &mut self.state;
        state.note_forgotten();
        let Stamp::At(at) = record.stamp else {
            return;
        };
        state.cache.observe_copy(record, at);
        self.grow(growth, record.batch);
        if let Some(first) = growth.first {
            self.spend(&Spent {
                at: first,
                cost: growth.cost,
                labels: &growth.labels,
                is_new: false,
            });
        }
    }

    /// Counts what a record costs in the budgets, and says what follows.
    fn spend(&mut self, spent: &Spent<'_>) {
        let state = &mut self.state;
        state.first = Some(state.first.map_or(spent.at, |first| first.min(spent.at)));
        for (budget, spending) in self.budgets.iter().zip(&mut state.spending) {
            let moment = moment(state.now, state.first, state.live, &*self.calendar);
            for notice in budget.count(spending, spent, &moment) {
                count_first(&mut state.totals, &notice);
                give(&mut self.tellers, &notice, state.live);
            }
        }
    }

    /// What a run says that it used beyond what was counted is spent now, and what no longer holds is given back.
    fn spend_residuals(&mut self, change: &Change) {
        let at = self.state.now;
        let added = change.added.iter().map(|residual| (residual, 1));
        let withdrawn = change.withdrawn.iter().map(|residual| (residual, -1));
        for (residual, sign) in withdrawn.chain(added) {
            self.spend(&Spent {
                at,
                cost: residual.cost.map(|cost| PicoUsd(cost.0 * sign)),
                labels: &residual.labels,
                is_new: false,
            });
        }
    }

    /// Ends the periods of budgets that are over.
    pub(super) fn end_periods(&mut self) {
        let state = &mut self.state;
        for (budget, spending) in self.budgets.iter().zip(&mut state.spending) {
            let moment = moment(state.now, state.first, state.live, &*self.calendar);
            for notice in budget.advance(spending, &moment) {
                give(&mut self.tellers, &notice, state.live);
            }
        }
    }

    /// Evaluates the rules that a new record touches.
    fn judge(&mut self, record: &UsageRecord, at: Time) {
        let state = &mut self.state;
        if at.0 < state.now.0 - state.lateness_ms && !record.batch {
            state.totals.late += 1;
        }
        state.event += 1;
        state.now = state.now.max(at);
        if record.batch {
            return;
        }
        let outcome = state.cache.observe(record, at);
        let miss = match &outcome {
            Outcome::Miss(miss) => Some(miss),
            Outcome::Doubtful(miss) => {
                state.totals.count_doubtful(miss);
                None
            }
            Outcome::Hit | Outcome::NotJudged => None,
        };
        if let Some(miss) = miss {
            state.totals.count_miss(miss);
        }
        if !state.is_brief
            && let Some(gain) = Lifetimes::of(record, miss, state.cache.before())
        {
            state.totals.count_lifetimes(record, at, gain);
        }
        state.pace.add(at, record.cost.unwrap_or_default());
        let unread = miss.map_or(0, |miss| miss.tokens);
        let miss = miss.filter(|miss| miss.cause.is_waste());
        state.last_waste = miss.map_or((PicoUsd::ZERO, 0), |miss| (miss.cost, miss.tokens));
        let mut arrival = Arrival {
            record,
            labels: &record.labels,
            at,
            miss,
            late: &[],
            sums: Sums::of_record(record, miss, unread),
            portions: (!state.is_brief)
                .then(|| Portions::of_record(record))
                .flatten(),
            spoken: Spoken::default(),
        };
        let late = state.cache.take_late();
        for miss in &late {
            state.totals.count_miss(miss);
        }
        let elsewhere = state.cache.take_elsewhere();
        let mut held = true;
        for (index, scope) in self.scopes.iter_mut().enumerate() {
            if !scope.filter.matches(&record.labels) {
                continue;
            }
            if elsewhere.is_none() && late.is_empty() || !is_run(scope) {
                held &= state.arrive(index, scope, &mut arrival, &mut self.tellers);
                continue;
            }
            arrival.late = &late;
            let place = elsewhere.as_ref();
            if let Some(Elsewhere { labels, .. }) = place {
                arrival.labels = labels;
                held &= state.arrive(index, scope, &mut arrival, &mut self.tellers);
                arrival.labels = &record.labels;
            }
            if place.is_none_or(|place| place.also_own) {
                held &= state.arrive(index, scope, &mut arrival, &mut self.tellers);
            }
            arrival.late = &[];
        }
        if !held {
            state.totals.too_late += 1;
        }
    }

    /// Takes in an error answer, which is no response: it counts for the rules that are about errors.
    pub fn observe_error(&mut self, error: &ErrorRecord) {
        if self.state.dedupe.sight_error(error) {
            self.observe_new_error(error);
        }
    }

    /// Takes in an error answer that is no copy.
    pub fn observe_new_error(&mut self, error: &ErrorRecord) {
        self.state.totals.count_error(error);
        let Stamp::At(at) = error.stamp else {
            return;
        };
        if error.batch {
            return;
        }
        self.advance(at);
        self.state.event += 1;
        self.state.now = self.state.now.max(at);
        for (index, scope) in self.scopes.iter_mut().enumerate() {
            let counts = scope.rules.iter().any(|rule| rule.metric == Metric::Errors);
            if counts && scope.filter.matches(&error.labels) {
                self.state
                    .arrive_error(index, scope, error, at, &mut self.tellers);
            }
        }
    }

    /// Takes in what a run says that it used: the totals are brought up to it.
    pub fn observe_run(&mut self, report: &RunReport) {
        if !self.state.is_brief {
            let change = self.state.ledger.report(report);
            self.reconcile(change);
        }
    }

    /// Brings the totals and the budgets up to what a run has reported, or to what was counted of it since.
    fn reconcile(&mut self, change: Option<Change>) {
        if let Some(change) = &change {
            self.state.totals.reconcile(change);
            self.spend_residuals(change);
        }
        self.state.last_change = change;
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
        let portions = Portions::of_growth(growth);
        let state = &mut self.state;
        state.event += 1;
        state.pace.windows.add(first.secs(), &sums.cost);
        for (index, scope) in self.scopes.iter_mut().enumerate() {
            if !scope.filter.matches(&growth.labels) {
                continue;
            }
            let id = scope.key_of(&growth.labels);
            let Some(key) = scope.keys.get_mut(&id) else {
                continue;
            };
            key.advance(state.now);
            key.windows.add(first.secs(), &sums);
            key.forget_rooms();
            if !state.is_brief {
                key.note_whom(first, &growth.labels, &sums, portions.as_ref());
            }
            let past = match scope.pooled {
                Some(_) => Some(&mut scope.past),
                None => key.past.as_deref_mut(),
            };
            if let Some(past) = past {
                past.grow(first, growth);
            }
            for (alert, rule) in key.alerts.iter_mut().zip(&scope.rules) {
                if let Some(episode) = alert.open_mut() {
                    grow(episode, rule, first, sums.cost);
                }
            }
            if scope.is_own_by_key() {
                for own in self.tellers.iter_mut().filter_map(|t| t.by_key.as_mut()) {
                    own.grow(id, first, sums.cost);
                }
            }
            let own = self.tellers.iter_mut().filter(|_| scope.own.is_some());
            for (n, own) in own.filter_map(|teller| teller.own.as_mut()).enumerate() {
                own.settle(&state.watches.flow);
                own.grow(first, sums.cost);
                state.watches.open(n);
            }
            state.evaluate(
                index,
                scope,
                id,
                Came::More(&growth.labels),
                &mut self.tellers,
            );
        }
    }

    /// A Claude Code session was compacted: the next prompt of its conversations is expected to be new. Its model is not known, so
    /// all models of the session are meant.
    pub fn compacted(&mut self, compaction: &Compaction) {
        if !self.state.is_brief {
            self.state.totals.unlogged_summaries += u64::from(compaction.is_unlogged);
        }
        let labels = &compaction.labels;
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

    /// Says of a spot that nothing can be seen there, and why, or that it can again.
    pub fn set_blind(&mut self, spot: &BlindSpot, text: Option<String>) {
        self.state.blind.set(spot, text);
    }

    /// Moves the alerts about blind spots on. These go by the clock that is given, not by the times of records, of which there
    /// may be none.
    pub fn step_blind(&mut self, now: Time) {
        let Some(rule) = &self.blind_rule else {
            return;
        };
        let state = &mut self.state;
        for notice in state.blind.step(rule, now, state.live) {
            count_first(&mut state.totals, &notice);
            give(&mut self.tellers, &notice, true);
        }
    }

    /// Ends the silence: from now on notices are given. What is firing at this moment is told as such.
    pub fn go_live(&mut self) {
        self.state.live = true;
        self.tell_all(Some(Reason::StillFiring));
        let state = &mut self.state;
        for (budget, spending) in self.budgets.iter().zip(&mut state.spending) {
            let moment = moment(state.now, state.first, true, &*self.calendar);
            if let Some(notice) = budget.tell(spending, &moment, Reason::StillFiring) {
                count_first(&mut state.totals, &notice);
                give(&mut self.tellers, &notice, true);
            }
        }
        state.resuming = false;
        for teller in &mut self.tellers {
            teller.tell_unheard(state);
            sort(&mut teller.notices);
        }
    }

    /// Gives no notices until [`go_live`](Self::go_live) is called again.
    pub fn mute(&mut self) {
        self.state.live = false;
        self.state.resuming = true;
        for teller in &mut self.tellers {
            teller.hush.clear();
        }
    }

    /// Lists what is on and has been told, as the watch ends.
    pub fn stop(&mut self) {
        for teller in &mut self.tellers {
            teller.settle(&self.state.watches.flow);
            let first = teller.notices.len();
            for (index, scope) in self.scopes.iter().enumerate() {
                for (id, key) in &scope.keys {
                    for slot in 0..scope.rules.len() {
                        let place = Place {
                            index,
                            id: *id,
                            slot,
                        };
                        let is_open = teller.is_told_open(place, teller.alert(key, place));
                        if is_open && !scope.rules[slot].metric.is_announcement() {
                            let notice = teller.notice(&self.state, scope, place, Reason::Stopped);
                            teller.notices.push(notice);
                        }
                    }
                }
            }
            sort(&mut teller.notices[first..]);
        }
    }
}

/// Puts notices of one moment in order.
fn sort(notices: &mut [Notice]) {
    notices.sort_by(|a, b| {
        (a.since, &a.rule.name, a.episode).cmp(&(b.since, &b.rule.name, b.episode))
    });
}

/// Gives a notice to all tellers. In a silence only the end of a period is told, and heard of after it.
fn give(tellers: &mut [Teller], notice: &Notice, is_live: bool) {
    for teller in tellers {
        let notices = if is_live {
            &mut teller.notices
        } else {
            &mut teller.ended_unheard
        };
        notices.push(notice.clone());
    }
}

fn moment(now: Time, first: Option<Time>, live: bool, calendar: &dyn Calendar) -> Moment<'_> {
    Moment {
        now,
        first,
        live,
        calendar,
    }
}

fn count_first(totals: &mut Totals, notice: &Notice) {
    if matches!(notice.reason, Reason::First | Reason::StillFiring) {
        totals.count_alert(&notice.rule.name);
    }
}

/// Runs that are remembered for reconciling where memory is bounded.
const MAX_RUNS: usize = 10_000;

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
        | Metric::Requests
        | Metric::CostPerRequest
        | Metric::PromptPerRequest
        | Metric::OutputPerRequest
        | Metric::CacheGain
        | Metric::Errors
        | Metric::Silence
        | Metric::Budget
        | Metric::Blind => 4,
        Metric::Unpriced | Metric::NoCache | Metric::CacheLeak => 5,
    }
}

fn is_run_rule(rule: &Rule) -> bool {
    rule.metric == Metric::MissRun
}

fn is_run(scope: &Scope) -> bool {
    scope.rules.iter().any(|rule| is_run_rule(rule))
}
