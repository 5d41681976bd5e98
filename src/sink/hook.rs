//! A command of the user's, run once for each notice.
//!
//! Data goes to it through the environment and standard input only; nothing from a log becomes part of a command. One worker
//! runs hooks in order, each in a process group of its own; reading and evaluating never wait for it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::json::{decimal, episode, rfc3339};
use super::outlet::Outlet;
use super::payload::Payload;
use super::text::{Clock, clean, counted, headline, unit};
use super::{Sink, Told};
use crate::monitor::{Notice, Reason};
use crate::price::PicoUsd;

/// Notices that may wait for the worker.
const QUEUE: usize = 64;

/// How long a hook may run, and how long it has to end once asked to.
const TIMEOUT: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(2);

/// The same once we end ourselves.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// The exit code by which a hook asks to be run again, and the pauses before it is.
const TRY_AGAIN: i32 = 75;
const RETRY_SECS: [u64; 5] = [1, 2, 4, 8, 16];

/// After so many failures in a row no hook is run for a while.
const FAILURES: u32 = 5;
const REST: Duration = Duration::from_mins(1);

/// Bytes of one environment variable.
const MAX_VARIABLE: usize = 1024;

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookCommand {
    /// A line for `/bin/sh -c`.
    Shell(String),
    /// A program and its arguments, without a shell.
    Argv(Vec<String>),
}

/// What to run, with what, and how patiently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookOptions {
    /// The command.
    pub command: HookCommand,
    /// What it reads.
    pub payload: Payload,
    /// Whose clock the words of a payload go by.
    pub clock: Clock,
    /// By how much patience is divided. For tests.
    pub haste: u32,
}

/// What became of the hooks that were run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Ended well.
    pub ok: u64,
    /// Failed, could not be run, or took too long.
    pub failed: u64,
    /// Notices that did not fit the queue.
    pub dropped: u64,
    /// Too many failed in a row: none is run for a while.
    pub broken: bool,
}

/// Runs a command for each notice.
pub struct Hook {
    options: HookOptions,
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    dropped: u64,
    outcomes: Outcomes,
    /// Failures in a row.
    failures: u32,
    /// Notices whose hook was ended by our own end.
    cut: Vec<(u64, Reason)>,
    /// A hook is running.
    running: bool,
    /// No more jobs come: what is under way must be over by then.
    deadline: Option<Instant>,
}

struct Job {
    episode: u64,
    reason: Reason,
    rule: String,
    variables: Vec<(&'static str, String)>,
    json: String,
}

impl Hook {
    /// A hook whose troubles are told on `messages`.
    pub fn new(options: HookOptions, messages: Outlet) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        let given = options.clone();
        let worker = std::thread::spawn(move || work(&theirs, &given, &messages));
        Self {
            options,
            shared,
            worker: Some(worker),
        }
    }

    /// What became of the hooks so far.
    pub fn outcomes(&self) -> Outcomes {
        self.shared.lock().outcomes
    }

    /// No hook is waiting or running.
    pub fn is_idle(&self) -> bool {
        let queue = self.shared.lock();
        queue.jobs.is_empty() && !queue.running
    }

    /// Lets hooks that are waiting or running go on for so long, then ends them. Gives the episodes, and the reasons, of the
    /// notices that did not reach theirs.
    pub fn finish_within(&mut self, patience: Duration) -> Vec<(u64, Reason)> {
        let mut queue = self.shared.lock();
        queue.deadline = Some(Instant::now() + patience);
        self.shared.changed.notify_all();
        drop(queue);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
        let mut queue = self.shared.lock();
        let mut cut = std::mem::take(&mut queue.cut);
        cut.extend(queue.jobs.drain(..).map(|job| (job.episode, job.reason)));
        cut
    }
}

impl Sink for Hook {
    /// Queues the notice. A repeat makes room before a first or a resolved does. The end of the watch is no news for a hook:
    /// a restart must not page anybody.
    fn emit(&mut self, told: Told<'_>) -> io::Result<()> {
        if told.notice.reason == Reason::Stopped {
            return Ok(());
        }
        let job = Job {
            episode: told.notice.episode,
            reason: told.notice.reason,
            rule: told.notice.rule.name.to_string(),
            variables: variables(told),
            json: self.options.payload.text(told, self.options.clock),
        };
        let mut queue = self.shared.lock();
        if queue.jobs.len() >= QUEUE {
            queue.dropped += 1;
            queue.outcomes.dropped += 1;
            let repeat = queue
                .jobs
                .iter()
                .position(|job| job.reason == Reason::Repeat);
            match repeat {
                Some(at) => {
                    queue.jobs.remove(at);
                }
                None => return Ok(()),
            }
        }
        queue.jobs.push_back(job);
        self.shared.changed.notify_all();
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.finish_within(TIMEOUT + GRACE);
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; `None` when there will be none.
    fn next(&self) -> Option<(Job, u64)> {
        let mut queue = self.lock();
        queue.running = false;
        loop {
            let late = queue
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline);
            if late {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                queue.running = true;
                return Some((job, std::mem::take(&mut queue.dropped)));
            }
            if queue.deadline.is_some() {
                return None;
            }
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes how a hook ended, and gives the number of failures in a row.
    fn note(&self, job: &Job, is_ok: bool) -> u32 {
        let mut queue = self.lock();
        let was_cut = queue.deadline.is_some_and(|end| Instant::now() >= end);
        if was_cut && !is_ok {
            queue.cut.push((job.episode, job.reason));
        }
        if is_ok {
            queue.outcomes.ok += 1;
            queue.failures = 0;
            queue.outcomes.broken = false;
        } else {
            queue.outcomes.failed += 1;
            queue.failures += 1;
        }
        queue.failures
    }

    /// Runs no hook for so long: the last ones have all failed. After it one is tried.
    fn rest(&self, length: Duration) {
        let mut queue = self.lock();
        queue.outcomes.broken = true;
        queue.running = false;
        drop(queue);
        self.pause(length);
    }

    /// Waits for so long, but not beyond our own end. False if that has come.
    fn pause(&self, length: Duration) -> bool {
        let until = Instant::now() + length;
        let mut queue = self.lock();
        loop {
            let now = Instant::now();
            if queue.deadline.is_some_and(|end| end <= now) {
                return false;
            }
            let next = queue.deadline.map_or(until, |end| end.min(until));
            if until <= now {
                return true;
            }
            let waited = self
                .changed
                .wait_timeout(queue, next.saturating_duration_since(now));
            (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How long a hook that was asked to end may take for it.
    fn grace(&self) -> Duration {
        if self.lock().deadline.is_some() {
            LAST_GRACE
        } else {
            GRACE
        }
    }

    /// The moment by which a hook that starts now must be over.
    fn deadline(&self) -> Instant {
        let own = Instant::now() + TIMEOUT;
        self.lock().deadline.map_or(own, |end| end.min(own))
    }
}

fn work(shared: &Shared, options: &HookOptions, messages: &Outlet) {
    while let Some((job, dropped)) = shared.next() {
        let say = |text: String| {
            let _ = messages.write(&format!("claude-tokmon: {text}\n"));
        };
        if dropped > 0 {
            let lost = counted(dropped, "notice");
            say(format!(
                "the hook is too slow: {lost} did not fit its queue"
            ));
        }
        let outcome = try_run(options, &job, shared);
        let is_ok = outcome.as_ref().is_ok_and(ExitStatus::success);
        let failures = shared.note(&job, is_ok);
        let rule = clean(&job.rule);
        match outcome {
            Ok(status) if status.success() => {}
            Ok(status) => say(format!("the hook for {rule} failed: {status}")),
            Err(e) => say(format!("the hook for {rule} could not run: {e}")),
        }
        if failures >= FAILURES {
            shared.rest(REST / options.haste);
        }
    }
}

/// Runs a hook, again and again as long as it asks for it.
fn try_run(options: &HookOptions, job: &Job, shared: &Shared) -> io::Result<ExitStatus> {
    let mut pauses = RETRY_SECS.into_iter();
    loop {
        let status = run(&options.command, job, shared, TIMEOUT / options.haste)?;
        let pause = pauses.next().filter(|_| status.code() == Some(TRY_AGAIN));
        let Some(secs) = pause else {
            return Ok(status);
        };
        if !shared.pause(Duration::from_secs(secs) / options.haste) {
            return Ok(status);
        }
    }
}

fn run(
    command: &HookCommand,
    job: &Job,
    shared: &Shared,
    timeout: Duration,
) -> io::Result<ExitStatus> {
    let mut process = match command {
        HookCommand::Shell(line) => {
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c").arg(line);
            shell
        }
        HookCommand::Argv(argv) => {
            let (program, args) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
            let mut process = Command::new(program);
            process.args(args);
            process
        }
    };
    // Its output is our stderr itself: there is no pipe that a grandchild could keep open.
    process
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(io::stderr())
        .stderr(io::stderr());
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CLAUDE_TOKMON_"))
    {
        process.env_remove(name);
    }
    for (name, value) in &job.variables {
        process.env(name, value);
    }
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut child = process.spawn()?;
    *running = i32::try_from(child.id()).unwrap_or(0);
    drop(running);
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read what it is given.
        let _ = stdin.write_all(job.json.as_bytes());
    }
    let status = wait(&mut child, shared, timeout);
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = 0;
    status
}

/// Waits for the process, not for its output. Past the deadline its whole group is asked to end, then made to.
fn wait(child: &mut Child, shared: &Shared, timeout: Duration) -> io::Result<ExitStatus> {
    let started = Instant::now();
    let limit = || shared.deadline().min(started + timeout);
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(status) = wait_until(child, limit)? {
        return Ok(status);
    }
    let signal = |signal| group.map(|group| kill_process_group(group, signal));
    signal(Signal::TERM);
    let asked = Instant::now();
    let ended = wait_until(child, || asked + shared.grace())?;
    signal(Signal::KILL);
    match ended {
        Some(status) => Ok(status),
        None => child.wait(),
    }
}

/// The process group of the hook that runs; zero if none does. Held while one is started, so that none is started unseen.
static RUNNING: Mutex<i32> = Mutex::new(0);

/// Ends the hook that runs, with all that it started, without waiting: the program ends this very moment.
pub fn kill_running_hook() {
    let group = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(group) = Pid::from_raw(*group) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    // None is started any more.
    std::mem::forget(group);
}

fn wait_until(child: &mut Child, deadline: impl Fn() -> Instant) -> io::Result<Option<ExitStatus>> {
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline() {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn variables(told: Told<'_>) -> Vec<(&'static str, String)> {
    let notice = told.notice;
    let cause = notice.causes.first().map_or("", |tally| tally.cause.name());
    let all = [
        ("CLAUDE_TOKMON_EVENT", "alert".to_owned()),
        ("CLAUDE_TOKMON_REASON", notice.reason.name().to_owned()),
        ("CLAUDE_TOKMON_RULE", notice.rule.name.to_string()),
        (
            "CLAUDE_TOKMON_SEVERITY",
            notice.rule.severity.name().to_owned(),
        ),
        ("CLAUDE_TOKMON_KEY", key(notice)),
        ("CLAUDE_TOKMON_EPISODE", episode(notice)),
        (
            "CLAUDE_TOKMON_VALUE",
            notice.value.map(decimal).unwrap_or_default(),
        ),
        ("CLAUDE_TOKMON_LIMIT", decimal(notice.limit)),
        ("CLAUDE_TOKMON_UNIT", unit(notice)),
        ("CLAUDE_TOKMON_AT", rfc3339(notice.at)),
        ("CLAUDE_TOKMON_SINCE", rfc3339(notice.since)),
        (
            "CLAUDE_TOKMON_EXPOSED_USD",
            notice.exposed.map(PicoUsd::to_decimal).unwrap_or_default(),
        ),
        ("CLAUDE_TOKMON_CAUSE", cause.to_owned()),
        ("CLAUDE_TOKMON_MESSAGE", headline(notice)),
        ("CLAUDE_TOKMON_MODE", told.mode.name().to_owned()),
        ("CLAUDE_TOKMON_SCHEMA", "1".to_owned()),
    ];
    all.into_iter()
        .map(|(name, value)| (name, tame(&value)))
        .collect()
}

/// `model=claude-opus-4-7,session=7f3a`.
fn key(notice: &Notice) -> String {
    let parts: Vec<String> = notice
        .key
        .iter()
        .map(|(label, value)| format!("{}={value}", label.name()))
        .collect();
    parts.join(",")
}

/// A variable without control characters, and not too long.
fn tame(value: &str) -> String {
    let value = clean(value);
    value[..value.floor_char_boundary(MAX_VARIABLE)].to_owned()
}
