//! Lines that are read on another thread while those before them are judged.
//!
//! Knows neither where lines come from nor what their events lead to.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::thread::{Builder, JoinHandle};

use super::intake::{Digest, Intake, IntakeAhead};
use super::{Event, Undated};
use crate::monitor::Time;
use crate::source::{Glance, Line, SourceInfo};

/// Fewer bytes are read sooner than another thread has begun with them.
const WORTH_A_THREAD: usize = 8 << 10;

/// As many are enough for a batch: what more there is may be read meanwhile.
const ENOUGH: usize = 256 << 10;

/// So much memory for bytes is kept from batch to batch.
const KEPT: usize = 1 << 20;

/// When lines were handed over, and what that means for those that do not say when they are of.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The present.
    pub now: Time,
    /// What is done with those without a time.
    pub undated: Undated,
    /// Those before this are old.
    pub oldest: Option<Time>,
    /// They have been written just before.
    pub is_current: bool,
}

impl Default for Moment {
    /// Before all times.
    fn default() -> Self {
        Self {
            now: Time(i64::MIN),
            undated: Undated::TotalsOnly,
            oldest: None,
            is_current: false,
        }
    }
}

/// Lines that were handed over together, and what they came to.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) moment: Moment,
    bytes: Vec<u8>,
    lines: Vec<Place>,
    /// Where they come from, and up to which of them.
    sources: Vec<(Arc<SourceInfo>, usize)>,
    pub(super) stretches: Vec<Stretch>,
}

/// Where a line stands: in its source, and where its bytes end in the batch.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    number: u64,
    end: usize,
}

/// What lines of one source came to, up to one that cannot be understood without those before it.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) source: Arc<SourceInfo>,
    /// What was understood, with its time.
    pub(super) events: Vec<(Option<i64>, Event)>,
    /// What else these lines came to; none if nobody has looked at them.
    pub(super) digest: Option<Digest>,
    /// The line after them, which is left to whoever reads in order.
    pub(super) aside: Option<usize>,
}

impl Stretch {
    fn of(source: &Arc<SourceInfo>) -> Self {
        Self {
            source: Arc::clone(source),
            events: Vec::new(),
            digest: None,
            aside: None,
        }
    }
}

impl Batch {
    fn push(&mut self, line: Line<'_>) {
        self.bytes.extend_from_slice(line.bytes);
        self.lines.push(Place {
            offset: line.offset,
            number: line.number,
            end: self.bytes.len(),
        });
        let n = self.lines.len();
        match self.sources.last_mut() {
            Some((source, end)) if Arc::ptr_eq(source, line.source) => *end = n,
            _ => self.sources.push((Arc::clone(line.source), n)),
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        // A line may be of many megabytes, and stands for no other.
        self.bytes.shrink_to(KEPT);
        self.lines.clear();
        self.sources.clear();
        self.stretches.clear();
    }

    fn bytes_of(&self, nth: usize) -> &[u8] {
        let begin = nth
            .checked_sub(1)
            .map_or(0, |before| self.lines[before].end);
        &self.bytes[begin..self.lines[nth].end]
    }

    pub(super) fn line<'a>(&'a self, nth: usize, source: &'a Arc<SourceInfo>) -> Line<'a> {
        let Place { offset, number, .. } = self.lines[nth];
        Line {
            source,
            offset,
            number,
            bytes: self.bytes_of(nth),
        }
    }

    /// Reads what a glance can read without the lines before it, and leaves the others to whoever reads in order.
    fn read(&mut self, mut glance: Option<&mut IntakeAhead>) {
        if let Some(glance) = &mut glance {
            glance.set_now(self.moment.now);
        }
        let (mut nth, mut stretches) = (0, std::mem::take(&mut self.stretches));
        for (source, end) in &self.sources {
            let mut stretch = Stretch::of(source);
            for nth in nth..*end {
                let (line, events) = (self.line(nth, source), &mut stretch.events);
                if !glance.as_mut().is_some_and(|g| g.line(line, events)) {
                    stretch.aside = Some(nth);
                    stretch.digest = glance.as_mut().map(|glance| glance.digest());
                    stretches.push(std::mem::replace(&mut stretch, Stretch::of(source)));
                }
            }
            nth = *end;
            stretch.digest = glance.as_mut().map(|glance| glance.digest());
            stretches.push(stretch);
        }
        self.stretches = stretches;
    }
}

/// The thread that reads.
#[derive(Debug)]
struct Helper {
    to: Sender<Batch>,
    from: Receiver<Batch>,
    thread: JoinHandle<()>,
    /// So many batches are on their way there and back.
    out: usize,
}

impl Helper {
    /// None if there can be no other thread.
    fn start(mut glance: IntakeAhead) -> Option<Self> {
        let (to, batches) = channel::<Batch>();
        let (back, from) = channel();
        let serve = move || {
            for mut batch in batches {
                batch.read(Some(&mut glance));
                if back.send(batch).is_err() {
                    break;
                }
            }
        };
        let thread = Builder::new().name("reader".to_owned()).spawn(serve).ok()?;
        Some(Self {
            to,
            from,
            thread,
            out: 0,
        })
    }
}

/// Lines on their way to the thread that reads, and back.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// What is handed over next.
    next: Batch,
    /// What is left to whoever reads in order.
    here: Option<Batch>,
    /// What was judged, for its memory.
    spare: Vec<Batch>,
    helper: Option<Helper>,
}

impl Ahead {
    /// Takes a line, to be read with those before it that wait. True if they are enough for a batch.
    pub(super) fn push(&mut self, line: Line<'_>) -> bool {
        self.next.push(line);
        self.next.bytes.len() >= ENOUGH
    }

    /// How many batches are being read.
    pub(super) fn out(&self) -> usize {
        self.helper.as_ref().map_or(0, |helper| helper.out)
    }

    /// Has read what waits: by another thread if more is there already, so that it is worth it, or if that is at it anyway.
    pub(super) fn send(&mut self, moment: Moment, more: bool, intake: &Intake) {
        if self.next.lines.is_empty() {
            return;
        }
        let spare = self.spare.pop().unwrap_or_default();
        let mut batch = std::mem::replace(&mut self.next, spare);
        batch.moment = moment;
        let is_worth_it = more && batch.bytes.len() >= WORTH_A_THREAD;
        if is_worth_it && self.helper.is_none() {
            self.helper = Helper::start(intake.ahead(moment.now));
        }
        let helper = self.helper.as_mut();
        if let Some(helper) = helper.filter(|helper| is_worth_it || helper.out > 0) {
            match helper.to.send(batch) {
                Ok(()) => {
                    helper.out += 1;
                    return;
                }
                Err(SendError(unsent)) => batch = unsent,
            }
        }
        batch.read(None);
        self.here = Some(batch);
    }

    /// The oldest batch that was not judged yet; waits until it is read.
    pub(super) fn take(&mut self) -> Option<Batch> {
        if let Some(helper) = self.helper.as_mut().filter(|helper| helper.out > 0) {
            helper.out -= 1;
            if let Ok(batch) = helper.from.recv() {
                return Some(batch);
            }
            // It ends only if it failed, as we would have.
            if let Err(failure) = self.helper.take()?.thread.join() {
                std::panic::resume_unwind(failure);
            }
        }
        self.here.take()
    }

    /// Takes back what was judged.
    pub(super) fn give_back(&mut self, mut batch: Batch) {
        batch.clear();
        self.spare.push(batch);
    }
}
