//! Lines → events, source by source, and what the lines came to. Does not know what events lead to.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use memchr::memmem::Finder;
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::Event;
use super::build::{Builder, Known};
use super::pool::{Pool, Share};
use crate::monitor::{Stamp, Time, UsageRecord};
use crate::parse::{
    Clock, Item, ParseOptions, Pointer, Reader, Skipped, Spare, Verdict, is_behind_text,
    is_no_object, parse_alone, parse_line,
};
use crate::price::PriceTable;
use crate::source::{Glance, Line, SourceInfo};

/// How many bad lines are shown.
const BAD_LINES_SHOWN: usize = 5;

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// File or pipe.
    pub source: Arc<str>,
    /// Number of the line, from where reading began.
    pub number: u64,
    /// Column of the fault, from 1.
    pub column: usize,
    /// What is wrong, without any text of the line.
    pub reason: String,
}

/// What lines came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Lines that are not blank.
    pub lines: u64,
    /// Lines that could not be read, in whole or in part.
    pub bad: u64,
    /// The first of them.
    pub bad_shown: Vec<BadLine>,
    /// Lines without a response.
    pub no_usage: u64,
    /// Lines with something that looks like a response and is not counted, by reason.
    pub skipped: BTreeMap<Skipped, u64>,
}

/// What reading the next line of a source depends on.
#[derive(Debug)]
struct Place {
    source: Arc<SourceInfo>,
    reader: Reader,
    /// The time of the record before.
    previous: Option<Time>,
    /// The number of the last line.
    number: u64,
    drought: Drought,
}

/// A source that has grown by much without a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrySource {
    /// File or pipe.
    pub source: Arc<str>,
    /// Lines without a response.
    pub lines: u64,
    /// When the first of them was read.
    pub since: Time,
    /// Some of them could not be read, or look as if they should hold a response, and it gave responses before.
    pub is_suspicious: bool,
}

/// So many lines and bytes without a response are much.
const DRY_LINES: u64 = 1000;
const DRY_BYTES: u64 = 1 << 20;

/// So many lines that speak of tokens and cannot be read are enough, however short they are.
const SUSPICIOUS_LINES: u64 = 50;

impl Place {
    fn new(source: &Arc<SourceInfo>) -> Self {
        Self {
            source: Arc::clone(source),
            reader: Reader::default(),
            previous: None,
            number: 0,
            drought: Drought::default(),
        }
    }
}

/// What a source has said since it last gave a response.
#[derive(Debug, Default)]
struct Drought {
    /// It has given a response.
    has_given: bool,
    /// Lines since the last response, their bytes, and since when.
    lines: u64,
    bytes: u64,
    since: Time,
    /// Those of them that cannot be read, or that speak of tokens in a way that is not known.
    suspicious: u64,
}

impl Drought {
    /// Takes in what lines came to that follow these.
    fn go_on(&mut self, later: &Self) {
        if later.has_given {
            (self.lines, self.bytes, self.suspicious) = (0, 0, 0);
            self.has_given = true;
        }
        if self.lines == 0 {
            self.since = later.since;
        }
        self.lines += later.lines;
        self.bytes += later.bytes;
        self.suspicious += later.suspicious;
    }

    /// Notes whether a line held a response.
    fn note(&mut self, verdict: &Verdict, bytes: &[u8], now: Time) {
        match verdict {
            Verdict::Items(_) => {
                self.has_given = true;
                (self.lines, self.bytes) = (0, 0);
                self.suspicious = 0;
            }
            Verdict::Blank | Verdict::Part => {}
            Verdict::NoUsage | Verdict::Skipped(_) | Verdict::Bad { .. } => {
                if self.lines == 0 {
                    self.since = now;
                }
                self.lines += 1;
                self.bytes += bytes.len() as u64;
                self.suspicious += u64::from(match verdict {
                    Verdict::Bad { .. } | Verdict::Skipped(Skipped::OtherDialect) => true,
                    Verdict::NoUsage => speaks_of_tokens(bytes),
                    _ => false,
                });
            }
        }
    }
}

/// Whether a line names a number of tokens; the limit that a request sets is none.
fn speaks_of_tokens(bytes: &[u8]) -> bool {
    static TOKENS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"_tokens"));
    TOKENS
        .find_iter(bytes)
        .any(|at| !bytes[..at].ends_with(b"max"))
}

/// Reads lines into events: parsing, labels, identity, price.
#[derive(Debug)]
pub struct Intake {
    options: Arc<ParseOptions>,
    prices: Arc<PriceTable>,
    known: Known,
    places: FxHashMap<Arc<str>, Place>,
    counts: LineCounts,
    spare: Spare,
    pool: Pool,
    share: Share,
}

impl Intake {
    /// An intake that has read nothing.
    pub fn new(options: ParseOptions, prices: PriceTable) -> Self {
        let pool = Pool::default();
        Self {
            options: Arc::new(options),
            prices: Arc::new(prices),
            known: Known::in_order(),
            places: FxHashMap::default(),
            counts: LineCounts::default(),
            spare: Spare::default(),
            share: Share::of(&pool),
            pool,
        }
    }

    /// What reading the next lines depends on, source by source.
    pub fn memory(&self) -> impl Serialize + '_ {
        let worth_it = |place: &&Place| place.previous.is_some() || !place.reader.is_idle();
        let places = self.places.values().filter(worth_it);
        places
            .map(|place| (&*place.source.name, place.previous, &place.reader))
            .collect::<Vec<_>>()
    }

    /// Takes up what another intake remembered.
    pub fn restore(&mut self, remembered: Vec<(String, Option<Time>, Reader)>) {
        for (name, previous, reader) in remembered {
            let source = SourceInfo::file(Path::new(&name));
            let place = Place {
                reader,
                previous,
                drought: Drought {
                    has_given: previous.is_some(),
                    ..Drought::default()
                },
                ..Place::new(&source)
            };
            self.places.insert(Arc::clone(&source.name), place);
        }
    }

    /// What the lines so far came to.
    pub fn counts(&self) -> &LineCounts {
        &self.counts
    }

    /// Begins counting anew; gives the counts so far.
    pub fn take_counts(&mut self) -> LineCounts {
        std::mem::take(&mut self.counts)
    }

    /// Reads a line. `now` is the present, or the start of a replay.
    pub fn line(&mut self, line: Line<'_>, now: Time, mut emit: impl FnMut(Event)) {
        let name = &line.source.name;
        if !self.places.contains_key(name) {
            self.places
                .insert(Arc::clone(name), Place::new(line.source));
        }
        let Some(place) = self.places.get_mut(name) else {
            return;
        };
        place.number = line.number;
        let clock = Clock {
            now,
            previous: place.previous,
            ambiguous: None,
            zone: self.options.zone,
        };
        let mut build = Builder {
            prices: &self.prices,
            known: &mut self.known,
            share: &mut self.share,
            source: line.source,
        };
        let previous = &mut place.previous;
        let verdict = place.reader.line(
            line.bytes,
            &self.options,
            clock,
            &mut self.spare,
            &mut |item| {
                let event = build.event(item);
                *previous = event.time().or(*previous);
                emit(event);
            },
        );
        place.drought.note(&verdict, line.bytes, now);
        self.counts.note(&verdict, &line);
    }

    /// Something that reads lines on another thread, those that can be understood without the lines before them.
    pub fn ahead(&self, now: Time) -> IntakeAhead {
        IntakeAhead {
            options: Arc::clone(&self.options),
            prices: Arc::clone(&self.prices),
            known: Known::ahead(),
            now,
            spare: Spare::default(),
            share: Share::of(&self.pool),
            digest: Digest::default(),
        }
    }

    /// Where responses are left that were read ahead and are no longer needed.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Takes back a response that is no longer needed, to write over it.
    pub fn give_back(&mut self, record: Box<UsageRecord>) {
        self.share.give_back(record);
    }

    /// Leaves what was taken back to those who read ahead.
    pub(super) fn leave_judged(&mut self) {
        self.share.leave_all();
    }

    /// Takes in what lines came to that were read ahead.
    pub fn digest(&mut self, source: &Arc<SourceInfo>, digest: &Digest, last: Option<Time>) {
        self.counts.add(&digest.counts);
        if digest.counts.lines == 0 {
            return;
        }
        let place = self.places.entry(Arc::clone(&source.name));
        let place = place.or_insert_with(|| Place::new(source));
        place.previous = last.or(place.previous);
        place.drought.go_on(&digest.drought);
    }

    /// Any source has given a response, as far as is remembered.
    pub fn has_given(&self) -> bool {
        self.places.values().any(|place| place.drought.has_given)
    }

    /// Sources that have grown by much without a response, and those that did and have given one since.
    pub fn dry_sources(&self) -> Vec<DrySource> {
        let much = |place: &&Place| {
            (place.drought.lines >= DRY_LINES && place.drought.bytes >= DRY_BYTES)
                || place.drought.suspicious >= SUSPICIOUS_LINES
        };
        let expected =
            |place: &Place| place.drought.has_given || self.options.usage_field.is_some();
        let dry = |place: &Place| DrySource {
            source: Arc::clone(&place.source.name),
            lines: place.drought.lines,
            since: place.drought.since,
            is_suspicious: expected(place)
                && (place.drought.suspicious > 0 || self.options.usage_field.is_some()),
        };
        self.places.values().filter(much).map(dry).collect()
    }

    /// A source has ended: what its last lines left open is handed over.
    pub fn end(&mut self, source: &SourceInfo, mut emit: impl FnMut(Event)) {
        let Some(mut place) = self.places.remove(&source.name) else {
            return;
        };
        let mut build = Builder {
            prices: &self.prices,
            known: &mut self.known,
            share: &mut self.share,
            source: &place.source,
        };
        let cut = place.reader.finish(&mut |item| emit(build.event(item)));
        for _ in 0..cut {
            let reason = "a line that was split over several records has no end";
            let bad = BadLine {
                source: Arc::clone(&place.source.name),
                number: place.number,
                column: 1,
                reason: reason.to_owned(),
            };
            self.counts.note_bad(bad);
        }
    }

    /// All sources have ended.
    pub fn end_all(&mut self, mut emit: impl FnMut(Event)) {
        let mut sources: Vec<Arc<SourceInfo>> = self
            .places
            .values()
            .map(|place| Arc::clone(&place.source))
            .collect();
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        for source in sources {
            self.end(&source, &mut emit);
        }
    }

    /// Hands over the streamed responses that were not heard of for long.
    pub fn expire(&mut self, now: Time, mut emit: impl FnMut(Event)) {
        for place in self.places.values_mut() {
            let mut build = Builder {
                prices: &self.prices,
                known: &mut self.known,
                share: &mut self.share,
                source: &place.source,
            };
            place
                .reader
                .expire(now, &mut |item| emit(build.event(item)));
        }
    }

    /// The time of the first response in a line, without any effect.
    pub fn probe(&self, line: Line<'_>, now: Time) -> Option<Time> {
        let clock = Clock {
            now,
            previous: None,
            ambiguous: None,
            zone: self.options.zone,
        };
        let mut first = None;
        parse_line(line.bytes, &self.options, clock, |item| {
            if let Item::Usage(usage) = item
                && let Stamp::At(time) = usage.stamp
            {
                first = first.or(Some(time));
            }
        });
        first
    }
}

/// Names are shared by so many lines at least. They are counted by whoever holds them, and the thread that judges lines and the
/// one that reads the next ones would wait for each other at every line if they counted on the same ones.
const LINES_OF_A_NAME: u64 = 200;

/// Reads lines ahead.
#[derive(Debug)]
pub struct IntakeAhead {
    options: Arc<ParseOptions>,
    prices: Arc<PriceTable>,
    known: Known,
    now: Time,
    spare: Spare,
    share: Share,
    digest: Digest,
}

/// What lines came to that were read ahead, besides their events.
#[derive(Debug, Default)]
pub struct Digest {
    counts: LineCounts,
    drought: Drought,
}

impl IntakeAhead {
    /// Moves the present on.
    pub(super) const fn set_now(&mut self, now: Time) {
        self.now = now;
    }
}

impl Glance for IntakeAhead {
    type Item = Event;
    type Digest = Digest;

    fn line(&mut self, line: Line<'_>, out: &mut Vec<(Option<i64>, Event)>) -> bool {
        let mut build = Builder {
            prices: &self.prices,
            known: &mut self.known,
            share: &mut self.share,
            source: line.source,
        };
        let mut emit = |item: &Item| {
            let event = build.event(item);
            out.push((event.time().map(|time| time.0), event));
        };
        let spare = &mut self.spare;
        let verdict = parse_alone(line.bytes, &self.options, self.now, spare, &mut emit);
        let Some(verdict) = verdict else {
            return false;
        };
        self.digest.counts.note(&verdict, &line);
        self.digest.drought.note(&verdict, line.bytes, self.now);
        true
    }

    fn digest(&mut self) -> Digest {
        if self.digest.counts.lines > LINES_OF_A_NAME {
            self.known.forget_labels();
        }
        std::mem::take(&mut self.digest)
    }
}

impl LineCounts {
    /// What is to be done where no line held a response.
    pub fn way_out(&self, usage_field: Option<&Pointer>) -> String {
        let is_none_whole = self.bad_shown.iter().all(|bad| is_no_object(&bad.reason));
        // Where most lines are such; a single one may be anything.
        let is_behind_text = self.bad * 2 >= self.lines
            && self.bad_shown.iter().any(|bad| is_behind_text(&bad.reason));
        match usage_field {
            _ if is_behind_text => {
                r"if they stand behind other text, cut off all but the time: sed -uE 's/^([0-9-]+[ T][0-9:.,Z+-]+)?[^{]*/\1 /' FILE | claude-tokmon replay - (a live log: tail -F FILE | sed … | claude-tokmon tail -)".to_owned()
            }
            _ if self.bad == self.lines && is_none_whole => {
                "one whole JSON object must stand on each line (jq -c . FILE makes one of an object that is spread over several)".to_owned()
            }
            _ if self.bad == self.lines => "none of them can be read".to_owned(),
            Some(pointer) => format!("--usage-field {pointer} leads to no usage object in any of them"),
            None => "if there are some, name their place with --usage-field /where/it/stands".to_owned(),
        }
    }

    /// Adds the counts of other lines, of which none is bad.
    fn add(&mut self, other: &Self) {
        self.lines += other.lines;
        self.no_usage += other.no_usage;
        for (reason, n) in &other.skipped {
            *self.skipped.entry(*reason).or_default() += n;
        }
    }

    fn note(&mut self, verdict: &Verdict, line: &Line<'_>) {
        self.lines += u64::from(*verdict != Verdict::Blank);
        match verdict {
            Verdict::Blank | Verdict::Items(_) | Verdict::Part => {}
            Verdict::NoUsage => self.no_usage += 1,
            Verdict::Skipped(reason) => *self.skipped.entry(*reason).or_default() += 1,
            Verdict::Bad { column, reason, .. } => self.note_bad(BadLine {
                source: Arc::clone(&line.source.name),
                number: line.number,
                column: *column,
                reason: reason.clone(),
            }),
        }
    }

    fn note_bad(&mut self, bad: BadLine) {
        self.bad += 1;
        if self.bad_shown.len() < BAD_LINES_SHOWN {
            self.bad_shown.push(bad);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time(1_795_428_000_000);

    fn in_order(lines: &[&str], ahead: bool) -> (Vec<Event>, LineCounts, Vec<DrySource>) {
        let mut intake = Intake::new(ParseOptions::default(), PriceTable::embedded());
        let mut glance = intake.ahead(NOW);
        let source = SourceInfo::file(Path::new("app.log"));
        let mut events = Vec::new();
        for (number, text) in (1..).zip(lines) {
            let line = Line {
                source: &source,
                offset: 0,
                number,
                bytes: text.as_bytes(),
            };
            let mut items = Vec::new();
            if ahead && glance.line(line, &mut items) {
                events.extend(items.into_iter().map(|(_, event)| event));
                continue;
            }
            let last = events.iter().rev().find_map(Event::time);
            intake.digest(&source, &glance.digest(), last);
            intake.line(line, NOW, |event| events.push(event));
        }
        intake.digest(&source, &glance.digest(), None);
        let dry = intake.dry_sources();
        intake.end_all(|event| events.push(event));
        (events, intake.take_counts(), dry)
    }

    proptest! {
        /// What can be read ahead is read as it would be in its place.
        #[test]
        fn reading_ahead_is_reading_in_order(
            picks in prop::collection::vec((0_usize..8, any::<prop::sample::Index>()), 0..200),
        ) {
            let call = r#"{"time":"2026-11-23T09:00:00Z","id":"msg_1","model":"claude-opus-4-7","usage":{"input_tokens":5,"output_tokens":7}}"#;
            let known = [
                call,
                r#"{"time":"2026-11-23 09:00:00","model":"claude-opus-4-7","usage":{"input_tokens":5,"output_tokens":7}}"#,
                r#"{"type":"user","message":{"content":"{\"usage\":{\"input_tokens\":1}}"}}"#,
                r#"{"billed_tokens":5}"#,
                r#"{"usage":{"input_tokens":-1}}"#,
                "not json",
                r#"{"log":"{\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}\n","stream":"stdout"}"#,
                r#"{"type":"error","error":{"type":"overloaded_error"},"request_id":"r","time":"2026-11-23T09:00:00Z"}"#,
            ];
            let cut = |(pick, at): &(usize, prop::sample::Index)| {
                let line = known[*pick];
                // Many are whole, some are cut.
                let end = at.index(2 * line.len()).min(line.len());
                &line[..line.floor_char_boundary(end)]
            };
            let lines: Vec<&str> = picks.iter().map(cut).collect();
            prop_assert_eq!(in_order(&lines, true), in_order(&lines, false));
        }
    }
}
