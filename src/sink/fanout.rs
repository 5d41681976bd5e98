//! All ways out together: one that is closed does not close the others.

use std::io;
use std::time::Duration;

use super::hook::{Hook, HookCommand};
use super::json::JsonSink;
use super::outlet::{Outlet, stdout_is_gone};
use super::printer::{Printer, Style};
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
    /// What is run for each notice.
    pub hook: Option<HookCommand>,
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
}

impl Sinks {
    /// The sinks that the options ask for. Live output never waits; that of a replay does.
    pub fn new(output: &Output, mode: Mode, hooks: bool) -> Self {
        let (stderr, stdout) = match mode {
            Mode::Tail => (Outlet::queued(io::stderr()), Outlet::queued(io::stdout())),
            Mode::Replay => (
                Outlet::direct(io::stderr()),
                Outlet::direct(io::BufWriter::new(io::stdout())),
            ),
        };
        let hook = output.hook.clone().filter(|_| hooks);
        Self {
            printer: Printer::new(stderr.clone(), output.stderr),
            json: output.json.then(|| JsonSink::new(stdout.clone())),
            hook: hook.map(|command| Hook::new(command, stderr)),
            stdout,
            mode,
        }
    }

    /// Tells notices everywhere. One way that is closed does not close the others.
    pub fn tell(&mut self, notices: &[Notice], emitted_at: Option<Time>) {
        for notice in notices {
            let told = Told {
                notice,
                mode: self.mode,
                emitted_at: emitted_at.unwrap_or(notice.at),
            };
            let _ = self.printer.emit(told);
            if let Some(json) = &mut self.json {
                let _ = json.emit(told);
            }
            if let Some(hook) = self.hook.as_mut().filter(|_| !notice.missed) {
                let _ = hook.emit(told);
            }
        }
    }

    /// Whether the reader of our JSON has gone.
    pub fn is_json_closed(&self) -> bool {
        self.json.is_some() && (self.stdout.is_closed() || stdout_is_gone())
    }

    /// Nothing that was told is still on its way to a hook.
    pub fn are_hooks_idle(&self) -> bool {
        self.hook.as_ref().is_none_or(Hook::is_idle)
    }

    /// Lets go of all that is under way. Hooks get so long to end; gives the episodes, and the reasons, of the notices that did
    /// not reach theirs.
    pub fn finish(&mut self, hook_patience: Duration) -> Vec<(u64, Reason)> {
        let hook = self.hook.as_mut();
        let unheard = hook.map_or_else(Vec::new, |hook| hook.finish_within(hook_patience));
        if let Some(json) = &mut self.json {
            let _ = json.finish();
        }
        self.printer.drain();
        unheard
    }
}
