//! `tail`: the live loop. The only place that reads the wall clock.
//!
//! Joins the rooms and decides when each is asked. Knows neither flags nor colour.

mod clock;
mod keeper;
mod pulse;
mod test_alert;
mod watchdog;
mod words;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use signal_hook::iterator::Signals;

pub use clock::wall_clock;
pub use test_alert::test_alert;
pub(crate) use words::summary_fields;

use clock::{Clocks, Jump, Reading};
use keeper::Keeper;
use pulse::Pulse;
use watchdog::Watchdog;
use words::{Said, timeless};

use crate::config::{Options, Watch};
use crate::monitor::{Evaluator, Notice, Time};
use crate::parse::is_complete;
use crate::pipeline::{Moment, Pipeline, Silent, Undated};
use crate::sink::{Mode, Sinks, counted, duration, kill_running_hook};
use crate::source::{
    Follower, HistoryFile, Input, Mounts, Names, NotifyWake, PipeSource, Progress, RefusedWake,
    Resume, SleepWake, Source, StateFile, Wake, WakeHandle, discover, last_line_end, merge, reason,
    start_of,
};

/// A record younger than this on a pipe shows that it has caught up with the present.
const YOUNG_MS: i64 = 60_000;

/// A pipe that is quiet for so long has caught up.
const PIPE_QUIET: Duration = Duration::from_secs(2);

/// Records without a time that come on a pipe later than this after the start are new. Of those that have one it takes so long to
/// see how fast they come.
const PIPE_BACKLOG: Duration = Duration::from_secs(10);

/// How long hooks may go on after the end, when their input ended and when we were asked to end.
const HOOK_PATIENCE: Duration = Duration::from_secs(12);
const HOOK_PATIENCE_ON_SIGNAL: Duration = Duration::from_millis(500);

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// As it should.
    Clean,
    /// The input has no usable time.
    NoTimes,
    /// Something, or everything, could not be read.
    Unreadable,
    /// The input holds no usage record.
    NoUsage,
    /// What was asked about was found to be so.
    Found,
}

/// What was named can never be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

/// Signals as flags.
#[derive(Clone, Default)]
struct Flags {
    stops: Arc<AtomicU8>,
    continued: Arc<AtomicBool>,
    /// Somebody asks how it stands.
    status: Arc<AtomicBool>,
}

/// Follows logs until they end or we are asked to end.
///
/// # Errors
/// If the source as a whole is lost or signals cannot be taken.
pub fn tail(options: Options) -> Result<Exit> {
    let mut sinks = Sinks::new(&options.output, Mode::Tail, true);
    let pipeline = Pipeline::new(
        options.parse.clone(),
        options.prices.clone(),
        options.settings.clone(),
    );
    if options
        .inputs
        .iter()
        .any(|input| matches!(input, Input::Stdin))
    {
        if options.inputs.len() > 1 {
            anyhow::bail!(
                "\"-\" cannot be followed together with other paths; run a second claude-tokmon for it"
            );
        }
        let source =
            PipeSource::stdin().map_err(|e| Unreadable(format!("cannot follow \"-\": {e}")))?;
        let wake = WakeHandle::default();
        let mut tail = Tail::new(options, pipeline, &mut sinks, wake)?;
        tail.pipe = true;
        tail.say_start_of_stdin(source.is_pipe());
        return Ok(tail.follow(source));
    }
    let wake: Box<dyn Wake> = match options.watch {
        Watch::Events | Watch::Remote => Box::new(NotifyWake::default()),
        Watch::Poll => Box::new(SleepWake::default()),
        Watch::Blind => Box::new(NotifyWake::blind()),
        Watch::Refused => Box::new(RefusedWake::default()),
    };
    let handle = wake.handle();
    let state = options.state.as_deref().map(StateFile::open).transpose()?;
    let mut tail = Tail::new(options, pipeline, &mut sinks, handle)?;
    tail.keeper = state.map(Keeper::new);
    let inputs = tail.options.inputs.clone();
    let is_remote = tail.options.watch == Watch::Remote;
    let follower = |resume| {
        let mut follower = Follower::new(inputs, resume, wake, is_complete, Instant::now());
        if is_remote {
            follower.set_mounts(Mounts::REMOTE);
        }
        follower
    };
    let before = tail.recall();
    if let Some(files) = before.files {
        tail.go_back_with_the_clock();
        tail.timeless = timeless(tail.pipeline.evaluator.totals());
        let mut source = follower(Vec::new());
        source.resume(files, Instant::now());
        tail.say_resumed(source.n_files());
        return Ok(tail.follow(source));
    }
    let (files, resume, unreadable) = tail.backfill();
    if unreadable > 0 && files == 0 {
        tail.sinks.finish(Duration::ZERO);
        return Ok(Exit::Unreadable);
    }
    let source = follower(resume);
    tail.pipeline.evaluator.note_told(&before.told);
    tail.go_live();
    tail.say_start(files);
    Ok(tail.follow(source))
}

/// What the loop carries from turn to turn.
struct Tail<'a> {
    options: Options,
    pipeline: Pipeline,
    sinks: &'a mut Sinks,
    flags: Flags,
    started: Instant,
    /// Records before this are old.
    oldest: Time,
    /// Notices are given.
    live: bool,
    keeper: Option<Keeper>,
    watchdog: Watchdog,
    clocks: Clocks,
    pulse: Pulse,
    /// What was said once and need not be said again.
    said: Said,
    /// How many seconds after their time responses come these days.
    delay_secs: i64,
    /// Responses without a time that can be, up to when we looked away.
    timeless: u64,
    /// A first response is waited for.
    expecting: bool,
    /// The source is a pipe, which tells by its records when it has caught up.
    pipe: bool,
    /// When it was looked at last how fast the times of its records go, and the last of them then.
    pace: Option<(Instant, Time)>,
    last_line: Instant,
}

impl<'a> Tail<'a> {
    fn new(
        options: Options,
        pipeline: Pipeline,
        sinks: &'a mut Sinks,
        wake: WakeHandle,
    ) -> Result<Self> {
        let flags = Flags::default();
        take_signals(flags.clone(), wake)?;
        let now = Instant::now();
        let pulse = Pulse::new(options.heartbeat, options.heartbeat_exec.clone());
        let oldest = wall_clock().plus_secs(-options.history_secs());
        Ok(Self {
            options,
            pipeline,
            sinks,
            flags,
            started: now,
            oldest,
            live: false,
            keeper: None,
            watchdog: Watchdog::default(),
            clocks: Clocks::new(Reading::now()),
            pulse,
            said: Said::default(),
            delay_secs: 0,
            timeless: 0,
            expecting: false,
            pipe: false,
            pace: None,
            last_line: now,
        })
    }

    /// Reads what is on disk, silently and in time order. Gives the number of files, where to go on, and how many cannot be
    /// read.
    fn backfill(&mut self) -> (usize, Vec<Resume>, usize) {
        let (found, _, mut errors) = discover(&self.options.inputs, Names::Rotated);
        let (live, ..) = discover(&self.options.inputs, Names::Live);
        let mut files = Vec::new();
        let mut offsets = HashMap::new();
        for file in &found {
            // Nothing in a file that was last written before the history begins can be of interest.
            if file.modified_ms < self.oldest.0 {
                offsets.insert(file.key, last_line_end(file).unwrap_or(file.size));
                continue;
            }
            let decoder = Silent {
                pipeline: &mut self.pipeline,
                now: wall_clock(),
                oldest: Some(self.oldest),
            };
            let from = start_of(file, &decoder, self.oldest.0);
            match HistoryFile::up_to_now(file, from) {
                Ok(history) => files.push(history),
                Err(e) => errors.push((file.path.clone(), e)),
            }
        }
        let mut decoder = Silent {
            pipeline: &mut self.pipeline,
            now: wall_clock(),
            oldest: Some(self.oldest),
        };
        for file in merge(files, &mut decoder, |_| {}) {
            offsets.extend(file.key.map(|key| (key, file.committed)));
            if let Some(error) = file.error {
                errors.push((file.info.name.as_ref().into(), error));
            }
        }
        // Rotated siblings are history; those under a live name are followed from here on.
        let resume = live.iter().filter_map(|file| {
            let offset = *offsets.get(&file.key)?;
            Some(Resume {
                path: file.path.clone(),
                key: file.key,
                offset,
            })
        });
        let resume = resume.collect();
        for (path, error) in &errors {
            self.sinks.printer.line(&format!(
                "cannot read {}: {}",
                path.display(),
                reason(error)
            ));
        }
        let pipes = self.options.inputs.iter();
        let pipes = pipes.filter(|input| matches!(input, Input::Pipe(_)));
        let files = live.len().saturating_sub(errors.len().min(live.len()));
        (files + pipes.count(), resume, errors.len())
    }

    /// From now on notices are given. What is firing is told as it is.
    fn go_live(&mut self) {
        self.live = true;
        self.sinks.refresh(self.clocks.wall());
        if let Some(within) = self.options.expect_within_secs.filter(|_| !self.expecting) {
            self.expecting = true;
            let deadline = self.clocks.wall().plus_secs(within);
            self.pipeline.evaluator.expect_by(deadline);
        }
        self.look_for_gone(Instant::now());
        self.pipeline.tick(self.engine_time());

        self.pipeline.evaluator.go_live();
        self.tell();
    }

    /// The wall clock less the lateness: what ticks follow. It is read once a turn, so that no tick comes before a jump of it
    /// was noticed. Unless somebody has said how late responses may come, they come as late as they do.
    fn engine_time(&self) -> Time {
        let said = self.options.settings.lateness_secs;
        let lateness = if self.options.is_lateness_said {
            said
        } else {
            said.max(self.delay_secs)
        };
        self.clocks.wall().plus_secs(-lateness)
    }

    fn tell(&mut self) {
        let evaluator = &mut self.pipeline.evaluator;
        let told = give(evaluator, self.sinks, Some(wall_clock), |_| {});
        self.note_work(false, told);
    }

    /// Turns until the source ends or we are asked to.
    fn follow(mut self, mut source: impl Source) -> Exit {
        let mut failure = None;
        loop {
            let turn = self.turn(&mut source);
            for note in source.take_notes() {
                self.note(&note);
            }
            self.keep(&source, false);
            self.beat(&source);
            if self.flags.status.swap(false, Ordering::Relaxed) {
                self.say_status(&source);
            }
            match turn {
                Ok(Progress::Ended) => break,
                Ok(_)
                    if self.flags.stops.load(Ordering::Relaxed) > 0 || self.sinks.is_unheard() =>
                {
                    break;
                }
                Ok(Progress::More) => {}
                Ok(Progress::CaughtUp) => source.wait(Self::until_next_tick()),
                Err(e) => {
                    failure = Some(e);
                    break;
                }
            }
        }
        self.end(&source, failure.as_ref())
    }

    fn turn(&mut self, source: &mut impl Source) -> io::Result<Progress> {
        if self.flags.continued.swap(false, Ordering::Relaxed) {
            // We were stopped.
            self.catch_up(source);
        }
        for jump in self.clocks.check(Reading::now()).into_iter().flatten() {
            self.note_jump(jump);
            self.catch_up(source);
        }
        let now = Instant::now();
        let wall = self.clocks.wall();
        let moment = Moment {
            now: wall,
            undated: self.undated(now, wall),
            oldest: Some(self.oldest),
            is_current: self.live && !self.watchdog.is_behind(),
        };
        let Self {
            pipeline,
            sinks,
            last_line,
            ..
        } = self;
        let (mut lines, mut told) = (0_u64, false);
        let mut look = |evaluator: &mut Evaluator| {
            told |= give(evaluator, sinks, Some(wall_clock), |_| {});
        };
        let progress = source.read(now, &mut |line| {
            *last_line = now;
            lines += 1;
            if pipeline.hand_over(line) {
                pipeline.go_on(moment, true, &mut look);
            }
        });
        let more = matches!(progress, Ok(Progress::More));
        pipeline.go_on(moment, more, look);
        self.note_work(lines > 0, told);
        let progress = progress?;

        self.note_progress(more, now);
        if !self.live && self.has_caught_up(now, wall, progress) {
            self.settle();
            self.go_live();
            self.say_timeless();
        }
        if progress != Progress::More {
            self.pipeline.expire(wall, Some(self.oldest));
        }
        if self.live && progress != Progress::More {
            self.pipeline.tick(self.engine_time());
            self.say_doubts();
        }
        if self.live {
            self.look_for_blind_spots(now, wall, source);
        }
        self.sinks.refresh(wall);
        self.tell();
        Ok(progress)
    }

    /// Judges all that was read.
    fn settle(&mut self) {
        let Self {
            pipeline, sinks, ..
        } = self;
        let mut told = false;
        pipeline.settle(|evaluator| told |= give(evaluator, sinks, Some(wall_clock), |_| {}));
        self.note_work(false, told);
    }

    /// Notes for the state whether anything came, and whether anything was told.
    fn note_work(&mut self, came: bool, told: bool) {
        if let Some(keeper) = &mut self.keeper {
            keeper.dirty |= came || told;
            keeper.urgent |= told;
        }
    }

    /// What was remembered ends in the future: the clock was put back since.
    fn go_back_with_the_clock(&mut self) {
        let ahead = self
            .pipeline
            .evaluator
            .now()
            .millis_since(self.clocks.wall());
        if ahead > YOUNG_MS {
            self.note_jump(Jump::Set(-ahead));
        }
    }

    /// Looks at everything, in silence, and only then says what is so.
    fn catch_up(&mut self, source: &mut impl Source) {
        self.settle();
        self.live = false;
        self.timeless = timeless(self.pipeline.evaluator.totals());
        self.pipeline.evaluator.mute();
        source.look_again();
    }

    /// The machine slept, or its clock was put right. Windows and alerts go with a clock: what was seen a minute ago was so,
    /// whatever the time was said to be.
    fn note_jump(&mut self, jump: Jump) {
        self.settle();
        self.pipeline.lags.forget();
        let text = match jump {
            Jump::Slept(slept) => {
                let secs = i64::try_from(slept.as_secs()).unwrap_or(0);
                format!("this machine slept for {}; catching up", duration(secs))
            }
            Jump::Set(ms) => {
                let way = if ms < 0 { "back" } else { "forward" };
                self.oldest.shift(ms);
                self.pipeline.evaluator.shift(ms);
                let by = duration(ms.abs() / 1000);
                format!("the clock was put {way} by {by}; windows and alerts go with it")
            }
        };
        if !self.options.output.quiet {
            self.sinks.printer.line(&text);
        }
    }

    /// Files have caught up at their end; a pipe when its records are young, when it is quiet, or when their times go no faster than
    /// the clock: those of another zone never grow young.
    fn has_caught_up(&mut self, now: Instant, wall: Time, progress: Progress) -> bool {
        if !self.pipe {
            return progress != Progress::More;
        }
        let last = self.pipeline.evaluator.now();
        let young = wall.millis_since(last) < YOUNG_MS;
        let quiet = now.duration_since(self.last_line.max(self.started)) >= PIPE_QUIET;
        young || quiet || progress == Progress::Ended || self.keeps_pace(now, last)
    }

    /// The times of records on a pipe have gone no faster than the clock for a while.
    fn keeps_pace(&mut self, now: Instant, last: Time) -> bool {
        let (since, then) = *self.pace.get_or_insert((now, last));
        let took = now.duration_since(since);
        if took < PIPE_BACKLOG / self.options.haste {
            return false;
        }
        self.pace = Some((now, last));
        let passed =
            u64::try_from(last.millis_since(then)).map_or(Duration::MAX, Duration::from_millis);
        passed <= 2 * took
    }

    /// A record without a time that came while we watched happened when it came.
    fn undated(&self, now: Instant, wall: Time) -> Undated {
        let was_there = !self.live;
        let is_backlog = !self.pipe || now.duration_since(self.started) < PIPE_BACKLOG;
        if was_there && is_backlog {
            Undated::TotalsOnly
        } else {
            Undated::Arrived(wall)
        }
    }

    fn until_next_tick() -> Duration {
        let into = u64::try_from(wall_clock().0.rem_euclid(1000)).unwrap_or(0);
        Duration::from_millis(1000 - into)
    }

    fn end(mut self, source: &impl Source, failure: Option<&io::Error>) -> Exit {
        self.settle();
        if self.keeper.is_none() {
            let undated = self.undated(Instant::now(), wall_clock());
            self.pipeline.end(undated, Some(self.oldest));
        }
        self.stop_beating();
        self.pipeline.evaluator.stop();
        let stopped = self.pipeline.take_notices();
        self.sinks.tell(&stopped, Some(wall_clock()));
        let asked = self.flags.stops.load(Ordering::Relaxed) > 0;
        if !self.options.output.quiet {
            self.say_end(source);
        }
        if let Some(error) = failure {
            self.sinks.printer.line(&format!("reading ended: {error}"));
        }
        let unheard = self.sinks.finish(if asked {
            HOOK_PATIENCE_ON_SIGNAL
        } else {
            HOOK_PATIENCE
        });
        for (stream, lost) in self.sinks.lost() {
            if lost > 0 {
                let messages = counted(lost, "message");
                let line = format!("{messages} did not get through to {stream}");
                self.sinks.printer.line(&line);
            }
        }
        // What a hook has not heard is told again after a restart.
        self.pipeline.evaluator.note_not_told(&unheard);
        self.keep(source, true);
        if let Some(keeper) = &mut self.keeper
            && let Some(error) = keeper.file.finish().error
        {
            let line = format!("the state could not be written: {error}");
            self.sinks.printer.line(&line);
        }
        // What was said last is on its way still.
        self.sinks.printer.drain();
        if failure.is_some() {
            Exit::Unreadable
        } else {
            Exit::Clean
        }
    }
}

/// Gives what there is to tell to the sinks, at the time of a clock or at its own. What is muted speaks for nothing else, so more
/// may follow. True if there was anything.
pub(crate) fn give(
    evaluator: &mut Evaluator,
    sinks: &mut Sinks,
    clock: Option<fn() -> Time>,
    mut note: impl FnMut(&[Notice]),
) -> bool {
    let mut any = false;
    loop {
        let notices = evaluator.take_notices();
        if notices.is_empty() {
            return any;
        }
        any = true;
        note(&notices);
        let muted = sinks.tell(&notices, clock.map(|clock| clock()));
        if !muted.is_empty() {
            evaluator.note_muted(&muted);
        }
    }
}

/// The first signal to end lets us end well, the second ends us at once.
fn take_signals(flags: Flags, wake: WakeHandle) -> Result<()> {
    let mut signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCONT, SIGUSR1]).context("cannot take signals")?;

    std::thread::spawn(move || {
        for signal in &mut signals {
            if signal == SIGCONT {
                flags.continued.store(true, Ordering::Relaxed);
            } else if signal == SIGUSR1 {
                flags.status.store(true, Ordering::Relaxed);
            } else if flags.stops.fetch_add(1, Ordering::Relaxed) > 0 {
                kill_running_hook();
                std::process::exit(128 + signal);
            }
            wake.wake();
        }
    });
    Ok(())
}
