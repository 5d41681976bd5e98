//! What several tests share: made-up traffic, an engine without a clock, and a home of their own.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test file uses a part"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    clippy::print_stderr
)]

pub mod follow;
pub mod traffic;

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use claude_tokmon::cli::RuleArgs;
use claude_tokmon::config::{Config, rules};
use claude_tokmon::monitor::{
    Calendar, ClockChange, Notice, Period, PlainDays, Reason, Settings, Stretch, Time,
};
use claude_tokmon::parse::ParseOptions;
use claude_tokmon::pipeline::{Pipeline, Undated};
use claude_tokmon::price::PriceTable;
use claude_tokmon::source::{Line, SourceInfo};
use jiff::Timestamp;

/// 2026-11-23T02:00:00Z, when incidents begin.
pub const TWO_O_CLOCK: i64 = 1_795_399_200_000;

/// Long after all made-up records.
pub const NOW: Time = Time(TWO_O_CLOCK + 30 * 86_400_000);

/// A small generator of random numbers with a seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Between 0 and 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// Pause before the next of random arrivals, in milliseconds.
    pub fn pause_ms(&mut self, per_hour: f64) -> i64 {
        (-(1.0 - self.unit()).ln() * 3_600_000.0 / per_hour) as i64
    }

    /// A lognormal number with this median.
    pub fn lognormal(&mut self, median: f64, sigma: f64) -> u64 {
        let (a, b) = (1.0 - self.unit(), self.unit());
        let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        (median * (sigma * normal).exp()) as u64
    }
}

/// UTC with milliseconds.
pub fn rfc3339(ms: i64) -> String {
    format!("{:.3}", Timestamp::from_millisecond(ms).unwrap())
}

/// One line of a log as the README has services write it.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    pub at: i64,
    pub id: String,
    pub model: &'a str,
    pub session: Option<&'a str>,
    pub input: u64,
    pub output: u64,
    pub write_5m: u64,
    pub write_1h: u64,
    pub read: u64,
}

impl Default for Call<'_> {
    fn default() -> Self {
        Self {
            at: TWO_O_CLOCK,
            id: String::new(),
            model: "claude-opus-4-7",
            session: None,
            input: 0,
            output: 0,
            write_5m: 0,
            write_1h: 0,
            read: 0,
        }
    }
}

impl Call<'_> {
    pub fn line(&self) -> String {
        let mut line = format!(
            r#"{{"time":"{}","id":"{}","model":"{}""#,
            rfc3339(self.at),
            self.id,
            self.model
        );
        if let Some(session) = self.session {
            write!(line, r#","session":"{session}""#).unwrap();
        }
        let Self {
            input,
            output,
            write_5m,
            write_1h,
            read,
            ..
        } = self;
        let write = write_5m + write_1h;
        write!(
            line,
            r#","usage":{{"input_tokens":{input},"output_tokens":{output},"cache_creation_input_tokens":{write},"cache_read_input_tokens":{read},"cache_creation":{{"ephemeral_5m_input_tokens":{write_5m},"ephemeral_1h_input_tokens":{write_1h}}}}}}}"#
        )
        .unwrap();
        line
    }
}

/// The `n`th call of a service that asks every 36 seconds, with a prompt of 50,000 tokens: the zeroth at two o'clock.
pub fn steady_call(n: i64, from_cache: bool) -> String {
    let (input, read) = if from_cache { (0, CACHED) } else { (CACHED, 0) };
    Call {
        at: TWO_O_CLOCK + n * 36_000,
        id: format!("msg_{n}"),
        input,
        read,
        ..Call::default()
    }
    .line()
}

/// How the cache is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The prompt comes as plain input.
    Dropped,
    /// The prompt is written to the cache again by each request.
    Rewritten,
}

/// The textbook incident: one service, one large prompt, a cache that is lost at two o'clock.
#[derive(Debug, Clone, Copy)]
pub struct Textbook {
    pub per_hour: f64,
    pub history_ms: i64,
    pub loss: Loss,
    pub incident_ms: i64,
    pub after_ms: i64,
    pub seed: u64,
}

pub const CACHED: u64 = 50_000;

impl Textbook {
    /// The lines of the log, and the times of the affected requests.
    pub fn lines(&self) -> (Vec<String>, Vec<i64>) {
        let mut random = Random(self.seed);
        let mut lines = Vec::new();
        let mut affected = Vec::new();
        let mut at = TWO_O_CLOCK - self.history_ms;
        let mut last = i64::MIN / 2;
        let end = TWO_O_CLOCK + self.incident_ms;
        while at < end + self.after_ms {
            let lost = (TWO_O_CLOCK..end).contains(&at);
            let expired = at - last > 300_000;
            let by_itself = random.chance(0.005);
            let (input, write, read) = match self.loss {
                _ if !lost && (expired || by_itself) => (0, CACHED, 0),
                _ if !lost => (0, 0, CACHED),
                Loss::Dropped => (CACHED, 0, 0),
                Loss::Rewritten => (0, CACHED, 0),
            };
            if lost {
                affected.push(at);
            }
            let rest = random.lognormal(400.0, 0.8);
            let output = random.lognormal(250.0, 0.7);
            let id = format!("msg_{:016x}", random.next());
            let call = Call {
                at,
                id,
                input: input + rest,
                output,
                write_5m: write,
                read,
                ..Call::default()
            };
            lines.push(call.line());
            last = at;
            at += random.pause_ms(self.per_hour).max(1);
        }
        (lines, affected)
    }
}

/// The default rules with some changes.
pub fn settings(set: &[&str]) -> Settings {
    let set = set.iter().map(|s| (*s).to_owned()).collect();
    let args = RuleArgs {
        set,
        ..RuleArgs::default()
    };
    let rules = rules(&args, &Config::read(Some(Path::new("-"))).unwrap()).unwrap();
    Settings {
        rules,
        lateness_secs: 2,
        max_responses: None,
        max_keys: 10_000,
        group_by: None,
        calendar: Arc::new(PlainDays),
    }
}

pub fn pipeline(set: &[&str]) -> Pipeline {
    Pipeline::new(
        ParseOptions::default(),
        PriceTable::embedded(),
        settings(set),
    )
}

/// A place where clocks are put back by an hour at some moment.
#[derive(Debug)]
struct PutBack(Time);

impl Calendar for PutBack {
    fn stretch(&self, period: Period, at: Time) -> Stretch {
        PlainDays.stretch(period, at)
    }

    fn minute(&self, at: Time) -> String {
        PlainDays.minute(at)
    }

    fn clock_change(&self, at: Time) -> Option<ClockChange> {
        (at >= self.0).then(|| ClockChange {
            at: self.0.minute(),
            forward: -60,
        })
    }
}

/// The same where clocks are put back by an hour at this moment.
pub fn pipeline_where(set: &[&str], clocks_are_put_back: Time) -> Pipeline {
    let settings = Settings {
        calendar: Arc::new(PutBack(clocks_are_put_back)),
        ..settings(set)
    };
    Pipeline::new(ParseOptions::default(), PriceTable::embedded(), settings)
}

/// Runs lines through a pipeline that tells from the beginning, and gives all that it told.
pub fn told(pipeline: &mut Pipeline, lines: &[String]) -> Vec<Notice> {
    pipeline.evaluator.go_live();
    feed(pipeline, "app.log", lines);
    pipeline.take_notices()
}

pub fn feed(pipeline: &mut Pipeline, name: &str, lines: &[String]) {
    let source = SourceInfo::file(Path::new(name));
    for (number, line) in lines.iter().enumerate() {
        give(pipeline, &source, number as u64 + 1, line.as_bytes(), NOW);
    }
}

pub fn give(
    pipeline: &mut Pipeline,
    source: &Arc<SourceInfo>,
    number: u64,
    bytes: &[u8],
    now: Time,
) {
    pipeline.line(
        Line {
            source,
            offset: 0,
            number,
            bytes,
        },
        now,
        Undated::TotalsOnly,
        None,
    );
}

/// `RULE REASON` of each notice.
pub fn story(notices: &[Notice]) -> Vec<String> {
    notices
        .iter()
        .map(|n| format!("{} {}", n.rule.name, n.reason.name()))
        .collect()
}

pub fn count(notices: &[Notice], rule: &str, reason: Reason) -> usize {
    notices
        .iter()
        .filter(|n| &*n.rule.name == rule && n.reason == reason)
        .count()
}

/// Alerts about the cache that somebody would have to look at.
pub fn is_cache_alert(notice: &Notice) -> bool {
    notice.rule.name.starts_with("cache-")
}

/// The program, with an environment that is not the developer's.
pub fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claude-tokmon"));
    command
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("TZ", "UTC").current_dir(home);
    command
}

/// A copy of the program for somebody who may not look into the build directory. Another process makes it: a file that we
/// had open for writing could not be run while a child that was started meanwhile has it open too.
pub fn copy_of_program(dir: &Path) -> std::path::PathBuf {
    let copy = dir.join("claude-tokmon");
    if !copy.exists() {
        let status = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_claude-tokmon"))
            .arg(&copy)
            .status();
        assert!(status.unwrap().success());
    }
    copy
}

/// A running `tail` whose stderr can be waited for, line by line.
pub struct Watch {
    pub child: std::process::Child,
    stderr: std::sync::mpsc::Receiver<String>,
    pub seen: Vec<String>,
}

/// No wait in a test is longer: it is a ceiling, not a pause.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

impl Watch {
    pub fn start(mut command: Command) -> Self {
        use std::io::BufRead;
        use std::process::Stdio;
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (sender, stderr) = std::sync::mpsc::channel();
        let lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .for_each(|line| drop(sender.send(line)));
        });
        Self {
            child,
            stderr,
            seen: Vec::new(),
        }
    }

    /// Waits for a line of stderr that holds `text`.
    pub fn expect(&mut self, text: &str) -> String {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            match self.stderr.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(e) => panic!("no \"{text}\" ({e}); there was:\n{}", self.seen.join("\n")),
            }
        }
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Ends it with TERM and gives its exit code and all of stderr.
    pub fn end(mut self) -> (Option<i32>, Vec<String>) {
        self.signal("-TERM");
        self.wait()
    }

    /// Waits for its own end.
    pub fn wait(&mut self) -> (Option<i32>, Vec<String>) {
        let deadline = std::time::Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "it does not end; there was:\n{}",
                self.seen.join("\n")
            );
            std::thread::yield_now();
        };
        self.seen.extend(self.stderr.iter());
        (status.code(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The present, in milliseconds since the epoch.
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// Appends lines to a file, as a service does.
pub fn append(path: &Path, lines: &[String]) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.write_all((lines.join("\n") + "\n").as_bytes())
        .unwrap();
}

/// A response of this moment that costs this many dollars.
pub fn dollars_now(id: &str, dollars: u64) -> String {
    // $5 a million tokens.
    Call {
        at: now_ms(),
        id: format!("msg_{id}"),
        input: dollars * 200_000,
        ..Call::default()
    }
    .line()
}
