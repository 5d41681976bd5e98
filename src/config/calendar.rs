//! The calendar of a time zone: where hours, days and months begin there, whatever its clocks do, and when these are changed.
//!
//! Knows dates and zones. Does not know what is spent.

use jiff::ToSpan;
use jiff::civil::{Date, Time as OfDay};

use crate::monitor::{Calendar, ClockChange, Period, Stretch, Time};
use crate::parse::Zone;

impl Calendar for Zone {
    fn stretch(&self, period: Period, at: Time) -> Stretch {
        let wall = self.wall_clock(at);
        let midnight = |date: Date| date.to_datetime(OfDay::midnight());
        let day_ms = 86_400_000;
        match period {
            Period::Hour => {
                // An hour is sixty minutes, also the one that a clock shows twice.
                let into = i64::from(wall.minute()) * 60_000
                    + i64::from(wall.second()) * 1000
                    + at.0.rem_euclid(1000);
                let start = Time(at.0 - into);
                Stretch {
                    start,
                    end: start.plus_secs(3600),
                    name: wall.strftime("%Y-%m-%d %Hh").to_string(),
                }
            }
            Period::Day => {
                let next = wall.date().tomorrow();
                Stretch {
                    start: self.moment(midnight(wall.date()), at),
                    end: self.moment(midnight(next.unwrap_or(wall.date())), Time(at.0 + day_ms)),
                    name: wall.strftime("%Y-%m-%d").to_string(),
                }
            }
            Period::Month => {
                let first = wall.date().first_of_month();
                let next = first.checked_add(1.month()).unwrap_or(first);
                let far = next.duration_since(wall.date()).as_secs() * 1000;
                Stretch {
                    start: self.moment(midnight(first), at),
                    end: self.moment(midnight(next), Time(at.0 + far)),
                    name: wall.strftime("%Y-%m").to_string(),
                }
            }
        }
    }

    fn minute(&self, at: Time) -> String {
        self.wall_clock(at).strftime("%H:%M").to_string()
    }

    fn clock_change(&self, at: Time) -> Option<ClockChange> {
        let (since, forward) = self.last_change(at)?;
        Some(ClockChange {
            at: since.minute(),
            forward,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        crate::parse::rfc3339(text).expect("a time")
    }

    #[test]
    fn clocks_are_changed_where_people_live() {
        let change = |zone: &str, moment: &str| {
            let zone: Zone = zone.parse().expect("a zone");
            let change = zone.clock_change(at(moment));
            change.map(|change| (Time::from_secs(change.at * 60), change.forward))
        };
        let berlin = |moment: &str| change("Europe/Berlin", moment);
        let spring = Some((at("2026-03-29T01:00:00Z"), 60));
        let autumn = Some((at("2026-10-25T01:00:00Z"), -60));
        assert_eq!(berlin("2026-03-29T01:00:00Z"), spring);
        assert_eq!(berlin("2026-10-25T00:59:59Z"), spring);
        assert_eq!(berlin("2026-10-25T01:00:00Z"), autumn);
        assert_eq!(berlin("2027-01-01T00:00:00Z"), autumn);
        assert_eq!(
            change("Australia/Lord_Howe", "2026-11-01T00:00:00Z"),
            Some((at("2026-10-03T15:30:00Z"), 30))
        );
        assert_eq!(change("UTC", "2026-11-01T00:00:00Z"), None);
        assert_eq!(change("+05:30", "2026-11-01T00:00:00Z"), None);
        // Its clocks were changed for good, in 1945.
        let kolkata = change("Asia/Kolkata", "2026-11-01T00:00:00Z");
        assert!(kolkata.is_some_and(|(since, _)| since < at("1970-01-01T00:00:00Z")));
    }

    fn hours(period: Period, moment: &str) -> (i64, String) {
        let zone: Zone = "Europe/Berlin".parse().expect("a zone");
        let stretch = zone.stretch(period, at(moment));
        assert!(
            stretch.start <= at(moment) && at(moment) < stretch.end,
            "{stretch:?}"
        );
        // Its last moment is still of it, the next is of the next.
        assert_eq!(zone.stretch(period, Time(stretch.end.0 - 1)), stretch);
        assert_eq!(zone.stretch(period, stretch.end).start, stretch.end);
        (
            stretch.end.millis_since(stretch.start) / 3_600_000,
            stretch.name,
        )
    }

    #[test]
    fn days_are_as_long_as_clocks_make_them() {
        let day = |moment| hours(Period::Day, moment);
        assert_eq!(day("2026-11-25T12:00:00Z"), (24, "2026-11-25".to_owned()));
        assert_eq!(day("2026-03-29T12:00:00Z"), (23, "2026-03-29".to_owned()));
        assert_eq!(day("2026-10-25T00:30:00Z"), (25, "2026-10-25".to_owned()));
        assert_eq!(day("2026-10-25T22:59:59Z"), (25, "2026-10-25".to_owned()));
        assert_eq!(day("2026-10-25T23:00:00Z"), (24, "2026-10-26".to_owned()));
        assert_eq!(
            hours(Period::Month, "2026-10-31T22:00:00Z"),
            (745, "2026-10".to_owned())
        );
        assert_eq!(
            hours(Period::Month, "2026-02-01T00:00:00Z"),
            (672, "2026-02".to_owned())
        );
        assert_eq!(
            hours(Period::Month, "2026-01-31T23:00:00Z"),
            (672, "2026-02".to_owned())
        );
        assert_eq!(
            hours(Period::Hour, "2026-10-25T00:30:00Z"),
            (1, "2026-10-25 02h".to_owned())
        );
        assert_eq!(
            hours(Period::Hour, "2026-10-25T01:30:00Z"),
            (1, "2026-10-25 02h".to_owned())
        );
    }
}
