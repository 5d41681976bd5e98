//! History that is read without a word: what is on disk when `tail` starts, and what rules are explained by.
//!
//! Does not know where lines come from or who wants to know.

use std::sync::Arc;

use super::{Digest, Event, IntakeAhead, Pipeline, Undated};
use crate::monitor::Time;
use crate::parse::is_complete;
use crate::source::{Decode, Line, SourceInfo};

/// Feeds history to a pipeline.
pub struct Silent<'a> {
    /// Which.
    pub pipeline: &'a mut Pipeline,
    /// The present.
    pub now: Time,
    /// Records before this are old.
    pub oldest: Option<Time>,
}

impl Decode for Silent<'_> {
    type Item = Event;
    type Glance = IntakeAhead;

    fn glance(&self) -> Option<IntakeAhead> {
        Some(self.pipeline.intake.ahead(self.now))
    }

    fn digest(&mut self, source: &Arc<SourceInfo>, digest: Digest, last: Option<i64>) {
        let intake = &mut self.pipeline.intake;
        intake.digest(source, &digest, last.map(Time));
    }

    fn line(&mut self, line: Line<'_>, out: &mut Vec<(Option<i64>, Event)>) {
        self.pipeline.intake.line(line, self.now, |event| {
            out.push((event.time().map(|t| t.0), event));
        });
    }

    fn probe(&self, line: Line<'_>) -> Option<i64> {
        let time = self.pipeline.intake.probe(line, self.now);
        time.map(|time| time.0)
    }

    fn is_whole(&self, bytes: &[u8]) -> bool {
        is_complete(bytes)
    }

    fn take(&mut self, _time: Option<i64>, event: Event) {
        self.pipeline.feed(event, Undated::TotalsOnly, self.oldest);
    }
}
