//! What `tail` says of itself: how it begins and ends, how it stands, what became of files, what cannot be read. Alerts are not its
//! business.
//!
//! Decides nothing: when something is said is for the loop.

use super::{Tail, YOUNG_MS, wall_clock};
use crate::config::write_duration;
use crate::monitor::Totals;
use crate::pipeline::{BadLine, LineCounts};
use crate::sink::{
    BadLineField, FileField, Files, Summary, SummaryFields, clean, count, counted, duration,
    progress, ttl_advice,
};
use crate::source::{Input, MAX_LINE_BYTES, NoEvents, Note, Refusal, Source, SplitStats, places};

/// What is said once in a run.
#[derive(Default)]
pub(super) struct Said {
    pub(super) no_usage: bool,
    pub(super) oversize: bool,
    forgetting: bool,
    reused_id: bool,
    folding: bool,
}

impl Tail<'_> {
    /// Says once what makes the counting of copies doubtful.
    pub(super) fn say_doubts(&mut self) {
        let totals = self.pipeline.evaluator.totals();
        let (forgetting, reused_id) = (totals.forgotten > 0, totals.reused_id);
        if forgetting && !self.said.forgetting {
            self.said.forgetting = true;
            let most = self.options.settings.max_responses.unwrap_or(0);
            self.sinks.printer.line(&format!(
                "more than {} responses in 7 days: the oldest are forgotten, and a late copy of one would count again (--max-responses)",
                count(most as u64)
            ));
        }
        if self.pipeline.evaluator.is_folding() && !self.said.folding {
            self.said.folding = true;
            self.sinks.printer.line("more sessions or other keys at once than are told apart (--max-keys): the least active are added up as one");
        }
        if reused_id && !self.said.reused_id {
            self.said.reused_id = true;
            self.sinks.printer.line("one response id stands for more than 100 different responses, each counted: a gateway or mock gives all the same");
        }
    }

    pub(super) fn say_start_of_stdin(&mut self, is_pipe: bool) {
        if !self.options.output.quiet {
            let what = if is_pipe {
                "standard input"
            } else {
                "the file on standard input"
            };
            let rules = self.rules_line();
            let printer = &mut self.sinks.printer;
            printer.line(&format!("watching {what} · {rules}"));
        }
    }

    pub(super) fn say_resumed(&mut self, files: usize) {
        if !self.options.output.quiet {
            let rules = self.rules_line();
            let sum = spent(self.pipeline.evaluator.totals());
            let files = files_line(files, &self.options.inputs);
            self.sinks.printer.line(&format!(
                "watching {files} on from where we were · so far: {sum} · {rules}"
            ));
        }
    }

    /// Says how many responses were written while nobody watched, and nobody knows when.
    pub(super) fn say_timeless(&mut self) {
        let n = timeless(self.pipeline.evaluator.totals()).saturating_sub(self.timeless);
        if n == 0 || self.pipe || self.options.output.quiet {
            return;
        }
        let responses = counted(n, "response");
        self.sinks.printer.line(&format!(
            "{responses} came meanwhile and say not when, so they are in the totals only (--time-field names a place for it)"
        ));
    }

    pub(super) fn say_start(&mut self, files: usize) {
        // What is remembered across restarts is added up across them too.
        let totals = if self.keeper.is_some() {
            self.pipeline.evaluator.totals().clone()
        } else {
            self.pipeline.evaluator.begin_span(None)
        };
        if self.options.output.quiet {
            return;
        }
        let history = duration(self.options.history_secs());
        let rules = self.rules_line();
        let sum = if totals.records == 0 {
            "nothing yet".to_owned()
        } else {
            spent(&totals)
        };
        let files = files_line(files, &self.options.inputs);
        self.sinks.printer.line(&format!(
            "watching {files} · last {history}: {sum} · {rules}"
        ));
        if totals.undated > 0 {
            let n = count(totals.undated);
            self.sinks.printer.line(&format!(
                "{n} of these responses name no time and are in these totals only; new ones count from their arrival (--time-field names a place for it)"
            ));
        }
        if let Some(time) = totals.last_bad_time {
            let n = count(totals.bad_time);
            let time = self.options.output.stderr.clock.full(time);
            self.sinks.printer.line(&format!(
                "{n} of these responses name a time that cannot be, such as {time}, and are in these totals only; new ones count from their arrival (--assume-tz names the zone of times that name none)"
            ));
        }
        self.say_lines(&totals);
        self.say_advice(&totals);
    }

    /// Says what would have been cheaper, if anything clearly would have.
    fn say_advice(&mut self, totals: &Totals) {
        for advice in ttl_advice(totals) {
            self.sinks.printer.line(&format!("cheaper: {advice}"));
        }
    }

    pub(super) fn rules_line(&self) -> String {
        let evaluator = &self.pipeline.evaluator;
        let n = evaluator.n_rules();
        let mut rules = counted(n as u64, "rule");
        if let Some(config) = &self.options.config {
            rules = format!("{rules} ({})", clean(&config.to_string_lossy()));
        }
        match evaluator.learning().as_slice() {
            [] => rules,
            [one] => format!("{rules}, 1 learning ({})", progress(one)),
            several => format!("{rules}, {} learning", several.len()),
        }
    }

    /// How it stands, as one line of JSON on stderr.
    pub(super) fn say_status(&mut self, source: &impl Source) {
        self.settle();
        let files = source
            .status()
            .into_iter()
            .map(|file| FileField {
                lag: file.size.map(|size| size.saturating_sub(file.offset)),
                path: file.path,
                offset: file.offset,
                size: file.size,
                generation: file.generation,
                watch: if file.by_events { "events" } else { "poll" },
            })
            .collect();
        let line = self.summary_line(Files::Each(files), source, "status");
        self.sinks.printer.data(&line);
    }

    /// All that was counted so far, as one line of JSON.
    pub(super) fn summary_line(
        &self,
        files: Files,
        source: &impl Source,
        event: &'static str,
    ) -> String {
        let counts = self.pipeline.intake.counts();
        let mut fields = summary_fields(files, counts, source.stats());
        if let Some(keeper) = &self.keeper {
            let written = keeper.file.written();
            fields.state_age_secs = written.at.map(|at| at.elapsed().as_secs());
            fields.state_pending = Some(keeper.dirty || !keeper.file.is_idle());
            fields.state_error = written.error;
        }
        let summary = Summary {
            totals: self.pipeline.evaluator.totals(),
            fields: &fields,
        };
        summary.line(event).unwrap_or_default()
    }

    pub(super) fn note(&mut self, note: &Note) {
        if let (Note::Truncated(_), Some(keeper)) = (note, &mut self.keeper) {
            // What was in it is in no file any more.
            (keeper.dirty, keeper.urgent) = (true, true);
        }
        let text = match note {
            Note::Waiting(path) => format!("waiting for {path} (not there yet)"),
            Note::Appeared(path) => format!("{path} is there now"),
            Note::Truncated(path) => {
                format!("{path} was truncated or rewritten; reading it from its beginning")
            }
            Note::Unreadable { path, reason } => {
                format!("cannot read {path}: {reason}; trying again")
            }
            Note::Polling { dir, reason } => no_events(dir, *reason),
        };
        self.sinks.printer.line(&text);
    }

    /// Says that no line held a response, and what to do.
    pub(super) fn say_no_usage(&mut self, counts: &LineCounts) {
        self.said.no_usage = true;
        let way_out = counts.way_out(self.options.parse.usage_field.as_ref());
        self.sinks.printer.line(&format!(
            "no usage record in {}; {way_out}",
            counted(counts.lines, "line")
        ));
        for (reason, n) in &counts.skipped {
            self.sinks.printer.line(&format!(
                "not counted, {} of them: {}",
                count(*n),
                reason.describe()
            ));
        }
    }

    /// Says what is wrong with the lines read since it was last asked: none of them a response, or some not readable.
    pub(super) fn say_lines(&mut self, totals: &Totals) {
        let counts = self.pipeline.intake.take_counts();
        if totals.records == 0 && totals.old == 0 && counts.lines > 0 {
            self.say_no_usage(&counts);
        }
        if let Some(first) = counts.bad_shown.first() {
            self.sinks.printer.line(&format!(
                "{} of {} could not be read; the first: {}:{}:{}: {}",
                count(counts.bad),
                counted(counts.lines, "line"),
                first.source,
                first.number,
                first.column,
                first.reason
            ));
        }
    }

    pub(super) fn say_end(&mut self, source: &impl Source) {
        let watched = duration(i64::try_from(self.started.elapsed().as_secs()).unwrap_or(0));
        let what = if self.pipe {
            "standard input".to_owned()
        } else {
            files_line(source.n_files(), &self.options.inputs)
        };
        let totals = self.pipeline.evaluator.totals().clone();
        let alerts: u64 = totals.alerts_by_rule.values().sum();
        let alerts = counted(alerts, "alert");
        let so_far = if self.keeper.is_some() {
            ", with all before it"
        } else {
            ""
        };
        self.sinks.printer.line(&format!(
            "watched {what} for {watched}{so_far}: {} · {alerts}",
            spent(&totals)
        ));

        if totals.old > 0 {
            let history = write_duration(self.options.history_secs());
            self.sinks.printer.line(&format!(
                "{} responses were older than {history} and are in no sum",
                count(totals.old)
            ));
        }
        self.say_lines(&totals);
        let oversize = source.stats().oversize_lines;
        if oversize > 0 {
            let mib = MAX_LINE_BYTES >> 20;
            let text = format!(
                "skipped, over {mib} MiB long: {}",
                counted(oversize, "line")
            );
            self.sinks.printer.line(&text);
        }
        self.say_advice(&totals);
        if self.pipe {
            self.say_past(&totals);
        }
    }

    /// A pipe that held only the past was meant for replay.
    pub(super) fn say_past(&mut self, totals: &Totals) {
        let zone = self.options.output.stderr.clock;
        let last = totals.span.map(|(_, last)| last);
        if let Some(last) = last.filter(|last| wall_clock().millis_since(*last) > YOUNG_MS) {
            let last = zone.full(last);
            self.sinks.printer.line(&format!(
                "these records end at {last}; to test rules on history use: claude-tokmon replay -"
            ));
        } else if totals.records > 0 && totals.undated == totals.records {
            self.sinks.printer.line("these records name no time; to test rules on history use: claude-tokmon replay --assume-interval 1s -");
        }
    }
}

/// What lines came to, for a summary or status.
pub(crate) fn summary_fields(
    files: Files,
    counts: &LineCounts,
    stats: SplitStats,
) -> SummaryFields {
    let bad_line = |bad: &BadLine| BadLineField {
        source: bad.source.to_string(),
        line: bad.number,
        column: bad.column,
        reason: bad.reason.clone(),
    };
    SummaryFields {
        files,
        bytes: stats.bytes,
        nul_bytes: stats.nul_bytes,
        lines: counts.lines,
        bad_lines: counts.bad,
        first_bad_lines: counts.bad_shown.iter().map(bad_line).collect(),
        oversize_lines: stats.oversize_lines,
        state_age_secs: None,
        state_pending: None,
        state_error: None,
        longest_gap: None,
    }
}

/// Responses that name no time, or one that cannot be.
pub(super) const fn timeless(totals: &Totals) -> u64 {
    totals.undated + totals.bad_time
}

/// `10,337 responses, ≥ $615.05 at list price`.
fn spent(totals: &Totals) -> String {
    let bound = if totals.is_lower_bound() { "≥ " } else { "" };
    let responses = counted(totals.records, "response");
    format!("{responses}, {bound}{} at list price", totals.cost)
}

fn files_line(n: usize, inputs: &[Input]) -> String {
    match n {
        0 => format!("0 files (none in {} yet)", clean(&places(inputs))),
        n => counted(n as u64, "file"),
    }
}

/// Why there are no events for a directory, what that means, and what helps.
fn no_events(dir: &str, reason: NoEvents) -> String {
    let instead = "new lines are seen by looking: every quarter of a second where a log is busy, every two seconds elsewhere";
    match reason {
        NoEvents::Remote(kind) => {
            format!("{dir} is on {kind}, which tells of no changes; {instead}")
        }
        NoEvents::Refused(Refusal::NoWatchesLeft) => format!(
            "no file events for {dir}: this user's inotify watches are used up; {instead} (for more: sysctl fs.inotify.max_user_watches=524288; tried again every five minutes)"
        ),
        NoEvents::Refused(Refusal::NoInstancesLeft) => format!(
            "no file events for {dir}: this user's inotify instances, or our open files, are used up; {instead} (for more: sysctl fs.inotify.max_user_instances=512, or ulimit -n; tried again every five minutes)"
        ),
        NoEvents::Refused(Refusal::Other) => {
            format!("no file events for {dir}; {instead} (tried again every five minutes)")
        }
    }
}
