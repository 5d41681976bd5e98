//! Finds the blind spots of a running `tail`: logs that are gone or say nothing any more, reading that falls behind, responses that
//! come too late, a state or a stream that cannot be written. What becomes of them is the evaluator's business; what is no alert is
//! said once.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Tail;
use crate::config::write_duration;
use crate::monitor::{BlindSpot, Time};
use crate::pipeline::LateSource;
use crate::sink::{count, duration};
use crate::source::{Input, MAX_LINE_BYTES, Source};

/// A named log may be gone for so long: rotation takes less.
const GONE_FOR: Duration = Duration::from_mins(1);

/// Reading may be behind for so long.
const BEHIND_FOR: Duration = Duration::from_secs(30);

/// The state may fail to be written for so long.
const UNWRITTEN_FOR: Duration = Duration::from_mins(1);

/// A log that gave records may say nothing for so long, if it grows by so much.
const DRY_MS: i64 = 600_000;

/// Responses that come too late have to come in over so long.
const LATE_MS: i64 = 30_000;

/// Nobody waits for responses for so long.
const LONG_MS: i64 = 3_600_000;

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
    /// Logs whose responses come too late.
    late: HashSet<Arc<str>>,
}

impl Watchdog {
    /// There was more to read than one turn takes.
    pub(super) const fn is_behind(&self) -> bool {
        self.behind_since.is_some()
    }
}

fn spot(kind: &str, source: &str) -> BlindSpot {
    BlindSpot {
        kind: kind.to_owned(),
        source: Arc::from(source),
    }
}

/// What a source is called in a sentence.
fn called(source: &str) -> &str {
    if source == "-" {
        "standard input"
    } else {
        source
    }
}

/// What is wrong with such a log, and what to do.
fn in_words(late: &LateSource) -> String {
    let source = called(&late.source);
    if let Some(zone) = late.zone_ms() {
        return format!(
            "the times in {source} lie {} back, and rules with shorter windows do not see its responses: are they of another zone? if they name none, --assume-tz does; else its clock or ours is wrong",
            duration(zone / 1000)
        );
    }
    let (least, most) = late.lag_ms;
    let way_out = if most < LONG_MS {
        // A minute more than the latest so far.
        let wait = write_duration((most / 60_000 + 2) * 60);
        format!("--lateness {wait} waits for them; what ends is told so much later then")
    } else {
        "is the clock right that stamps them, and the place that their time is read from (--time-field)?".to_owned()
    };
    format!(
        "{} of the last {} responses in {source} came {} to {} after their time, and rules with shorter windows do not see them: {way_out}",
        count(late.late),
        count(late.responses),
        duration(least / 1000),
        duration(most / 1000),
    )
}

impl Tail<'_> {
    /// Notes whether there was more to read than one turn takes.
    pub(super) fn note_progress(&mut self, is_behind: bool, now: Instant) {
        let since = &mut self.watchdog.behind_since;
        *since = is_behind.then(|| since.unwrap_or(now));
    }

    /// Looks for blind spots, once a second.
    pub(super) fn look_for_blind_spots(&mut self, now: Instant, wall: Time, source: &impl Source) {
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
        self.say_impossible(wall);
        self.look_for_unwritten(now);
        self.look_for_broken_hook();
        self.look_for_lost_output();
        self.say_oversize(source);
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
        // Of logs that are followed one may be another's. If none has ever given anything, it is no alert, but no secret.
        if !dry.is_empty() && !self.said.no_usage && !self.pipeline.intake.has_given() {
            let counts = self.pipeline.intake.counts().clone();
            self.say_no_usage(&counts);
        }
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
                    Some(pointer) => {
                        format!("--usage-field {pointer} leads to no usage object in any of them")
                    }
                    None => "has its format changed? name the place with --usage-field".to_owned(),
                };
                format!(
                    "{} gave responses before and none in its last {} lines; {way_out}",
                    called(&dry.source),
                    count(dry.lines)
                )
            };
            let place = spot("dry", &dry.source);
            self.pipeline.evaluator.set_blind(&place, Some(text));
        }
    }

    /// Logs whose responses come so long after their time that rules do not see them.
    fn look_for_late(&mut self, wall: Time) {
        let evaluator = &mut self.pipeline.evaluator;
        self.delay_secs = self.pipeline.lags.delay_secs();
        let over = LATE_MS / i64::from(self.options.haste);
        let late = self.pipeline.lags.late_sources(wall, over);
        let now_late: HashSet<Arc<str>> =
            late.iter().map(|late| Arc::clone(&late.source)).collect();
        for source in self.watchdog.late.difference(&now_late) {
            evaluator.set_blind(&spot("late", source), None);
        }
        self.watchdog.late = now_late;
        for late in late {
            evaluator.set_blind(&spot("late", &late.source), Some(in_words(&late)));
        }
    }

    /// Says once of a log that its times cannot be.
    fn say_impossible(&mut self, wall: Time) {
        let zone = self.options.output.stderr.clock;
        for (source, time) in self.pipeline.lags.take_impossible() {
            let fault = if time > wall {
                "are ahead of this clock"
            } else {
                "cannot be"
            };
            let (source, time) = (called(&source), zone.full(time));
            self.sinks.printer.line(&format!(
                "{source}: its times {fault}, such as {time}; its responses count from their arrival (--assume-tz names the zone of times that name none)"
            ));
        }
    }

    /// Says once that a line was too long to be read.
    fn say_oversize(&mut self, source: &impl Source) {
        if !self.said.oversize && source.stats().oversize_lines > 0 {
            self.said.oversize = true;
            let mib = MAX_LINE_BYTES >> 20;
            self.sinks.printer.line(&format!(
                "skipped: a line over {mib} MiB; what it may have cost is in no sum, and more of them are said at the end"
            ));
        }
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

    /// Streams that cannot be written: whoever reads the other one, or the hook, hears of it.
    fn look_for_lost_output(&mut self) {
        for (stream, trouble) in self.sinks.troubles() {
            let text = trouble.map(|why| {
                format!("{stream} cannot be written ({why}): what should go there is lost")
            });
            let place = spot("output", stream);
            self.pipeline.evaluator.set_blind(&place, text);
        }
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
