//! History that is read without a word: what is on disk when `tail` starts, and what rules are explained by.
//!
//! Does not know where lines come from or who wants to know.

use super::{Event, Pipeline, Undated};
use crate::monitor::Time;
use crate::parse::is_complete;
use crate::source::{Decode, Line};

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
