//! Finds the blind spots of a running `tail`: logs that are gone or say nothing any more, reading that falls behind, records
//! that come too late, a state that cannot be written. What becomes of them is the evaluator's business.

use std::collections::{HashMap, HashSet, VecDeque};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Tail;
use crate::config::write_duration;
use crate::monitor::{BlindSpot, Time};
use crate::sink::count;
use crate::source::Input;

/// A named log may be gone for so long: rotation takes less.
const GONE_FOR: Duration = Duration::from_mins(1);

/// Reading may be behind for so long.
const BEHIND_FOR: Duration = Duration::from_secs(30);

/// The state may fail to be written for so long.
const UNWRITTEN_FOR: Duration = Duration::from_mins(1);

/// A log that gave records may say nothing for so long, if it grows by so much.
const DRY_MS: i64 = 600_000;

/// Of the records of so many minutes at least so many are judged.
const LATE_MINUTES: usize = 10;
const LATE_RECORDS: u64 = 20;

/// How often file systems are asked.
const EVERY: Duration = Duration::from_secs(1);

/// What is remembered from look to look.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    last: Option<Instant>,
    /// Named logs that were there, and since when they are not.
    named: HashMap<PathBuf, Option<Instant>>,
    behind_since: Option<Instant>,
    unwritten_since: Option<Instant>,
    /// Logs that say nothing any more.
    dry: HashSet<Arc<str>>,
    /// Minute, and responses and those too late up to then.
    minutes: VecDeque<(i64, u64, u64)>,
}

fn spot(kind: &str, source: &str) -> BlindSpot {
    BlindSpot {
        kind: kind.to_owned(),
        source: Arc::from(source),
    }
}

impl Tail<'_> {
    /// Notes whether there was more to read than one turn takes.
    pub(super) fn note_progress(&mut self, is_behind: bool, now: Instant) {
        let since = &mut self.watchdog.behind_since;
        *since = is_behind.then(|| since.unwrap_or(now));
    }

    /// Looks for blind spots, once a second.
    pub(super) fn look_for_blind_spots(&mut self, now: Instant, wall: Time) {
        if self
            .watchdog
            .last
            .is_some_and(|last| now.duration_since(last) < EVERY)
        {
            return;
        }
        self.watchdog.last = Some(now);
        self.look_for_gone(now);
        self.look_for_behind(now);
        self.look_for_dry(wall);
        self.look_for_late(wall);
        self.look_for_unwritten(now);
        self.look_for_broken_hook();
        self.pipeline.evaluator.step_blind(wall);
    }

    /// Which named logs are there, and which are gone for long.
    pub(super) fn look_for_gone(&mut self, now: Instant) {
        for input in &self.options.inputs {
            let (Input::File(path) | Input::Dir(path)) = input else {
                continue;
            };
            let name = path.display().to_string();
            if path.exists() {
                self.watchdog.named.insert(path.clone(), None);
                self.pipeline
                    .evaluator
                    .set_blind(&spot("gone", &name), None);
                continue;
            }
            let Some(gone) = self.watchdog.named.get_mut(path) else {
                continue;
            };
            let since = *gone.get_or_insert(now);
            if now.duration_since(since) >= GONE_FOR / self.options.haste {
                let text = format!(
                    "{name} is gone for a minute and nothing has come in its place; what its service writes now is not seen"
                );
                self.pipeline
                    .evaluator
                    .set_blind(&spot("gone", &name), Some(text));
            }
        }
    }

    fn look_for_behind(&mut self, now: Instant) {
        let behind = self
            .watchdog
            .behind_since
            .filter(|since| now.duration_since(*since) >= BEHIND_FOR / self.options.haste);

        let text = behind.map(|since| {
            let secs = i64::try_from(now.duration_since(since).as_secs()).unwrap_or(0);
            format!(
                "reading has been behind for {}: logs grow faster than they are read, and alerts come late",
                write_duration(secs)
            )
        });
        self.pipeline.evaluator.set_blind(&spot("behind", ""), text);
    }

    fn look_for_dry(&mut self, wall: Time) {
        let after = DRY_MS / i64::from(self.options.haste);
        let mut dry = self.pipeline.intake.dry_sources();
        dry.retain(|dry| dry.is_suspicious && wall.millis_since(dry.since) >= after);
        let now_dry: HashSet<Arc<str>> = dry.iter().map(|dry| Arc::clone(&dry.source)).collect();
        for source in self.watchdog.dry.difference(&now_dry) {
            self.pipeline
                .evaluator
                .set_blind(&spot("dry", source), None);
        }
        self.watchdog.dry = now_dry;
        for dry in dry {
            let text = {
                let way_out = match &self.options.parse.usage_field {
                    Some(pointer) => format!("--usage-field {pointer} leads nowhere in them"),
                    None => "has its format changed? name the place with --usage-field".to_owned(),
                };
                format!(
                    "{} gave responses before and none in its last {} lines; {way_out}",
                    dry.source,
                    count(dry.lines)
                )
            };
            let place = spot("dry", &dry.source);
            self.pipeline.evaluator.set_blind(&place, Some(text));
        }
    }

    fn look_for_late(&mut self, wall: Time) {
        let totals = self.pipeline.evaluator.totals();
        let (records, too_late) = (totals.records, totals.too_late);
        let minutes = &mut self.watchdog.minutes;
        if minutes
            .back()
            .is_none_or(|(minute, ..)| *minute != wall.minute())
        {
            minutes.push_back((wall.minute(), records, too_late));
        }
        while minutes.len() > LATE_MINUTES + 1 {
            minutes.pop_front();
        }
        let (_, records_before, late_before) = minutes.front().copied().unwrap_or_default();
        let records = records.saturating_sub(records_before);
        let too_late = too_late.saturating_sub(late_before);
        let is_late = records >= LATE_RECORDS && too_late * 2 > records;
        let text = is_late.then(|| {
            format!(
                "{} of the last {} responses came too late for any window: raise --lateness, or --assume-tz if their clock is hours off",
                count(too_late),
                count(records)
            )
        });
        self.pipeline.evaluator.set_blind(&spot("late", ""), text);
    }

    fn look_for_broken_hook(&mut self) {
        let Some(outcomes) = self.sinks.hook_outcomes() else {
            return;
        };
        let text = outcomes.broken.then(|| {
            "the hook failed five times in a row and rests for a minute: its notices wait, and who relies on it hears nothing".to_owned()
        });
        self.pipeline.evaluator.set_blind(&spot("hook", ""), text);
    }

    fn look_for_unwritten(&mut self, now: Instant) {
        let Some(keeper) = &self.keeper else { return };
        let error = keeper.file.written().error;
        let since = &mut self.watchdog.unwritten_since;
        *since = error.is_some().then(|| since.unwrap_or(now));
        let long = since
            .is_some_and(|since| now.duration_since(since) >= UNWRITTEN_FOR / self.options.haste);

        let text = error.filter(|_| long).map(|error| {
            format!("the state has not been written for a minute ({error}): a restart would go back to the last one that was")
        });
        self.pipeline.evaluator.set_blind(&spot("state", ""), text);
    }
}
