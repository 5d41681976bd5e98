//! All ways out together: one that is closed does not close the others.

use std::io;
use std::time::Duration;

use super::hook::{Hook, HookOptions, Outcomes};
use super::json::{self, JsonSink};
use super::mute::MuteFile;
use super::outlet::{Outlet, stdout_is_gone};
use super::printer::{self, Printer, Style};
use super::text::counted;
use super::{Mode, Sink, Told};
use crate::monitor::{Notice, Reason, Time};

/// What is put out, and how.
#[derive(Debug, Clone)]
pub struct Output {
    /// JSON on stdout.
    pub json: bool,
    /// Without start and exit lines.
    pub quiet: bool,
    /// How text on stderr looks.
    pub stderr: Style,
    /// How text on stdout looks.
    pub stdout: Style,
    /// What people do not want to hear of.
    pub mute: Option<MuteFile>,
    /// What is run for each notice.
    pub hook: Option<HookOptions>,
}

/// All ways out of the program.
pub struct Sinks {
    /// Text for people.
    pub printer: Printer,
    /// JSON on stdout.
    pub json: Option<JsonSink>,
    hook: Option<Hook>,
    stdout: Outlet,
    mode: Mode,
    mute: Option<MuteFile>,
    /// The minute of the last notice, and how many it had.
    minute: (i64, u64),
}

/// More notices than this in a minute are counted, not written. Hooks get them all: what they opened they must close.
const PER_MINUTE: u64 = 20;

impl Sinks {
    /// The sinks that the options ask for. Live output never waits; that of a replay does.
    pub fn new(output: &Output, mode: Mode, hooks: bool) -> Self {
        let (stderr, stdout) = match mode {
            Mode::Tail => (
                Outlet::queued(io::stderr(), printer::lost),
                Outlet::queued(io::stdout(), json::lost),
            ),
            Mode::Replay => (
                Outlet::direct(io::stderr()),
                Outlet::direct(io::BufWriter::new(io::stdout())),
            ),
        };
        let hook = output.hook.clone().filter(|_| hooks);
        Self {
            printer: Printer::new(stderr.clone(), output.stderr),
            json: output.json.then(|| JsonSink::new(stdout.clone())),
            hook: hook.map(|options| Hook::new(options, stderr)),
            stdout,
            mode,
            mute: output.mute.clone(),
            minute: (0, 0),
        }
    }

    /// Tells notices everywhere. One way that is closed does not close the others. Gives the episodes that are muted.
    pub fn tell(&mut self, notices: &[Notice], emitted_at: Option<Time>) -> Vec<u64> {
        let mut unheard = Vec::new();
        for notice in notices {
            let now = emitted_at.unwrap_or(notice.at);
            let muted = self
                .mute
                .as_ref()
                .is_some_and(|mute| mute.mutes(notice, now));
            let told = Told {
                notice,
                mode: self.mode,
                emitted_at: now,
                muted,
            };
            if muted {
                unheard.push(notice.episode);
            }
            if notice.at.minute() != self.minute.0 {
                self.end_minute();
                self.minute = (notice.at.minute(), 0);
            }
            self.minute.1 += u64::from(!muted);
            let too_many = !muted && self.minute.1 > PER_MINUTE;
            if !muted && !too_many {
                let _ = self.printer.emit(told);
            }
            if let Some(json) = self.json.as_mut().filter(|_| !too_many) {
                let _ = json.emit(told);
            }
            let heard = !muted && !notice.missed;
            if let Some(hook) = self.hook.as_mut().filter(|_| heard) {
                let _ = hook.emit(told);
            }
        }
        unheard
    }

    /// Says how many notices of the last minute were too many: no more will come.
    pub fn end_minute(&mut self) {
        let (minute, n) = std::mem::take(&mut self.minute);
        let truncated = n.saturating_sub(PER_MINUTE);
        if truncated > 0 {
            let more = counted(truncated, "more notice");
            let where_they_are = match (&self.hook, self.mode) {
                (Some(_), _) => "; the hook has them all",
                (None, Mode::Replay) => ", counted in the report",
                (None, Mode::Tail) => ", too many to be read",
            };
            self.printer
                .line(&format!("{more} in that minute{where_they_are}"));
            if let Some(json) = &self.json {
                let _ = json.truncated(truncated, Time::from_secs(minute * 60 + 59));
            }
        }
    }

    /// Does what time alone asks for: the end of a minute that had too many notices, a file of mutes that has changed.
    pub fn refresh(&mut self, now: Time) {
        if self.minute.1 > 0 && now.minute() > self.minute.0 {
            self.end_minute();
        }
        if let Some(mute) = &mut self.mute {
            for mistake in mute.refresh() {
                self.printer.line(&mistake);
            }
        }
    }

    /// Writes a line of JSON, if JSON is written at all.
    pub fn json_line(&mut self, line: &str) {
        if let Some(json) = &mut self.json {
            let _ = json.line(line);
        }
    }

    /// Whether the reader of our JSON has gone, or that of the alerts where nobody else hears of them.
    pub fn is_unheard(&self) -> bool {
        if self.json.is_some() {
            self.stdout.is_closed() || stdout_is_gone()
        } else {
            self.hook.is_none() && self.printer.is_closed()
        }
    }

    /// The streams that cannot be written at present, with the reason.
    pub fn troubles(&self) -> [(&'static str, Option<String>); 2] {
        let json = self.json.as_ref().and_then(|_| self.stdout.trouble());
        [
            ("standard error", self.printer.trouble()),
            ("standard output", json),
        ]
    }

    /// How much did not get through, by stream.
    pub fn lost(&self) -> [(&'static str, u64); 2] {
        let json = self.json.as_ref().map_or(0, |_| self.stdout.lost());
        [
            ("standard error", self.printer.lost()),
            ("standard output", json),
        ]
    }

    /// What became of the hooks so far, if there is one.
    pub fn hook_outcomes(&self) -> Option<Outcomes> {
        self.hook.as_ref().map(Hook::outcomes)
    }

    /// Nothing that was told is still on its way to a hook.
    pub fn are_hooks_idle(&self) -> bool {
        self.hook.as_ref().is_none_or(Hook::is_idle)
    }

    /// Lets go of all that is under way. Hooks get so long to end; gives the episodes, and the reasons, of the notices that did
    /// not reach theirs.
    pub fn finish(&mut self, hook_patience: Duration) -> Vec<(u64, Reason)> {
        self.end_minute();
        let hook = self.hook.as_mut();
        let unheard = hook.map_or_else(Vec::new, |hook| hook.finish_within(hook_patience));
        if let Some(json) = &mut self.json {
            let _ = json.finish();
        }
        self.printer.drain();
        unheard
    }
}
