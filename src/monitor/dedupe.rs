//! Which responses were counted already, and what a larger copy adds.
//!
//! A response stands in a log once for each content block, again in forked sessions, and with a growing output count. It is
//! counted once, and a larger copy adds the difference to the moment of the first.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::record::{
    ErrorRecord, ExtraUsage, Labels, Prompts, ResponseId, Stamp, Time, Tokens, UsageRecord,
};
use crate::price::{PicoUsd, Premium};

/// Responses older than this are forgotten where memory is bounded.
const MEMORY_MINUTES: i64 = 7 * 24 * 60;

/// Copies that come with other names, and growth that has to find its bucket, come within this time of the first.
const RECENT_MS: i64 = 3_600_000;

/// An id that stands for more responses than this within the hour is no id.
const MAX_USES: u32 = 100;

/// What is kept of a response of the last hour.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Recent {
    /// It is recent for an hour from then on.
    at: Time,
    id: ResponseId,
    /// Its other identity; zero if it has none.
    alias: ResponseId,
    /// Its own id without the prompt counts; zero if it has none.
    bare: u64,
    /// `i64::MIN` if it had no time.
    first: Time,
    /// Pico-dollars; `i64::MIN` if it has no price. A single response costs less than the nine million dollars that fit.
    cost: i64,
    /// Which of the labels are its own.
    whose: u64,
    /// Usage billed beside it was counted.
    has_extra: bool,
}

/// So many labels before the last are looked at for the same ones.
const LABELS_BEFORE: u64 = 8;

/// Labels of the responses of the last hour, in the order of coming. Those that come together nearly all have the same few, which
/// other threads hold too: each is counted once, not for each response.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct RecentLabels {
    labels: VecDeque<Arc<Labels>>,
    /// How many were forgotten before them.
    forgotten: u64,
}

impl RecentLabels {
    /// The number of these labels.
    fn number(&mut self, labels: &Arc<Labels>) -> u64 {
        let end = self.forgotten + self.labels.len() as u64;
        let before = (1..=LABELS_BEFORE).zip(self.labels.iter().rev());
        for (n, known) in before {
            if Arc::ptr_eq(known, labels) {
                return end - n;
            }
        }
        self.labels.push_back(Arc::clone(labels));
        end
    }

    fn get(&self, number: u64) -> Option<&Arc<Labels>> {
        let at = number.checked_sub(self.forgotten)?;
        self.labels.get(usize::try_from(at).ok()?)
    }

    /// The oldest response has these; the others have none that came long before them.
    fn forget_before(&mut self, number: u64) {
        while self.forgotten + LABELS_BEFORE < number && self.labels.pop_front().is_some() {
            self.forgotten += 1;
        }
    }
}

/// An output count, and in the top bit whether it is a placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Output(u64);

const UNDERSTATED: u64 = 1 << 63;

impl Output {
    /// Its place is made, but the response has not been counted.
    const EXPECTED: Self = Self(u64::MAX);

    fn of(record: &UsageRecord) -> Self {
        Self::new(record.tokens.output, record.caveats.output_understated)
    }

    fn new(tokens: u64, understated: bool) -> Self {
        Self(tokens | if understated { UNDERSTATED } else { 0 })
    }

    fn tokens(self) -> u64 {
        self.0 & !UNDERSTATED
    }

    fn is_understated(self) -> bool {
        self.0 & UNDERSTATED > 0
    }

    /// What a copy adds: more tokens, and whether they are now final. `None` if it adds nothing.
    fn grow(&mut self, copy: Self) -> Option<(u64, bool)> {
        let more = copy.tokens().saturating_sub(self.tokens());
        let now_final = self.is_understated() && !copy.is_understated();
        if more == 0 && !now_final {
            return None;
        }
        *self = Self::new(self.tokens() + more, self.is_understated() && !now_final);
        Some((more, now_final))
    }
}

fn compact(cost: Option<PicoUsd>) -> i64 {
    cost.and_then(|cost| i64::try_from(cost.0).ok())
        .unwrap_or(i64::MIN)
}

/// What a copy adds to a response that was counted before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// When the response was first seen to happen; `None` if it had no time.
    pub first: Option<Time>,
    /// Whom it was counted for.
    pub labels: Arc<Labels>,
    /// More output tokens; all else is zero.
    pub tokens: Tokens,
    /// Usage billed beside the response that was not known before.
    pub extra: Vec<ExtraUsage>,
    /// More cost; `None` if it has no price.
    pub cost: Option<PicoUsd>,
    /// Why its prices are above the usual ones, if they are.
    pub premium: Premium,
    /// The output count was a placeholder and no longer is.
    pub now_final: bool,
}

/// What to do with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// Count it.
    New,
    /// Count nothing.
    Copy,
    /// Count what it adds.
    Grown(Box<Growth>),
}

/// The responses of the last hour, in the order of coming.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Queue {
    responses: VecDeque<Recent>,
    /// How many have left.
    left: u64,
    /// The number of each. What is kept of it would fit here too, but then each response were written to a far place in pieces, and
    /// whatever comes next had to wait for them.
    numbers: FxHashMap<ResponseId, u64>,
}

impl Queue {
    fn push(&mut self, recent: Recent) {
        let number = self.left + self.responses.len() as u64;
        self.numbers.insert(recent.id, number);
        self.responses.push_back(recent);
    }

    fn get_mut(&mut self, id: ResponseId) -> Option<&mut Recent> {
        let number = self.numbers.get(&id)?.checked_sub(self.left)?;
        self.responses.get_mut(usize::try_from(number).ok()?)
    }

    fn len(&self) -> usize {
        self.responses.len()
    }

    /// All of them have come at this time.
    fn date(&mut self, at: Time) {
        for recent in &mut self.responses {
            recent.at = at;
        }
    }

    fn oldest(&self) -> Option<&Recent> {
        self.responses.front()
    }

    /// Takes the oldest out.
    fn pop(&mut self) -> Option<Recent> {
        let oldest = self.responses.pop_front()?;
        if let Entry::Occupied(number) = self.numbers.entry(oldest.id)
            // It may have been forgotten, and come again.
            && *number.get() == self.left
        {
            number.remove();
        }
        self.left += 1;
        Some(oldest)
    }

    /// It is not known any more.
    fn forget(&mut self, id: ResponseId) {
        self.numbers.remove(&id);
    }
}

/// The responses counted so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dedupe {
    /// All of them: 16 bytes each, because there may be millions.
    known: FxHashMap<ResponseId, Output>,
    /// What else is kept of those of the last hour.
    recent: Queue,
    labels: RecentLabels,
    /// Other identities of recent responses.
    aliases: FxHashMap<ResponseId, ResponseId>,
    /// How many recent responses share an id.
    uses: FxHashMap<u64, u32>,
    newest: Time,
    /// All identities in the order of coming, with the minute; only where memory is bounded.
    order: VecDeque<(ResponseId, i64)>,
    /// At most so many are remembered, for seven days; `None` remembers all.
    max: Option<usize>,
    /// Responses that had to be forgotten before their time.
    forgotten: u64,
    reused_id: bool,
}

impl Dedupe {
    /// Remembers at most `max` responses, or all of them.
    pub fn new(max: Option<usize>) -> Self {
        Self {
            known: FxHashMap::default(),
            recent: Queue::default(),
            labels: RecentLabels::default(),
            aliases: FxHashMap::default(),
            uses: FxHashMap::default(),
            newest: Time(i64::MIN),
            order: VecDeque::new(),
            max,
            forgotten: 0,
            reused_id: false,
        }
    }

    /// Responses that were forgotten before seven days had passed, because there are too many.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Some id stands for more than a hundred different responses: a gateway or mock gives all the same.
    pub fn has_reused_id(&self) -> bool {
        self.reused_id
    }

    /// These responses are [sighted](Self::sight) next, all of them. Where millions are known, each of them lies somewhere else in
    /// memory: when all are looked for, and then places made for all, they are waited for together.
    pub fn expect<'a>(&mut self, records: impl Iterator<Item = &'a UsageRecord> + Clone) {
        let ids = records.filter_map(|record| record.id);
        let known = ids
            .clone()
            .filter(|identity| self.known.contains_key(&identity.id));
        std::hint::black_box(known.count());
        for identity in ids {
            self.known.entry(identity.id).or_insert(Output::EXPECTED);
        }
    }

    /// Tells a new response from a copy, and remembers it.
    pub fn sight(&mut self, record: &UsageRecord) -> Sighting {
        let Some(identity) = record.id else {
            return Sighting::New;
        };
        if let Some(known) = self.find(identity.id, identity.request) {
            if known != identity.id && identity.request == Some(known) {
                self.aliases.insert(identity.id, known);
            }
            return self.grow(known, record);
        }
        let is_used = |bare| self.uses.contains_key(&bare);
        if record.prompts == Prompts::Run && identity.bare.is_some_and(is_used) {
            // Its requests were logged one by one.
            return Sighting::Copy;
        }
        let first = match record.stamp {
            Stamp::At(time) => time,
            Stamp::Undated | Stamp::Impossible(_) => Time(i64::MIN),
        };
        if let Some(request) = identity.request {
            self.aliases.insert(request, identity.id);
        }
        if let Some(bare) = identity.bare {
            let uses = self.uses.entry(bare).or_default();
            *uses += 1;
            self.reused_id |= *uses > MAX_USES;
        }
        self.note_time(first);
        self.recent.push(Recent {
            at: first.max(self.newest),
            id: identity.id,
            alias: identity.request.unwrap_or(ResponseId(0)),
            bare: identity.bare.unwrap_or(0),
            first,
            cost: compact(record.cost),
            whose: self.labels.number(&record.labels),
            has_extra: !record.extra.is_empty(),
        });
        self.known.insert(identity.id, Output::of(record));
        self.age();
        self.remember(identity.id);
        Sighting::New
    }

    /// Whether an error answer is no copy of one that was seen before. It is remembered.
    pub fn sight_error(&mut self, error: &ErrorRecord) -> bool {
        error.id.is_none_or(|id| self.is_first(id))
    }

    /// Whether something that has this id, and that is no response, was not seen before. It is remembered.
    pub fn is_first(&mut self, id: ResponseId) -> bool {
        if self.find(id, None).is_some() {
            return false;
        }
        self.known.insert(id, Output::new(0, false));
        self.remember(id);
        true
    }

    /// The identity under which a response was counted. Two responses with ids of their own are two, even if their request ids
    /// are the same.
    fn find(&self, id: ResponseId, request: Option<ResponseId>) -> Option<ResponseId> {
        let is_counted = |output: &Output| *output != Output::EXPECTED;
        let counted = |id: &ResponseId| self.known.get(id).is_some_and(is_counted);
        if counted(&id) {
            return Some(id);
        }
        let alias = self.aliases.get(&id).copied().filter(&counted);
        alias.or_else(|| request.filter(counted))
    }

    /// A response of this time has come. Those before the first that has one are as recent as that.
    fn note_time(&mut self, time: Time) {
        if self.newest.0 == i64::MIN && time > self.newest {
            self.recent.date(time);
        }
        self.newest = self.newest.max(time);
    }

    /// Forgets what is kept only of what is recent, of no more than are remembered at all.
    fn age(&mut self) {
        let newest = self.newest.0;
        let is_old = |oldest: &Recent| newest.saturating_sub(oldest.at.0) > RECENT_MS;
        let most = self.max.unwrap_or(usize::MAX);
        while (self.recent.len() > most || self.recent.oldest().is_some_and(is_old))
            && let Some(Recent { alias, bare, .. }) = self.recent.pop()
        {
            self.aliases.remove(&alias);
            if let Entry::Occupied(mut uses) = self.uses.entry(bare) {
                *uses.get_mut() -= 1;
                if *uses.get() == 0 {
                    uses.remove();
                }
            }
        }
        if let Some(oldest) = self.recent.oldest() {
            self.labels.forget_before(oldest.whose);
        }
    }

    fn remember(&mut self, id: ResponseId) {
        let Some(max) = self.max else {
            return;
        };
        let now = self.newest.minute();
        // What came before anything had a time does not grow old.
        let is_timeless = self.newest.0 == i64::MIN;
        self.order
            .push_back((id, if is_timeless { i64::MAX } else { now }));
        while let Some((oldest, minute)) = self.order.front().copied() {
            let expired = now.saturating_sub(minute) > MEMORY_MINUTES;

            if !expired && self.order.len() <= max {
                break;
            }
            self.forgotten += u64::from(!expired);
            self.recent.forget(oldest);
            self.known.remove(&oldest);
            self.order.pop_front();
        }
    }

    fn grow(&mut self, id: ResponseId, record: &UsageRecord) -> Sighting {
        let now = Output::of(record);
        let Some(recent) = self.recent.get_mut(id) else {
            return self.grow_old(id, record);
        };
        let before = recent.cost;
        let output_before = self.known.get_mut(&id);
        let Some((more, now_final)) = output_before.and_then(|output| output.grow(now)) else {
            return Sighting::Copy;
        };
        let with_extra = more > 0 && !recent.has_extra && !record.extra.is_empty();
        let cost = match (compact(record.cost), before) {
            (i64::MIN, _) | (_, i64::MIN) => None,
            (now, before) if more > 0 => {
                recent.cost = now;
                Some(PicoUsd(i128::from(now) - i128::from(before)))
            }
            _ => Some(PicoUsd::ZERO),
        };
        recent.has_extra |= with_extra;
        Sighting::Grown(Box::new(Growth {
            first: (recent.first.0 > i64::MIN).then_some(recent.first),
            labels: Arc::clone(self.labels.get(recent.whose).unwrap_or(&record.labels)),
            tokens: output(more),
            extra: if with_extra {
                record.extra.clone()
            } else {
                Vec::new()
            },
            cost,
            premium: record.premium,
            now_final,
        }))
    }

    /// Growth of a response that is not recent: it is priced by the copy, whose names and time are those of the first.
    fn grow_old(&mut self, id: ResponseId, record: &UsageRecord) -> Sighting {
        let now = Output::of(record);
        let Some(output_before) = self.known.get_mut(&id) else {
            return Sighting::Copy;
        };
        let before = output_before.tokens();
        let Some((more, now_final)) = output_before.grow(now) else {
            return Sighting::Copy;
        };
        let cost = record.rates.map(|rates| {
            let then = Tokens {
                output: before,
                ..record.tokens
            };
            if more > 0 && !record.caveats.not_billed {
                rates.cost(&record.tokens) - rates.cost(&then)
            } else {
                PicoUsd::ZERO
            }
        });
        Sighting::Grown(Box::new(Growth {
            first: match record.stamp {
                Stamp::At(time) => Some(time),
                Stamp::Undated | Stamp::Impossible(_) => None,
            },
            labels: Arc::clone(&record.labels),
            tokens: output(more),
            extra: Vec::new(),
            cost,
            premium: record.premium,
            now_final,
        }))
    }
}

fn output(tokens: u64) -> Tokens {
    Tokens {
        output: tokens,
        ..Tokens::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::Identity;

    const HOUR: i64 = 3_600_000;

    fn record(at: i64, id: u64, request: Option<u64>, output: u64) -> UsageRecord {
        UsageRecord {
            id: Some(Identity {
                id: ResponseId(id),
                request: request.map(ResponseId),
                bare: Some(1),
            }),
            stamp: Stamp::At(Time(at)),
            tokens: super::output(output),
            cost: Some(PicoUsd(i128::from(output) * 7)),
            rates: Some(crate::price::Rates {
                input: 0,
                output: 7,
                cache_write_5m: 0,
                cache_write_1h: 0,
                cache_read: 0,
                factor: crate::price::Ratio::ONE,
            }),
            ..UsageRecord::blank()
        }
    }

    fn grown(sighting: Sighting) -> (u64, Option<i128>) {
        match sighting {
            Sighting::Grown(growth) => (growth.tokens.output, growth.cost.map(|cost| cost.0)),
            other => panic!("{other:?}"),
        }
    }

    /// Lines of a run have no times; an exporter beside it knows their request ids only.
    #[test]
    fn what_came_before_any_time_is_recent_when_the_first_comes() {
        let undated = |id| UsageRecord {
            stamp: Stamp::Undated,
            ..record(0, id, Some(id + 10), 5)
        };
        let mut dedupe = Dedupe::new(None);
        assert_eq!(dedupe.sight(&undated(1)), Sighting::New);
        assert_eq!(dedupe.sight(&undated(2)), Sighting::New);
        assert_eq!(dedupe.sight(&record(HOUR * 9, 3, None, 5)), Sighting::New);
        assert_eq!(dedupe.sight(&record(HOUR * 9, 11, None, 5)), Sighting::Copy);
        // An hour later the other one is forgotten.
        assert_eq!(dedupe.sight(&record(HOUR * 11, 4, None, 5)), Sighting::New);
        assert_eq!(dedupe.sight(&record(HOUR * 11, 12, None, 5)), Sighting::New);
    }

    #[test]
    fn a_sum_of_requests_that_were_counted_one_by_one_is_a_copy() {
        let run = |at, id| UsageRecord {
            prompts: Prompts::Run,
            ..record(at, id, None, 9)
        };
        let mut dedupe = Dedupe::new(None);
        assert_eq!(dedupe.sight(&run(0, 10)), Sighting::New);
        let mut dedupe = Dedupe::new(None);
        assert_eq!(dedupe.sight(&record(0, 11, None, 5)), Sighting::New);
        assert_eq!(dedupe.sight(&run(0, 10)), Sighting::Copy);
        // Another response may have the same id later.
        assert_eq!(dedupe.sight(&record(HOUR * 2, 12, None, 5)), Sighting::New);
    }

    #[test]
    fn a_copy_under_its_request_id_alone_is_a_copy_in_either_order() {
        for with_id_first in [true, false] {
            let mut dedupe = Dedupe::new(None);
            let full = record(0, 10, Some(20), 5);
            let other = record(0, 20, None, 5);
            let (a, b) = if with_id_first {
                (&full, &other)
            } else {
                (&other, &full)
            };
            assert_eq!(dedupe.sight(a), Sighting::New);
            assert_eq!(dedupe.sight(b), Sighting::Copy);
            assert_eq!(dedupe.sight(&record(0, 10, Some(99), 5)), Sighting::Copy);
            assert_eq!(
                dedupe.sight(&record(0, 11, Some(20), 5)),
                if with_id_first {
                    Sighting::New
                } else {
                    Sighting::Copy
                },
                "two ids of their own are two responses, as far as that is known"
            );
        }
    }

    #[test]
    fn a_response_may_grow_while_it_is_recent_and_long_after() {
        let mut dedupe = Dedupe::new(None);
        assert_eq!(dedupe.sight(&record(0, 1, None, 5)), Sighting::New);
        assert_eq!(grown(dedupe.sight(&record(0, 1, None, 8))), (3, Some(21)));
        assert_eq!(dedupe.sight(&record(2 * HOUR, 2, None, 1)), Sighting::New);
        assert!(dedupe.recent.responses.len() == 1 && dedupe.known.len() == 2);
        assert_eq!(dedupe.sight(&record(0, 1, None, 8)), Sighting::Copy);
        assert_eq!(grown(dedupe.sight(&record(0, 1, None, 9))), (1, Some(7)));
        assert_eq!(dedupe.sight(&record(0, 1, None, 9)), Sighting::Copy);
    }

    #[test]
    fn what_grows_is_that_of_whom_it_was_counted_for() {
        let mut dedupe = Dedupe::new(None);
        let whose = |n: u64| Labels {
            session: Some(format!("s-{n}").into()),
            ..Labels::default()
        };
        // More than are looked at for the same ones, again and again, over more than an hour.
        let known: Vec<Arc<Labels>> = (0..12).map(|n| Arc::new(whose(n))).collect();
        let minute = 60_000;
        let turn = |n: u64| (n * 7 + n / 5) % 12;
        for n in 0..300_u64 {
            let mut response = record(n.cast_signed() * minute, n, None, 5);
            response.labels = Arc::clone(&known[usize::try_from(turn(n)).unwrap()]);
            assert_eq!(dedupe.sight(&response), Sighting::New);
            for of in n.saturating_sub(59)..=n {
                let copy = record(n.cast_signed() * minute, of, None, 6 + n);
                let Sighting::Grown(growth) = dedupe.sight(&copy) else {
                    panic!("response {of} has not grown")
                };
                assert_eq!(*growth.labels, whose(turn(of)), "response {of}");
                assert_eq!(growth.first, Some(Time(of.cast_signed() * minute)));
            }
        }
        assert!(dedupe.labels.labels.len() < 100, "what is old is forgotten");
    }

    #[test]
    fn what_is_old_is_kept_small_and_what_is_too_much_is_forgotten_and_said() {
        let mut dedupe = Dedupe::new(Some(10));
        for n in 0..30 {
            dedupe.sight(&record(n * HOUR, n.cast_unsigned() + 100, None, 1));
        }
        assert!(dedupe.known.len() == 10 && dedupe.recent.numbers.len() <= 2);
        assert_eq!(dedupe.forgotten(), 20);
        assert!(
            dedupe.aliases.is_empty()
                && dedupe.recent.responses.len() <= 2
                && dedupe.uses.len() == 1
        );
        // After seven days forgetting is no loss.
        dedupe.sight(&record(30 * HOUR + 8 * 24 * HOUR, 500, None, 1));
        assert_eq!((dedupe.order.len(), dedupe.forgotten()), (1, 20));
    }

    #[test]
    fn no_more_are_recent_than_are_remembered_at_all() {
        let mut dedupe = Dedupe::new(Some(50));
        for n in 0..1_000_i64 {
            let id = n.cast_unsigned() + 10;
            dedupe.sight(&record(n, id, Some(1_000_000 + id), 5));
        }
        let recent = &dedupe.recent;
        assert_eq!((recent.responses.len(), recent.numbers.len()), (50, 50));
        assert_eq!((dedupe.known.len(), dedupe.aliases.len()), (50, 50));
        // The last are known by either name.
        let last = record(999, 1_001_009, None, 5);
        assert_eq!(dedupe.sight(&last), Sighting::Copy);
    }

    #[test]
    fn what_was_forgotten_and_comes_again_is_recent_from_then_on() {
        let mut dedupe = Dedupe::new(Some(2));
        for (minute, id) in [(0, 1), (1, 2), (2, 3), (50, 1), (61, 4)] {
            let sighting = dedupe.sight(&record(minute * 60_000, id, None, 5));
            assert_eq!(sighting, Sighting::New, "{minute} {id}");
        }
        // Of no more than two anything is kept. The second sight of it is one of them: what it cost then is known.
        assert_eq!(dedupe.recent.responses.len(), 2);
        let cost = dedupe
            .recent
            .get_mut(ResponseId(1))
            .map(|recent| recent.cost);
        assert_eq!(cost, Some(35));
    }

    proptest::proptest! {
        /// Places that are made beforehand change nothing, whatever is a copy of what.
        #[test]
        fn what_is_expected_is_told_apart_as_ever(
            responses in proptest::collection::vec((0_i64..90, 1_u64..30, proptest::option::of(20_u64..50), 0_u64..5), 1..120),
            few in 1_usize..40,
        ) {
            let records: Vec<UsageRecord> = responses
                .into_iter()
                .map(|(minute, id, request, output)| record(minute * 60_000, id, request, output))
                .collect();
            let (mut plain, mut expecting) = (Dedupe::new(None), Dedupe::new(None));
            for records in records.chunks(few) {
                expecting.expect(records.iter());
                for record in records {
                    proptest::prop_assert_eq!(expecting.sight(record), plain.sight(record));
                }
            }
        }
    }

    #[test]
    fn responses_without_any_time_are_remembered() {
        let mut dedupe = Dedupe::new(Some(10));
        let mut timeless = record(0, 1, Some(2), 5);
        timeless.stamp = Stamp::Undated;
        assert_eq!(dedupe.sight(&timeless), Sighting::New);
        assert_eq!(
            dedupe.sight(&record(90 * 24 * HOUR, 3, None, 1)),
            Sighting::New
        );
        assert_eq!(dedupe.sight(&timeless), Sighting::Copy);
    }

    #[test]
    fn an_id_that_a_hundred_responses_share_is_noticed() {
        let mut dedupe = Dedupe::new(None);
        for n in 0..=100_u64 {
            assert!(!dedupe.has_reused_id());
            dedupe.sight(&record(0, n + 1000, None, 1));
        }
        assert!(dedupe.has_reused_id());
    }

    #[test]
    fn an_error_counts_once() {
        let mut dedupe = Dedupe::new(None);
        assert!(dedupe.is_first(ResponseId(5)));
        assert!(!dedupe.is_first(ResponseId(5)));
    }
}
