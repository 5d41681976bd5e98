//! What one key has seen: its windows, alerts and baselines, and when it has to be looked at again.
//!
//! Knows nothing of other keys. What its rules ask for, and what the cache knows, is handed in.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::alert::Alert;
use super::cache::{CacheTracker, LONG_TTL, Miss, Odds, is_of_several};
use super::calm::Calm;
use super::metric::{Metric, Value};
use super::reading::{limit_at_least, may_come_by_itself, takes_more_than_plain};
use super::record::{Labels, Time, UsageRecord};
use super::rule::{Limit, Rule};
use super::scope::Asked;
use super::usual::{Amount, Baseline, Held};
use super::who::{Failures, Names, Past, Portions, Weight};
use super::window::{Sums, Window, Windows, signed};
use crate::price::PicoUsd;

/// Minutes are sampled this long after their end, so that output that comes late is in.
pub(super) const SAMPLE_DELAY_SECS: i64 = 300;

/// So many minutes are sampled together: what is usual hardly changes from one to the next, and a look at the clock costs more
/// than the sample.
const SAMPLED_TOGETHER: i64 = 5;

/// So many minutes are behind at most when one is sampled.
pub(super) const SAMPLED_MINUTES: i64 = SAMPLED_TOGETHER + SAMPLE_DELAY_SECS / 60 + 1;

/// No run of misses is over sooner for want of traffic.
const RUN_ENDS_SECS: i64 = 15 * 60;

/// Misses remembered for naming the cause of a windowed alert.
const RECENT_MISSES: usize = 32;

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
    /// Of the first that came, or of the last where a rule tells who has fallen silent. All have those that the key is made of.
    pub(super) labels: Arc<Labels>,
    pub(super) windows: Windows,
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
    /// How often requests missed by chance when the last response came that found misses here. Others change that at any time, and
    /// whether somebody looks then is no matter.
    pub(super) odds: Option<Odds>,
    pub(super) misses: VecDeque<Miss>,
    pub(super) names: Names,
    pub(super) failures: Failures,
    /// What its responses were made of, if a rule asks for that and it lasts long enough.
    pub(super) past: Option<Box<Past>>,
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
    /// Growing old changes nothing for the rules that no teller judges, however many plain responses come.
    #[serde(skip)]
    pub(super) is_still: bool,
    /// Before this second time alone changes nothing for the rules that no teller judges.
    #[serde(skip)]
    pub(super) others_until: i64,
    /// The second for which this key stands in the queue of timers.
    pub(super) scheduled: Option<i64>,
}

/// The second at which a minute is sampled.
pub(super) const fn sampled_at(minute: i64) -> i64 {
    let next = (minute.div_euclid(SAMPLED_TOGETHER) + 1) * SAMPLED_TOGETHER;
    next * 60 - 1 + SAMPLE_DELAY_SECS
}

impl Key {
    /// One that has seen nothing, which begins at this moment.
    pub(super) fn new(
        labels: &Arc<Labels>,
        windows: Windows,
        n_rules: usize,
        baselines: Vec<Baseline>,
        at: Time,
    ) -> Self {
        let secs = || windows.each().map(Window::secs);
        let (shortest, longest) = (secs().min(), secs().max());
        Self {
            labels: Arc::clone(labels),
            names: Names::new(shortest.unwrap_or(i64::MAX), longest.unwrap_or(0)),
            windows,
            alerts: vec![Alert::default(); n_rules],
            baselines,
            held: BTreeMap::new(),
            last_read: None,
            first_record: at,
            last_record: at,
            last_usage: None,
            expected_by: None,
            unpriced: false,
            odds: None,
            misses: VecDeque::new(),
            failures: Failures::default(),
            past: None,
            minutes: VecDeque::new(),
            retry: None,
            rooms: Vec::new(),
            calm: Calm::default(),
            is_still: false,
            others_until: i64::MIN,
            scheduled: None,
        }
    }

    pub(super) fn advance(&mut self, now: Time) {
        self.windows.advance(now.secs());
    }

    /// Moves all that it has seen in time: the clock was wrong by so much. What was learned stays where it is.
    pub(super) fn shift(&mut self, ms: i64) {
        let secs = ms / 1000;
        self.windows.shift(secs);
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
        self.failures.shift(ms);
        if let Some(past) = &mut self.past {
            past.shift(secs);
        }
        self.forget_rooms();
        if let Some(retry) = &mut self.retry {
            *retry += secs;
        }
        if let Some(scheduled) = &mut self.scheduled {
            *scheduled += secs;
        }
    }

    pub(super) fn window(&self, secs: i64) -> Option<Window<'_>> {
        self.windows.each().find(|window| window.secs() == secs)
    }

    /// The value of a windowed rule, and the step of its ladder of windows that it comes from: the one an open episode fired
    /// on, else the shortest that holds enough.
    pub(super) fn value(&self, rule: &Rule, open_step: Option<usize>) -> (usize, Option<Value>) {
        let read = |step: usize| {
            let secs = *rule.windows.get(step)?;
            let total = self.window(secs)?.total();
            (rule.is_enough(&total) || (open_step.is_some() && rule.metric.is_sum()))
                .then(|| rule.metric.read(&total, secs, rule.per_secs))
                .flatten()
        };
        match open_step {
            Some(step) => (step, read(step)),
            None => (0..rule.windows.len())
                .find_map(|step| read(step).map(|value| (step, Some(value))))
                .unwrap_or((0, None)),
        }
    }

    /// The value that a rule had at the end of a minute, with what has come in since. What is usual may have cost next to nothing.
    pub(super) fn sample(&self, rule: &Rule, minute: i64) -> Option<Amount> {
        rule.windows.iter().find_map(|secs| {
            let total = self.window(*secs)?.at_end_of(minute)?;
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

    /// Remembers what a record tells about this key; whom it is of, if that is asked for.
    pub(super) fn note_arrival(
        &mut self,
        record: &UsageRecord,
        at: Time,
        miss: Option<&Miss>,
        labels: Option<&Arc<Labels>>,
    ) {
        if let Some(labels) = labels.filter(|_| self.last_record <= at) {
            self.labels = Arc::clone(labels);
        }
        if record.tokens.cache_read > 0 {
            self.last_read = Some(self.last_read.map_or(at, |read| read.max(at)));
        }
        self.last_record = self.last_record.max(at);
        self.last_usage = self.last_usage.max(Some(at));
        self.unpriced = record.cost.is_none();
        if let Some(miss) = miss {
            self.note_miss(miss);
        }
    }

    /// Adds what a response of these labels weighs to what is known of whom it was of, and for what it was dearer than its model tells.
    pub(super) fn note_whom(
        &mut self,
        at: Time,
        labels: &Arc<Labels>,
        sums: &Sums,
        portions: Option<&Portions<PicoUsd>>,
    ) {
        self.names.add(at, labels, &Weight::of(sums));
        if let Some(portions) = portions {
            self.names.add_portions(portions);
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

    /// What its longest window holds missed what it could have read.
    pub(super) fn has_missed(&self) -> bool {
        let longest = self.windows.each().next_back();
        longest.is_some_and(|longest| longest.read(|sums| sums.affected.into()) > 0)
    }

    /// How much of what its longest window holds was paid again.
    pub(super) fn waste(&self) -> PicoUsd {
        let longest = self.windows.each().next_back();
        longest.map_or(PicoUsd::ZERO, |longest| {
            PicoUsd(longest.read(|sums| sums.waste.0))
        })
    }

    /// The second at which it is silent, if nothing comes.
    fn silent_at(&self, secs: i64) -> Option<i64> {
        self.silent_from(secs).map(Time::first_tick)
    }

    /// From which second on nothing is known here that any of the rules asks for. `None` if it is so already.
    pub(super) fn over_at(&self, rules: &[Arc<Rule>]) -> Option<i64> {
        // Whoever fell silent is to be heard of, however long ago it was.
        if rules.iter().any(|rule| rule.metric == Metric::Silence) {
            return Some(i64::MAX);
        }
        // A conversation that nobody goes on with for so long is in no run of misses any more.
        let runs = rules.iter().filter(|rule| rule.metric == Metric::MissRun);
        let idle = runs.filter_map(|rule| rule.windows.last()).max();
        let idle = idle.map(|longest| self.last_record.secs() + 2 * longest + 1);
        let windows = self.windows.each().filter_map(Window::last_expiry);
        windows.chain(idle).max()
    }

    /// The next second after `now` at which time alone changes something here: what is quiet may not stay so, and what is on may
    /// end or be told again. `until_clear` says of what is on whether it goes on as it is until it is clear of a limit, and which of
    /// its windows decides.
    pub(super) fn next_change(
        &mut self,
        cache: &CacheTracker,
        asked: &Asked,
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
        let mut is_still = self.is_at_rest();
        for slot in &asked.by_themselves {
            let (rule, alert) = (&asked.rules[*slot], &self.alerts[*slot]);
            if let Limit::SilentFor(secs) = rule.limit
                && alert.open().is_none()
            {
                at(self.silent_at(secs));
            }
            let may_come = alert.is_quiet() && may_come_by_itself(self, rule);
            is_still &= !may_come && takes_more_than_plain(rule);
            if may_come {
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
        self.is_still = is_still;
        // One that came late is due already.
        at(self.next_sample().map(|second| second.max(now + 1)));
        at(self.retry);
        at(self.look_ahead(asked, now));
        self.others_until = next;
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
    fn look_ahead(&mut self, asked: &Asked, now: i64) -> Option<i64> {
        let mut next = None;
        let mut rooms = std::mem::take(&mut self.rooms);
        rooms.resize(asked.means.len(), Room::ENDLESS);
        for (slot, room) in asked.means.iter().zip(&mut rooms) {
            let (rule, is_quiet) = (&asked.rules[*slot], self.alerts[*slot].is_quiet());
            // Otherwise it takes a miss that could have been avoided.
            let may_come = !is_quiet || may_come_by_itself(self, rule);
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

    /// A response that adds this lifts no mean above its limit until the key is looked at again, whatever leaves its windows.
    #[inline]
    pub(super) fn has_room(&mut self, asked: &Asked, sums: &Sums) -> bool {
        self.rooms.len() == asked.means.len()
            && asked.means.iter().zip(&mut self.rooms).all(|(slot, room)| {
                if !room.is_endless() {
                    let taken = asked.quick[*slot].takes(sums, room.limit);
                    room.left = room.left.saturating_sub(taken);
                }
                room.left >= 0
            })
    }

    /// What is known of limits holds no longer: one has changed, or what came was not counted off.
    pub(super) fn forget_rooms(&mut self) {
        self.rooms.clear();
        self.calm = Calm::default();
        self.others_until = i64::MIN;
    }

    /// The next second after `now` at which anything leaves a window.
    pub(super) fn next_expiry(&self, now: i64) -> Option<i64> {
        let expiries = self.windows.each().filter_map(Window::next_expiry);
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
