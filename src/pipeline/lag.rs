//! How far the times of responses lie from the moment at which they were read.
//!
//! A log whose times are of another zone, or whose lines come long after what they tell of, is read without a fault while rules
//! see nothing of it; of one whose responses take a while to come they see less than there is. Knows neither rules nor clocks; what
//! is made of it is for others to say.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::monitor::{Stamp, Time};

/// What is known of late responses is of so many minutes.
const MINUTES: i64 = 10;

/// How long responses take to come is known of so many minutes that had any.
const DELAY_MINUTES: usize = 10;

/// Fewer responses than this tell nothing of what comes too late, unless all of them lie as far back as zones lie apart.
const ENOUGH: u64 = 20;
const A_FEW: u64 = 5;

/// Zones lie apart by multiples of this.
const ZONE_STEP_MS: i64 = 15 * 60_000;

/// Responses are written so soon after their time that they all seem to lie back equally far.
const WRITTEN_WITHIN_MS: i64 = 2 * 60_000;

/// What comes later than this tells of the past, and not of how long responses take to come.
const PAST_MS: i64 = 5 * 60_000;

/// Ticks wait no longer than this for responses.
const MOST_DELAY_SECS: usize = 60;

/// How many of the responses of a minute came within which whole second after their time; the last stands for all beyond.
type Delays = [u32; MOST_DELAY_SECS + 1];

/// The responses of a minute that came too late.
#[derive(Debug, Clone, Copy, Default)]
struct Minute {
    at: i64,
    responses: u64,
    late: u64,
    /// When the first and the last of those that were late came.
    came: (i64, i64),
    /// How late they were: least and most.
    lags: (i64, i64),
}

/// What is known of a source.
#[derive(Debug, Default)]
struct Place {
    minutes: VecDeque<Minute>,
    /// Responses whose time cannot be: how many, and the last of these times.
    impossible: Option<(u64, Time)>,
    /// These were given out.
    is_said: bool,
}

/// A source of which most responses come too late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateSource {
    /// File or pipe.
    pub source: Arc<str>,
    /// Responses of the last ten minutes.
    pub responses: u64,
    /// Those that came too late.
    pub late: u64,
    /// How many milliseconds after their time they came: least and most.
    pub lag_ms: (i64, i64),
}

impl LateSource {
    /// All lie back by the same multiple of a quarter of an hour, in milliseconds: as they do where a zone is taken for another.
    pub fn zone_ms(&self) -> Option<i64> {
        let (least, most) = self.lag_ms;
        let zone = (least + ZONE_STEP_MS / 2).div_euclid(ZONE_STEP_MS) * ZONE_STEP_MS;
        // A clock may go ahead of another by a little.
        let is_near = (least - zone).abs() <= WRITTEN_WITHIN_MS / 2;
        let is_of_zone = zone > 0 && is_near && most - least <= WRITTEN_WITHIN_MS;
        (is_of_zone && self.late == self.responses).then_some(zone)
    }
}

/// What is known of all sources.
#[derive(Debug)]
pub struct Lags {
    places: FxHashMap<Arc<str>, Place>,
    /// Minute by minute, of all sources: ticks are of all of them.
    delays: VecDeque<(i64, Delays)>,
    /// What comes later than this, in milliseconds, is too late.
    most_ms: i64,
    /// What is read has been written just now.
    is_current: bool,
}

impl Lags {
    /// Nothing is known. What comes more than so many seconds after its time is too late.
    pub fn beyond(secs: i64) -> Self {
        Self {
            places: FxHashMap::default(),
            delays: VecDeque::new(),
            most_ms: secs.saturating_mul(1000),
            is_current: false,
        }
    }

    /// Whether what is read from now on has been written just before. Otherwise it is late through no fault of its own.
    pub const fn watch(&mut self, is_current: bool) {
        self.is_current = is_current;
    }

    /// Notes a response that was written while somebody watched, and is no copy.
    pub fn note(&mut self, source: &Arc<str>, stamp: Stamp, now: Time) {
        if !self.is_current {
            return;
        }
        if !self.places.contains_key(source) {
            self.places.insert(Arc::clone(source), Place::default());
        }
        let Some(place) = self.places.get_mut(source) else {
            return;
        };
        let minutes = &mut place.minutes;
        if minutes.back().is_none_or(|last| last.at != now.minute()) {
            minutes.push_back(Minute {
                at: now.minute(),
                ..Minute::default()
            });
        }
        let Some(minute) = minutes.back_mut() else {
            return;
        };
        minute.responses += 1;
        let lag = match stamp {
            Stamp::At(time) => now.millis_since(time),
            Stamp::Impossible(time) => {
                let (n, _) = place.impossible.unwrap_or((0, time));
                place.impossible = Some((n + 1, time));
                return;
            }
            Stamp::Undated => return,
        };
        if lag <= PAST_MS {
            note_delay(&mut self.delays, now, lag);
        }
        if lag <= self.most_ms {
            return;
        }
        if minute.late == 0 {
            minute.came = (now.0, now.0);
            minute.lags = (lag, lag);
        }
        let (least, most) = minute.lags;
        minute.lags = (least.min(lag), most.max(lag));
        minute.came.1 = now.0;
        minute.late += 1;
    }

    /// How many seconds after their time nine of ten responses of the last ten minutes with any came, a minute at most. Ticks that
    /// follow the clock by less leave them behind: a window of a minute would hold half of what comes half a minute late.
    pub fn delay_secs(&self) -> i64 {
        let within = |secs: usize| -> u64 {
            let counts = self.delays.iter().flat_map(|(_, delays)| &delays[..=secs]);
            counts.map(|n| u64::from(*n)).sum()
        };
        let all = within(MOST_DELAY_SECS);
        if all < A_FEW {
            return 0;
        }
        let secs = (0..MOST_DELAY_SECS).find(|secs| within(*secs) * 10 >= all * 9);
        i64::try_from(secs.unwrap_or(MOST_DELAY_SECS)).unwrap_or(0)
    }

    /// The sources of which more than half of the responses of the last ten minutes came too late, those over so many milliseconds
    /// at least: an old log that somebody puts beside the others is read in less.
    pub fn late_sources(&mut self, now: Time, over_ms: i64) -> Vec<LateSource> {
        let oldest = now.minute() - MINUTES;
        for place in self.places.values_mut() {
            let minutes = &mut place.minutes;
            while minutes.front().is_some_and(|minute| minute.at < oldest) {
                minutes.pop_front();
            }
        }
        self.places
            .retain(|_, place| place.is_said || !place.minutes.is_empty());
        let late =
            |(source, place): (&Arc<str>, &Place)| late_source(source, &place.minutes, over_ms);
        let mut late: Vec<LateSource> = self.places.iter().filter_map(late).collect();
        late.sort_by(|a, b| a.source.cmp(&b.source));
        late
    }

    /// The sources of which several responses name a time that cannot be, with the last of them. Each is given once.
    pub fn take_impossible(&mut self) -> Vec<(Arc<str>, Time)> {
        let mut impossible = Vec::new();
        for (source, place) in &mut self.places {
            let enough = place.impossible.filter(|(n, _)| *n >= A_FEW);
            if let Some((_, time)) = enough.filter(|_| !place.is_said) {
                place.is_said = true;
                impossible.push((Arc::clone(source), time));
            }
        }
        impossible
    }

    /// Somebody has set a clock, or slept: what was known says nothing any more.
    pub fn forget(&mut self) {
        self.delays.clear();
        for place in self.places.values_mut() {
            place.minutes.clear();
        }
    }
}

fn note_delay(delays: &mut VecDeque<(i64, Delays)>, now: Time, lag_ms: i64) {
    let minute = now.minute();
    if delays.back().is_none_or(|(last, _)| *last != minute) {
        delays.push_back((minute, [0; MOST_DELAY_SECS + 1]));
        if delays.len() > DELAY_MINUTES {
            delays.pop_front();
        }
    }
    // What comes within a second needs a whole one.
    let secs = usize::try_from((lag_ms + 999).div_euclid(1000)).unwrap_or(0);
    if let Some((_, delays)) = delays.back_mut() {
        delays[secs.min(MOST_DELAY_SECS)] += 1;
    }
}

fn late_source(source: &Arc<str>, minutes: &VecDeque<Minute>, over_ms: i64) -> Option<LateSource> {
    let with_late = || minutes.iter().filter(|minute| minute.late > 0);
    let (first, last) = (with_late().next()?, with_late().next_back()?);
    let late = LateSource {
        source: Arc::clone(source),
        responses: minutes.iter().map(|minute| minute.responses).sum(),
        late: minutes.iter().map(|minute| minute.late).sum(),
        lag_ms: with_late().fold((i64::MAX, 0), |(least, most), minute| {
            (least.min(minute.lags.0), most.max(minute.lags.1))
        }),
    };
    let enough = if late.zone_ms().is_some() {
        A_FEW
    } else {
        ENOUGH
    };
    let took = last.came.1 - first.came.0;
    let is_late = late.responses >= enough && late.late * 2 > late.responses && took >= over_ms;
    is_late.then_some(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const START: Time = Time(1_795_428_000_000);

    /// A source whose responses come every few seconds, each so many milliseconds after its time.
    fn lags(every_secs: i64, lags_ms: &[i64]) -> (Lags, Time) {
        let mut lags = Lags::beyond(62);
        lags.watch(true);
        let mut now = START;
        for lag in lags_ms {
            now = now.plus_secs(every_secs);
            lags.note(&"app.log".into(), Stamp::At(Time(now.0 - lag)), now);
        }
        (lags, now)
    }

    #[test]
    fn a_zone_that_is_taken_for_another_is_seen_by_five_responses() {
        let (mut seen, now) = lags(
            10,
            &[HOUR_MS + 300, HOUR_MS + 40_000, HOUR_MS, HOUR_MS - 900],
        );
        assert!(seen.late_sources(now, 30_000).is_empty());
        let (mut seen, now) = lags(
            10,
            &[HOUR_MS, HOUR_MS + 40_000, HOUR_MS, HOUR_MS, HOUR_MS - 900],
        );
        let late = seen.late_sources(now, 30_000);
        assert_eq!(late.len(), 1);
        assert_eq!(late[0].zone_ms(), Some(HOUR_MS));
        // Half an hour and three quarters are zones too, seven minutes are none.
        for (minutes, is_zone) in [(30, true), (5 * 60 + 45, true), (7, false)] {
            let lag = minutes * 60_000;
            let (mut seen, now) = lags(10, &[lag; 25]);
            let zone = seen.late_sources(now, 30_000)[0].zone_ms();
            assert_eq!(zone, is_zone.then_some(lag));
        }
    }

    #[test]
    fn what_comes_late_now_and_then_or_all_at_once_is_no_news() {
        // As many in time as late.
        let half: Vec<i64> = (0..40)
            .map(|n| if n % 2 == 0 { 90_000 } else { 50 })
            .collect();
        let (mut seen, now) = lags(3, &half);
        assert!(seen.late_sources(now, 30_000).is_empty());
        // An old log that is read at once.
        let old: Vec<i64> = (0..1000).map(|n| 90 * HOUR_MS - n * 60_000).collect();
        let (mut seen, now) = lags(0, &old);
        assert!(seen.late_sources(now, 30_000).is_empty());
        // The same over half a minute, and not any more when that was long ago.
        let (mut seen, now) = lags(2, &old[..20]);
        let late = seen.late_sources(now, 30_000);
        assert_eq!(late[0].zone_ms(), None);
        assert_eq!((late[0].late, late[0].responses), (20, 20));
        assert_eq!(late[0].lag_ms, (90 * HOUR_MS - 19 * 60_000, 90 * HOUR_MS));
        assert!(seen.late_sources(now.plus_secs(700), 30_000).is_empty());
        assert!(seen.places.is_empty());
    }

    #[test]
    fn a_delay_is_that_of_nine_in_ten_and_a_minute_at_most() {
        let secs = |lags_ms: &[i64]| {
            let (seen, _) = lags(1, lags_ms);
            seen.delay_secs()
        };
        assert_eq!(secs(&[30_000; 4]), 0);
        assert_eq!(secs(&[30_000; 5]), 30);
        assert_eq!(secs(&[29_001; 50]), 30);
        assert_eq!(secs(&[90_000; 50]), 60);
        // A clock that is ahead by a little; what tells of the past.
        assert_eq!(secs(&[-200; 50]), 0);
        assert_eq!(secs(&[HOUR_MS; 50]), 0);
        let mut mixed = vec![400; 45];
        mixed.extend([40_000; 5]);
        assert_eq!(secs(&mixed), 1);
        mixed.push(40_000);
        assert_eq!(secs(&mixed), 40);
        // Ten minutes that had responses.
        let mut quicker = vec![30_000; 60];
        quicker.extend([500; 11]);
        let (seen, _) = lags(60, &quicker);
        assert_eq!(seen.delay_secs(), 1);
    }

    #[test]
    fn times_that_cannot_be_are_said_once() {
        let mut lags = Lags::beyond(62);
        lags.watch(true);
        let ahead = |n: i64| Stamp::Impossible(START.plus_secs(3600 + n));
        for n in 0..4 {
            lags.note(&"app.log".into(), ahead(n), START);
        }
        assert!(lags.take_impossible().is_empty());
        lags.note(&"app.log".into(), ahead(4), START);
        let said = vec![(Arc::from("app.log"), START.plus_secs(3604))];
        assert_eq!(lags.take_impossible(), said);
        lags.note(&"app.log".into(), ahead(5), START);
        assert!(lags.late_sources(START.plus_secs(7000), 30_000).is_empty());
        assert!(lags.take_impossible().is_empty());
    }
}
