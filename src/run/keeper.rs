//! What `tail` remembers across restarts: where it is with its files, what it counted, what it told.
//!
//! All of it goes into one snapshot, so that a restart after any end rolls files and counts back together.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Tail;
use crate::config::write_duration;
use crate::monitor::{Remembered, Time};
use crate::parse::Reader;
use crate::source::{FollowerState, Loaded, Source, StateFile};

/// What an earlier run left behind.
#[derive(Default)]
pub(super) struct Before {
    /// Where it was with its files; what it remembered besides is taken up already.
    pub(super) files: Option<FollowerState>,
    /// The episodes that it had told.
    pub(super) told: HashSet<u64>,
}

/// Keeps the state across restarts.
pub(super) struct Keeper {
    pub(super) file: StateFile,
    /// Something has changed since the last snapshot.
    pub(super) dirty: bool,
    /// What was told must not be told again after a restart.
    pub(super) urgent: bool,
    last: Instant,
    last_bytes: usize,
    /// A failure was told and is not over.
    failing: bool,
}

/// Pauses between two snapshots, of a small state and of a large one, and how long hooks may hold one up.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(2);
const LARGE_SNAPSHOT_EVERY: Duration = Duration::from_secs(10);
const LARGE_SNAPSHOT: usize = 1 << 20;
const HOOKS_MAY_HOLD: Duration = Duration::from_mins(1);

impl Keeper {
    pub(super) fn new(file: StateFile) -> Self {
        Self {
            file,
            dirty: true,
            urgent: true,
            last: Instant::now(),
            last_bytes: 0,
            failing: false,
        }
    }

    /// Whether a snapshot is due. What was told counts as told once its hook has run.
    fn is_due(&self, hooks_are_idle: bool) -> bool {
        let age = self.last.elapsed();
        let pause = if self.last_bytes >= LARGE_SNAPSHOT {
            LARGE_SNAPSHOT_EVERY
        } else {
            SNAPSHOT_EVERY
        };
        self.dirty && (self.urgent || age >= pause) && (hooks_are_idle || age >= HOOKS_MAY_HOLD)
    }
}

/// What a snapshot begins with: of use whatever follows.
#[derive(Serialize, Deserialize)]
struct Preface {
    fingerprint: u64,
    told: Vec<u64>,
}

const OTHER_VERSION: &str = "it does not fit this version";

type Recalled = (
    FollowerState,
    Vec<(String, Option<Time>, Reader)>,
    Remembered,
);

impl Tail<'_> {
    /// Takes up what an earlier run remembered, if there is such a thing and it is of use.
    pub(super) fn recall(&mut self) -> Before {
        let Some(keeper) = &self.keeper else {
            return Before::default();
        };
        let name = self.options.state.as_deref().unwrap_or(Path::new(""));
        let name = name.display();
        let history = write_duration(self.options.history_secs());
        let printer = &mut self.sinks.printer;
        let mut say_unusable = |loaded: Loaded| {
            if let Loaded::Unusable { reason, moved_to } = loaded {
                printer.line(&format!(
                    "{name} cannot be used: {reason}; it is now {moved_to}, and the last {history} are read instead"
                ));
            }
        };
        let body = match keeper.file.load() {
            Loaded::Snapshot(body) => body,
            other => {
                say_unusable(other);
                return Before::default();
            }
        };
        let Ok((preface, rest)) = postcard::take_from_bytes::<Preface>(&body) else {
            say_unusable(keeper.file.set_aside(OTHER_VERSION));
            return Before::default();
        };
        let told = preface.told.into_iter().collect();
        if preface.fingerprint != self.options.fingerprint() {
            printer.line(&format!(
                "paths, rules, prices or places in lines are not those of {name}: the last {history} are read again"
            ));
            return Before { files: None, told };
        }
        let recalled = postcard::from_bytes::<Recalled>(rest).ok();
        let files = recalled.and_then(|(files, intake, evaluator)| {
            let fits = self.pipeline.evaluator.restore(evaluator);
            fits.then(|| {
                self.pipeline.intake.restore(intake);
                files
            })
        });
        if files.is_none() {
            say_unusable(keeper.file.set_aside(OTHER_VERSION));
        }
        Before { files, told }
    }

    /// Has a snapshot written if one is due, or in any case.
    pub(super) fn keep(&mut self, source: &impl Source, in_any_case: bool) {
        let Some(keeper) = &mut self.keeper else {
            return;
        };
        // What is silent is not told yet: a restart goes back to before.
        if !self.live {
            return;
        }
        let Some(files) = source.state() else { return };
        // What could not be written is tried again.
        keeper.dirty |= keeper.file.is_idle() && keeper.file.written().error.is_some();
        if !in_any_case && !keeper.is_due(self.sinks.are_hooks_idle()) {
            return;
        }
        // Files were read as far as lines were handed over.
        self.settle();
        let Some(keeper) = &mut self.keeper else {
            return;
        };
        let evaluator = &self.pipeline.evaluator;
        let preface = Preface {
            fingerprint: self.options.fingerprint(),
            told: evaluator.told_episodes(),
        };
        let intake = self.pipeline.intake.memory();
        let Ok(body) = postcard::to_stdvec(&(preface, (files, intake, evaluator.memory()))) else {
            return;
        };
        (keeper.dirty, keeper.urgent) = (false, false);
        keeper.last = Instant::now();
        keeper.last_bytes = body.len();
        keeper.file.write(body);
        let error = keeper.file.written().error;
        let failing = error.is_some();
        if let Some(error) = error.filter(|_| !keeper.failing) {
            self.sinks.printer.line(&format!(
                "the state cannot be written: {error}; following goes on, and writing is tried again"
            ));
        }
        keeper.failing = failing;
    }
}
