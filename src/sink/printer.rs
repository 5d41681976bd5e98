//! Alerts for people: one line, and detail below it on a terminal.

use std::borrow::Cow;
use std::fmt::Write;
use std::io;

use jiff::civil::Date;
use owo_colors::OwoColorize;

use super::outlet::Outlet;
use super::terminal::Terminal;
use super::text::{Clock, clean, counted, details, headline, who};
use super::{Sink, Told};
use crate::monitor::{Reason, Severity, Time};

/// How text for people looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// With colour.
    pub colour: bool,
    /// The terminal that it is for, if it is: there detail stands below each alert, and lines break between words.
    pub terminal: Option<Terminal>,
    /// Whose clock.
    pub clock: Clock,
}

/// What an alert says stands behind its time, also where it goes on in the next line.
const INDENT: usize = 9;

impl Style {
    /// A line as it is put out: on a terminal with breaks between words, and what goes on below set in by so many columns.
    pub fn wrap(self, line: &str, indent: usize) -> Cow<'_, str> {
        match self.terminal {
            Some(terminal) => terminal.wrap(line, indent),
            None => line.into(),
        }
    }
}

/// Says where people read that so many messages are missing.
pub(super) fn lost(n: u64) -> String {
    let messages = counted(n, "message");
    format!("claude-tokmon: {messages} did not get through here\n")
}

/// Prints notices and lines for people.
pub struct Printer {
    outlet: Outlet,
    style: Style,
    date: Option<Date>,
}

impl Printer {
    /// A printer on a stream.
    pub fn new(outlet: Outlet, style: Style) -> Self {
        Self {
            outlet,
            style,
            date: None,
        }
    }

    /// Prints a line of text that is not an alert. It may hold the name of a file, which may be anything. Trouble with the stream is
    /// not the caller's.
    pub fn line(&mut self, text: &str) {
        let text = clean(text);
        let text = self.style.wrap(&text, 2);
        let _ = self
            .outlet
            .write(&format!("{}\n", self.plain(&text.dimmed().to_string())));
    }

    /// A line that is data: as it is.
    pub fn data(&mut self, line: &str) {
        let _ = self.outlet.write(&format!("{line}\n"));
    }

    /// Nobody reads it any more.
    pub fn is_closed(&self) -> bool {
        self.outlet.is_closed()
    }

    /// Why the stream cannot be written at present, if it cannot.
    pub fn trouble(&self) -> Option<String> {
        self.outlet.trouble()
    }

    /// How many messages did not get through.
    pub fn lost(&self) -> u64 {
        self.outlet.lost()
    }

    /// Waits until all is written, but not for ever.
    pub fn drain(&self) {
        self.outlet.drain();
    }

    fn plain(&self, styled: &str) -> String {
        if self.style.colour {
            styled.to_owned()
        } else {
            anstream::adapter::strip_str(styled).to_string()
        }
    }

    /// The date, when it is another than that of the line before.
    fn new_date(&mut self, at: Time) -> Option<Date> {
        let date = self.style.clock.date(at);
        let new = self.date != Some(date);
        self.date = Some(date);
        new.then_some(date)
    }
}

impl Sink for Printer {
    fn emit(&mut self, told: Told<'_>) -> io::Result<()> {
        let notice = told.notice;
        let mut text = String::new();
        if let Some(date) = self.new_date(notice.at) {
            let _ = writeln!(text, "{}", date.strftime("%Y-%m-%d").dimmed());
        }
        let label = label(notice.reason, notice.rule.severity);
        let mut line = format!(
            "{} {label} {}  {}",
            self.style.clock.time(notice.at).dimmed(),
            clean(&notice.rule.name).bold(),
            headline(notice),
        );
        for part in who(notice) {
            let _ = write!(line, " · {part}");
        }
        let _ = writeln!(text, "{}", self.style.wrap(&line, INDENT));
        if self.style.terminal.is_some() && notice.reason != Reason::Stopped {
            for detail in details(notice, self.style.clock) {
                let detail = format!("{:INDENT$}{detail}", "");
                let _ = writeln!(text, "{}", self.style.wrap(&detail, INDENT));
            }
        }
        self.outlet.write(&self.plain(&text))
    }

    fn finish(&mut self) -> io::Result<()> {
        self.drain();
        Ok(())
    }
}

/// The word before the rule, in the colour of its severity.
fn label(reason: Reason, severity: Severity) -> String {
    match (reason, severity) {
        (Reason::Resolved, _) => "RESOLVED".green().bold().to_string(),
        (Reason::Stopped, _) => "STILL ON".yellow().bold().to_string(),
        (_, Severity::Critical) => "CRITICAL".red().bold().to_string(),
        (_, Severity::Warning) => "WARNING ".yellow().bold().to_string(),
        (_, Severity::Info) => "INFO    ".cyan().bold().to_string(),
    }
}
