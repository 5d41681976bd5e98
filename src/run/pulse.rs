//! Signs of life: a heartbeat on stdout, a command for dead-man's switches, and word to systemd.
//!
//! All are given by the loop after a turn that it has completed: whoever watches them learns when it hangs.
//!
//! Does not know what is wrong with a log: only that we still turn.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::Tail;
use crate::sink::Files;
use crate::source::Source;

/// A heartbeat command may take so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What gives signs of life, and when it last did.
#[derive(Debug)]
pub(super) struct Pulse {
    every: Option<Duration>,
    next: Instant,
    command: Option<String>,
    /// The command of the last heartbeat still runs.
    busy: Arc<AtomicBool>,
    /// It failed, which was said, and has not worked since.
    failed: Arc<AtomicBool>,
    failure_said: bool,
    /// systemd wants to hear of us this often.
    watchdog: Option<Duration>,
    next_watchdog: Instant,
    ready: bool,
}

impl Pulse {
    pub(super) fn new(every: Option<Duration>, command: Option<String>) -> Self {
        let now = Instant::now();
        Self {
            every,
            next: now,
            command,
            busy: Arc::default(),
            failed: Arc::default(),
            failure_said: false,
            watchdog: sd_notify::watchdog_enabled().map(|limit| limit / 2),
            next_watchdog: now,
            ready: false,
        }
    }

    /// Runs the command of a heartbeat, unless the last one still runs.
    fn run_command(&self) {
        let Some(line) = self.command.clone() else {
            return;
        };
        if self.busy.swap(true, Ordering::Relaxed) {
            return;
        }
        let (busy, failed) = (Arc::clone(&self.busy), Arc::clone(&self.failed));
        std::thread::spawn(move || {
            failed.store(!runs(&line), Ordering::Relaxed);
            busy.store(false, Ordering::Relaxed);
        });
    }
}

/// Whether a command ends well, and soon.
fn runs(line: &str) -> bool {
    let child = Command::new("/bin/sh")
        .arg("-c")
        .arg(line)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .spawn();
    let Ok(mut child) = child else {
        return false;
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

impl Tail<'_> {
    /// Gives the signs of life that are due.
    pub(super) fn beat(&mut self, source: &impl Source) {
        if !self.live {
            return;
        }
        let now = Instant::now();
        if !self.pulse.ready {
            self.pulse.ready = true;
            let _ = sd_notify::notify(&[NotifyState::Ready]);
        }
        if let Some(every) = self
            .pulse
            .watchdog
            .filter(|_| now >= self.pulse.next_watchdog)
        {
            self.pulse.next_watchdog = now + every;
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
        let Some(every) = self.pulse.every.filter(|_| now >= self.pulse.next) else {
            return;
        };
        self.pulse.next = now + every;
        let failed = self.pulse.failed.load(Ordering::Relaxed);
        if failed && !self.pulse.failure_said {
            self.sinks
                .printer
                .line("the heartbeat command failed; it is tried again with each heartbeat");
        }
        self.pulse.failure_said = failed;
        self.settle();
        self.pulse.run_command();
        let line = self.summary_line(Files::Count(source.n_files()), source, "heartbeat");
        self.sinks.json_line(&line);
    }

    /// Tells systemd that we end.
    pub(super) fn stop_beating(&self) {
        if self.pulse.ready {
            let _ = sd_notify::notify(&[NotifyState::Stopping]);
        }
    }
}
