//! What the core asks of a calendar: where the periods of budgets begin and end, and when clocks were put forward or back.
//!
//! Knows no zone and no date: whoever sets the core up hands a calendar in.

use serde::{Deserialize, Serialize};

use super::record::Time;

/// A stretch of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// An hour on the clock.
    Hour,
    /// A day, 23 or 25 hours long when clocks change.
    Day,
    /// A month.
    Month,
}

/// All periods by name.
pub const PERIODS: [Period; 3] = [Period::Hour, Period::Day, Period::Month];

impl Period {
    /// The name in rules and flags.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The longest that it lasts, in seconds.
    pub const fn longest_secs(self) -> i64 {
        match self {
            Self::Hour => 3600,
            Self::Day => 25 * 3600,
            Self::Month => 31 * 86_400 + 3600,
        }
    }
}

/// The period that holds a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Its first moment.
    pub start: Time,
    /// The first moment after it.
    pub end: Time,
    /// `2026-11-25 14h`, `2026-11-25`, `2026-11`.
    pub name: String,
}

/// Clocks that were put forward, or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockChange {
    /// The first minute since the epoch by the new time.
    pub at: i64,
    /// By so many minutes they were put forward; less than zero if back.
    pub forward: i64,
}

/// The calendar of those who read the notices.
pub trait Calendar: std::fmt::Debug + Send + Sync {
    /// The period that holds this moment.
    fn stretch(&self, period: Period, at: Time) -> Stretch;

    /// `14:20`.
    fn minute(&self, at: Time) -> String;

    /// When the clocks were put forward or back last, up to this moment.
    fn clock_change(&self, at: Time) -> Option<ClockChange>;
}

/// The calendar of UTC as far as hours and days go; its months are days too. For tests and benches.
#[derive(Debug, Clone)]
pub struct PlainDays;

impl Calendar for PlainDays {
    fn stretch(&self, period: Period, at: Time) -> Stretch {
        let secs = if period == Period::Hour { 3600 } else { 86_400 };
        let start = at.secs().div_euclid(secs) * secs;
        Stretch {
            start: Time::from_secs(start),
            end: Time::from_secs(start + secs),
            name: format!("{} {}", period.name(), start / secs),
        }
    }

    fn minute(&self, at: Time) -> String {
        let minute = at.minute().rem_euclid(1440);
        format!("{:02}:{:02}", minute / 60, minute % 60)
    }

    fn clock_change(&self, _: Time) -> Option<ClockChange> {
        None
    }
}
