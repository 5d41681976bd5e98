//! Notices out: to people on stderr, to programs as JSON on stdout, to a command of the user's.
//!
//! Knows how to say things. Does not know where records come from or how a notice was decided.

mod advice;
mod changed;
mod fanout;
mod hook;
mod json;
mod listing;
mod mute;
mod ordinary;
mod outlet;
mod payload;
mod printer;
mod progress;
mod terminal;
mod text;
mod ttl;

use std::io;

pub use fanout::{Output, Sinks};
pub use hook::{Hook, HookCommand, HookOptions, Outcomes, kill_running_hook};
pub use json::{
    BadLineField, FileField, Files, JsonSink, Number, Summary, SummaryFields, rfc3339, usd,
};

pub use listing::{price_line, price_of, price_table};
pub use mute::MuteFile;
pub use outlet::{Outlet, print, unless_closed};
pub use payload::Payload;
pub use printer::{Printer, Style};
pub use progress::Progress;
pub use terminal::Terminal;
pub use text::{
    Clock, amount, clean, count, counted, duration, explanation, headline, percent, progress,
    quantity, who,
};
pub use ttl::{hour_is_cheaper, ttl_advice};

use crate::monitor::{Notice, Time};

/// Which command gives a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Following a log.
    Tail,
    /// Going through history.
    Replay,
}

impl Mode {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tail => "tail",
            Self::Replay => "replay",
        }
    }
}

/// A notice on its way out.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// What is told.
    pub notice: &'a Notice,
    /// Which command tells it.
    pub mode: Mode,
    /// The wall clock when it is told. In replay the notice's own time.
    pub emitted_at: Time,
    /// People asked not to hear of it.
    pub muted: bool,
}

/// A way out for notices.
pub trait Sink {
    /// Tells a notice.
    ///
    /// # Errors
    /// If it cannot be told here any more.
    fn emit(&mut self, told: Told<'_>) -> io::Result<()>;

    /// Lets go of what is still under way.
    ///
    /// # Errors
    /// If something could not be told.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}
