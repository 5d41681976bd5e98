//! Which of many tellers have to look at the rule that they judge when something comes, and which need not.
//!
//! What a teller's rule needs before anything may change is worked out once, and kept small: thousands are asked for each response.
//! What has come meanwhile is summed up once for all of them, and an episode is brought up to it when somebody asks.

use crate::monitor::alert::Episode;
use crate::monitor::key::Key;
use crate::monitor::quick::{Bound, Bounds};
use crate::monitor::record::Time;
use crate::price::PicoUsd;

/// No stream costs as much.
pub(in crate::monitor) const NEVER: PicoUsd = PicoUsd(i128::MAX);

/// What has come for the stream as a whole.
#[derive(Debug, Clone, Copy)]
pub(in crate::monitor) struct Flow {
    cost: PicoUsd,
    requests: i64,
    /// How often a minute has come that is later than all before.
    minutes: i64,
    /// The latest of them.
    last_minute: i64,
    /// When the last response came, and what it says of that itself.
    came: Time,
    at: Time,
    /// When anybody looked last.
    looked: Time,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            cost: PicoUsd::ZERO,
            requests: 0,
            minutes: 0,
            last_minute: i64::MIN,
            came: Time(i64::MIN),
            at: Time(i64::MIN),
            looked: Time(i64::MIN),
        }
    }
}

impl Flow {
    /// Adds a response.
    pub(in crate::monitor) fn add(&mut self, at: Time, cost: PicoUsd, now: Time) {
        self.cost += cost;
        self.requests += 1;
        if at.minute() > self.last_minute {
            self.last_minute = at.minute();
            self.minutes += 1;
        }
        self.came = now;
        self.at = at;
        self.looked = now;
    }

    /// What the stream will have cost when this much more has come.
    pub(super) fn after(&self, more: PicoUsd) -> PicoUsd {
        PicoUsd(self.cost.0.saturating_add(more.0))
    }

    /// Notes that somebody looks.
    pub(super) fn look(&mut self, now: Time) {
        self.looked = self.looked.max(now);
    }

    /// When the last response came, if that was after another moment.
    pub(super) fn came_since(&self, seen: &Self) -> Option<Time> {
        (self.requests > seen.requests).then_some(self.came)
    }

    /// When anybody looked last, if that was after another moment.
    pub(super) fn looked_since(&self, seen: &Self) -> Option<Time> {
        (self.looked > seen.looked).then_some(self.looked)
    }

    /// An episode that is brought up to this can be brought up to whatever will have come: its minutes are counted like those of
    /// the stream. One that is not is to be brought up to each response.
    pub(super) fn is_in_step(&self, episode: &Episode) -> bool {
        episode.last_minute == self.last_minute
    }

    /// Adds to an episode that has been on since `seen` what has come since then.
    pub(super) fn accrue(&self, seen: &Self, episode: &mut Episode) {
        let requests = self.requests - seen.requests;
        if requests == 0 {
            return;
        }
        episode.exposed += self.cost - seen.cost;
        episode.requests += requests;
        episode.last_evidence = self.came;
        if requests == 1 {
            episode.note_minute(self.at);
        } else {
            episode.minutes += self.minutes - seen.minutes;
            episode.last_minute = self.last_minute;
        }
    }
}

/// What changes nothing for a teller.
#[derive(Debug, Clone, Copy)]
enum Gate {
    /// Nothing is known: it has to look whatever comes.
    Open,
    /// Its values are within bounds.
    Within(Bounds, Evidence),
    /// Its value is above a bound, and the stream has not cost so much yet that it may be worth telling again.
    Above(Bound, Evidence, PicoUsd),
}

/// So many responses in a window that cost so much, or it has no value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    pub(super) window: usize,
    pub(super) requests: i64,
    pub(super) cost: PicoUsd,
}

impl Evidence {
    /// It takes none.
    pub(super) const NONE: Self = Self {
        window: 0,
        requests: i64::MIN,
        cost: PicoUsd::ZERO,
    };

    const fn is_none(self) -> bool {
        self.requests == i64::MIN
    }

    #[inline]
    fn is_enough(self, key: &Key) -> bool {
        if self.is_none() {
            return true;
        }
        let window = key.windows.at(self.window);
        window.read(|sums| sums.requests.into()) >= self.requests.into()
            && window.read(|sums| sums.cost.0) >= self.cost.0
    }
}

/// Whether a teller has to look at its rule.
#[derive(Debug, Clone, Copy)]
pub(in crate::monitor) struct Watch {
    gate: Gate,
    /// From then on it has to look in any case.
    until: Time,
    /// The second at which it does, if nothing comes.
    next: i64,
    /// What leaves its windows may have it look before.
    by_expiry: bool,
    /// It has to look at each miss, which adds to its episode.
    of_misses: bool,
}

impl Watch {
    /// It has to look whatever comes or leaves, and at this second.
    pub(in crate::monitor) const fn open(next: i64) -> Self {
        Self {
            gate: Gate::Open,
            until: Time(i64::MIN),
            next,
            by_expiry: true,
            of_misses: false,
        }
    }

    /// It has to look at each miss.
    pub(super) const fn at_misses(self) -> Self {
        Self {
            of_misses: true,
            ..self
        }
    }

    /// It need not before this moment, while its values are within bounds. `only_rises`: what leaves windows lifts none.
    pub(super) const fn within(
        self,
        bounds: Bounds,
        evidence: Evidence,
        until: Time,
        only_rises: bool,
    ) -> Self {
        Self {
            gate: Gate::Within(bounds, evidence),
            until,
            by_expiry: !only_rises,
            ..self
        }
    }

    /// It need not before this moment, while its value is above a bound, or until the stream has cost so much.
    pub(super) const fn above(
        self,
        bound: Bound,
        evidence: Evidence,
        cost: PicoUsd,
        until: Time,
    ) -> Self {
        Self {
            gate: Gate::Above(bound, evidence, cost),
            until,
            ..self
        }
    }

    /// What it is above is a sum: when that falls to the bound is known.
    pub(super) const fn until_it_falls(self) -> Self {
        Self {
            by_expiry: false,
            ..self
        }
    }

    /// Nothing has changed.
    #[inline]
    pub(super) fn holds(&self, now: Time, key: &Key, flow: &Flow) -> bool {
        now < self.until
            && match &self.gate {
                Gate::Open => false,
                Gate::Within(bounds, evidence) => bounds.hold(key) && evidence.is_enough(key),
                Gate::Above(bound, evidence, cost) => {
                    flow.cost < *cost && !bound.holds(key) && evidence.is_enough(key)
                }
            }
    }
}

/// So many watches that lie side by side are asked as one: tellers with limits that are near each other mostly hold together.
const TOGETHER: usize = 16;

/// Watches that are asked as one.
#[derive(Debug, Clone, Copy, Default)]
enum Block {
    /// They have to be asked one by one.
    #[default]
    Unknown,
    /// All of them hold while this does.
    Within(Common),
}

/// What all of some watches need at most.
#[derive(Debug, Clone, Copy)]
struct Common {
    until: Time,
    /// The lowest of the bounds that they are within.
    within: Option<Bound>,
    /// The highest of the bounds that they are above.
    above: Option<Bound>,
    /// The least that the stream may have cost by then.
    cost: PicoUsd,
    /// One of them has to look at each miss.
    of_misses: bool,
}

impl Common {
    /// Nothing that is asked for more than this of so many watches; none if that takes more than one bound for each side.
    fn of(watches: &[Watch]) -> Option<Self> {
        let mut common = Self {
            until: Time(i64::MAX),
            within: None,
            above: None,
            cost: NEVER,
            of_misses: false,
        };
        for watch in watches {
            common.of_misses |= watch.of_misses;
            common.until = common.until.min(watch.until);
            match &watch.gate {
                Gate::Open => return None,
                Gate::Within(bounds, evidence) => {
                    if !evidence.is_none() {
                        return None;
                    }
                    for bound in bounds.each() {
                        common.within = Some(match common.within {
                            Some(known) => known.of_like(bound)?.min(bound),
                            None => bound,
                        });
                    }
                }
                Gate::Above(bound, evidence, cost) => {
                    if !evidence.is_none() {
                        return None;
                    }
                    common.above = Some(match common.above {
                        Some(known) => known.of_like(*bound)?.max(*bound),
                        None => *bound,
                    });
                    common.cost = common.cost.min(*cost);
                }
            }
        }
        Some(common)
    }

    #[inline]
    fn holds(&self, now: Time, key: &Key, flow: &Flow) -> bool {
        now < self.until
            && flow.cost < self.cost
            && self.within.is_none_or(|bound| bound.holds(key))
            && self.above.is_none_or(|bound| !bound.holds(key))
    }
}

/// The watches of all tellers.
#[derive(Debug, Clone, Default)]
pub(in crate::monitor) struct Watches {
    pub(in crate::monitor) flow: Flow,
    all: Vec<Watch>,
    blocks: Vec<Block>,
    /// Those that are to be worked out anew.
    stale: Vec<usize>,
    next: Next,
}

/// Those who have to look at this moment.
#[derive(Debug, Clone, Copy)]
pub(in crate::monitor) struct Looking {
    /// Those of the stale from here on.
    from: usize,
    to: usize,
}

impl Looking {
    /// Nobody has to.
    pub(super) const fn is_empty(self) -> bool {
        self.from == self.to
    }
}

/// Why it is asked who has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::monitor) enum Look {
    /// Time has moved on, and nothing has come.
    Tick,
    /// Something has come.
    Plain,
    /// A response has come that missed the cache, or shows that others did.
    Miss,
}

impl Look {
    /// A response has come.
    pub(in crate::monitor) const fn after(is_miss: bool) -> Self {
        if is_miss { Self::Miss } else { Self::Plain }
    }
}

/// When any of them has to look if nothing comes: then, or later.
#[derive(Debug, Clone, Default)]
struct Next {
    second: Option<i64>,
    /// What leaves windows may have one look before.
    by_expiry: bool,
    /// The first that falls in each window.
    falling: Vec<Bound>,
}

impl Watches {
    /// Nothing is known of so many tellers.
    pub(in crate::monitor) fn forget(&mut self, tellers: usize) {
        self.all.clear();
        self.all.resize(tellers, Watch::open(i64::MAX));
        self.blocks.clear();
        self.blocks
            .resize(tellers.div_ceil(TOGETHER), Block::Unknown);
        self.stale.clear();
        self.stale.extend(0..tellers);
        self.next = Next::default();
    }

    /// Nothing is known of a teller any more.
    pub(in crate::monitor) fn open(&mut self, teller: usize) {
        self.all[teller].gate = Gate::Open;
        self.blocks[teller / TOGETHER] = Block::Unknown;
        self.stale.push(teller);
    }

    /// Notes that somebody looks, and opens the watches of those who have to.
    pub(in crate::monitor) fn look(&mut self, now: Time, key: &Key, look: Look) -> Looking {
        let first = self.stale.len();
        self.flow.look(now);
        let is_miss = look == Look::Miss;
        let blocks = self.all.chunks_mut(TOGETHER).zip(&mut self.blocks);
        for (nth, (watches, block)) in blocks.enumerate() {
            if let Block::Within(common) = block
                && !(is_miss && common.of_misses)
                && common.holds(now, key, &self.flow)
            {
                continue;
            }
            let known = self.stale.len();
            for (teller, watch) in watches.iter_mut().enumerate() {
                if (is_miss && watch.of_misses) || !watch.holds(now, key, &self.flow) {
                    watch.gate = Gate::Open;
                    self.stale.push(nth * TOGETHER + teller);
                }
            }
            let all_hold = self.stale.len() == known;
            let common = all_hold.then(|| Common::of(watches)).flatten();
            *block = common.map_or(Block::Unknown, Block::Within);
        }
        if look == Look::Tick && self.stale.len() == first {
            // It was too early.
            self.next = Next::of(&self.all);
        }
        Looking {
            from: first,
            to: self.stale.len(),
        }
    }

    /// One of those who have to look.
    pub(super) fn take(&self, looking: &mut Looking) -> Option<usize> {
        let nth = looking.from;
        (nth < looking.to).then(|| {
            looking.from += 1;
            self.stale[nth]
        })
    }

    /// One of them, which is no longer.
    pub(super) fn take_stale(&mut self) -> Option<usize> {
        self.stale.pop()
    }

    /// What was worked out.
    pub(super) fn set(&mut self, teller: usize, watch: Watch) {
        self.all[teller] = watch;
        self.blocks[teller / TOGETHER] = Block::Unknown;
        self.next.add(&watch);
    }

    /// What leaves windows may have one of them look.
    pub(super) const fn look_by_expiry(&self) -> bool {
        self.next.by_expiry
    }

    /// The next second after `now` at which one of them may have to look if nothing comes.
    pub(super) fn next(&mut self, key: &Key, now: i64, next_expiry: Option<i64>) -> Option<i64> {
        if self.next.second.is_some_and(|second| second <= now) {
            self.next = Next::of(&self.all);
        }
        let next = &self.next;
        let falling = next.falling.iter().filter_map(|bound| bound.holds_at(key));
        let expiry = next_expiry.filter(|_| next.by_expiry);
        let all = falling.chain(next.second).chain(expiry);
        all.filter(|second| *second > now).min()
    }
}

impl Next {
    fn of(all: &[Watch]) -> Self {
        let mut next = Self::default();
        for watch in all {
            next.add(watch);
        }
        next
    }

    fn add(&mut self, watch: &Watch) {
        if watch.next < i64::MAX {
            let second = self.second.unwrap_or(i64::MAX);
            self.second = Some(second.min(watch.next));
        }
        self.by_expiry |= watch.by_expiry;
        let Gate::Above(bound, ..) = watch.gate else {
            return;
        };
        if watch.by_expiry {
            return;
        }
        match self.falling.iter_mut().find(|b| b.window == bound.window) {
            Some(known) => *known = known.max(bound),
            None => self.falling.push(bound),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::record::Labels;
    use proptest::prelude::*;
    use std::sync::Arc;

    proptest! {
        /// An episode that is brought up to what has come now and then is as one that each response was added to.
        #[test]
        fn what_comes_adds_up_however_seldom_one_asks(
            pauses in prop::collection::vec((0_i64..100, 0_i64..40, any::<bool>()), 1..80),
            begins_after in 0_usize..20,
        ) {
            let mut flow = Flow::default();
            let mut now = Time::from_secs(1_000_000);
            let mut kept: Option<(Episode, Episode, Flow)> = None;
            for (n, (pause, late, asks)) in pauses.into_iter().enumerate() {
                now = now.plus_secs(pause);
                if n == begins_after {
                    let mut episode = Episode::new(0, now, 0, Arc::new(Labels::default()));
                    episode.last_minute = now.minute();
                    kept = Some((episode.clone(), episode, flow));
                }
                let (at, cost) = (now.plus_secs(-late), PicoUsd(i128::from(pause) + 1));
                flow.add(at, cost, now);
                let Some((each, settled, seen)) = &mut kept else {
                    continue;
                };
                each.exposed += cost;
                each.requests += 1;
                each.last_evidence = now;
                each.note_minute(at);
                if asks || !seen.is_in_step(settled) {
                    flow.accrue(seen, settled);
                    *seen = flow;
                    prop_assert_eq!(&*each, &*settled);
                }
            }
        }
    }
}
