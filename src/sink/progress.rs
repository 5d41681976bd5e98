//! How far a long reading has come: a line on stderr that goes away.
//!
//! Only on a terminal, and only once it has taken a second. Knows bytes and nothing else.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is over sooner needs no progress.
const PATIENCE: Duration = Duration::from_secs(1);

const KNOWN: &str = "{bar:24} {bytes} of {total_bytes}, {eta} left";
const UNKNOWN: &str = "{spinner} {bytes} read";

/// The progress of a reading. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
    began: Instant,
    is_wanted: bool,
}

impl Progress {
    /// A progress over so many bytes, or over what nobody knows. `is_wanted`: somebody looks at a terminal.
    pub fn new(total: Option<u64>, is_wanted: bool) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let template = if total.is_some() { KNOWN } else { UNKNOWN };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━━ "));
        }
        Self {
            bar,
            began: Instant::now(),
            is_wanted,
        }
    }

    /// So many more bytes were read.
    pub fn add(&self, bytes: u64) {
        if !self.is_wanted {
            return;
        }
        if self.bar.is_hidden() && self.began.elapsed() > PATIENCE {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.inc(bytes);
    }

    /// Writes something else to the terminal, which the line must not cross.
    pub fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        if self.bar.is_hidden() {
            write()
        } else {
            self.bar.suspend(write)
        }
    }

    /// It is over: the line goes away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
