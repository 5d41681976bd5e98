//! Timestamps as logs write them: RFC 3339, local times without a zone, and epoch numbers of any size.
//!
//! Pure: "now" is an argument, because a number is only a time if it lies between 2023 and now.

use super::json::{Raw, text};
use crate::monitor::{Stamp, Time};
use std::borrow::Cow;
use std::cell::Cell;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

/// 2023-01-01, before which no response can lie: the Messages API did not exist.
const EARLIEST: Time = Time(1_672_531_200_000);

/// How far ahead of the clock a time may be before it is impossible.
const FUTURE_MS: i64 = 60_000;

/// The zone that times without one are read in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zone {
    /// The zone of this machine.
    #[default]
    Local,
    /// A place with its rules for daylight saving, or a fixed offset. Named once, and used for as long as the program runs.
    Named(&'static TimeZone),
}

static UTC: TimeZone = TimeZone::UTC;

impl std::str::FromStr for Zone {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "local" => return Ok(Self::Local),
            "utc" | "UTC" | "Z" => return Ok(Self::UTC),
            _ => {}
        }
        match DateTimeParser::new().parse_time_zone(name) {
            Ok(zone) => Ok(Self::Named(Box::leak(Box::new(zone)))),
            Err(_) => Err(format!(
                "unknown time zone \"{name}\"; write local, UTC, +02:00 or a name such as Europe/Berlin"
            )),
        }
    }
}

impl Zone {
    /// Universal time.
    pub const UTC: Self = Self::Named(&UTC);

    fn with<T>(self, ask: impl FnOnce(&TimeZone) -> T) -> T {
        match self {
            // It may be another one tomorrow.
            Self::Local => ask(&TimeZone::system()),
            Self::Named(zone) => ask(zone),
        }
    }

    /// What a clock on the wall of this zone shows at a moment.
    pub fn wall_clock(self, time: Time) -> DateTime {
        let moment = Timestamp::from_millisecond(time.0).unwrap_or_default();
        self.with(|zone| zone.to_datetime(moment))
    }

    /// When the clocks of this zone were put forward last, up to a moment, and by how many minutes: less than zero if back.
    pub fn last_change(self, until: Time) -> Option<(Time, i64)> {
        // Those that come before it are asked for.
        let until = Timestamp::from_millisecond(until.0.saturating_add(1)).ok()?;
        let minutes = |offset: Offset| i64::from(offset.seconds()) / 60;
        self.with(|zone| {
            let mut changes = zone.preceding(until).map(|change| {
                let at = change.timestamp().as_millisecond();
                let before = Timestamp::from_millisecond(at - 1).unwrap_or_default();
                let forward = minutes(change.offset()) - minutes(zone.to_offset(before));
                (Time(at), forward)
            });
            // Some change only what the time is called.
            changes.find(|(_, forward)| *forward != 0)
        })
    }

    /// The moment at which a wall clock of this zone shows `wall`. Of two such moments (the night the clocks go back) the
    /// one nearest to `near`; if there is none, as many minutes after the gap as `wall` lies in it.
    pub fn moment(self, wall: DateTime, near: Time) -> Time {
        let at = |offset: Offset| {
            let moment = offset.to_timestamp(wall).unwrap_or_default();
            Time(moment.as_millisecond())
        };
        let offset = self.with(|zone| zone.to_ambiguous_timestamp(wall).offset());
        match offset {
            // The clocks jumped over this time. An hour before it they had not.
            AmbiguousOffset::Unambiguous { offset: before }
            | AmbiguousOffset::Gap { before, .. } => at(before),
            AmbiguousOffset::Fold { before, after } => {
                let (first, second) = (at(before), at(after));
                let distance = |time: Time| (time.0 - near.0).abs();
                if distance(second) < distance(first) {
                    second
                } else {
                    first
                }
            }
        }
    }
}

/// Reads a time of RFC 3339.
pub fn rfc3339(text: &str) -> Option<Time> {
    let moment: Timestamp = within_nanoseconds(text).parse().ok()?;
    Some(Time(moment.as_millisecond()))
}

/// Reads a moment as people write it: a time of RFC 3339, or a day by the clocks of a zone, `2026-11-23`, which begins at midnight
/// unless a time follows: `2026-11-23 10:00`.
pub fn moment(text: &str, zone: Zone) -> Option<Time> {
    rfc3339(text).or_else(|| {
        let wall: DateTime = text.parse().ok()?;
        let near = Offset::UTC.to_timestamp(wall).ok()?;
        Some(zone.moment(wall, Time(near.as_millisecond())))
    })
}

/// The text without the digits of its seconds that no clock tells.
fn within_nanoseconds(text: &str) -> Cow<'_, str> {
    let Some(dot) = text.find(['.', ',']) else {
        return Cow::Borrowed(text);
    };
    let fraction = &text[dot + 1..];
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    if digits <= 9 {
        return Cow::Borrowed(text);
    }
    Cow::Owned([&text[..dot + 10], &fraction[digits..]].concat())
}

/// What the reader of times has to know about the moment and the file.
#[derive(Debug, Clone, Copy)]
pub struct Clock<'a> {
    /// The present, or the start of a replay.
    pub now: Time,
    /// The time of the record before this one in the same file.
    pub previous: Option<Time>,
    /// Where times without a zone belong.
    pub zone: Zone,
    /// Set where a line has a time that only the one before it could make certain.
    pub ambiguous: Option<&'a Cell<bool>>,
}

impl Clock<'_> {
    /// Reads a value as a time. `None` if it is not one at all; `Impossible` if it is written as a date but cannot be.
    pub(super) fn read(&self, raw: Raw<'_>) -> Option<Stamp> {
        let json = raw.bytes();
        if let [b'"', inner @ .., b'"'] = json {
            if let Some(time) = zulu(inner) {
                return Some(self.stamp(time));
            }
            let text = text(raw)?;
            let text = text.trim();
            if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
                return self.number(text).map(Stamp::At);
            }
            return Some(self.stamp(self.date(text)?));
        }
        self.number(raw.get()).map(Stamp::At)
    }

    /// Reads a date that stands as plain text.
    pub(super) fn read_text(&self, text: &str) -> Option<Stamp> {
        Some(self.stamp(self.date(text.trim())?))
    }

    /// The same clock with times that name no zone in UTC.
    pub(super) fn in_utc(self) -> Self {
        Self {
            zone: Zone::UTC,
            ..self
        }
    }

    fn stamp(&self, time: Time) -> Stamp {
        self.possible(time)
            .map_or(Stamp::Impossible(time), Stamp::At)
    }

    /// A time that is up to a minute ahead of the clock is taken as now.
    fn possible(&self, time: Time) -> Option<Time> {
        let in_range = time >= EARLIEST && time.0 <= self.now.0 + FUTURE_MS;
        in_range.then_some(time.min(self.now))
    }

    /// An epoch number. Its size tells the unit; one with a fraction is in seconds.
    fn number(&self, digits: &str) -> Option<Time> {
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let n: i64 = match whole.parse() {
            Ok(n) => n,
            Err(_) => return exponent(digits).and_then(|ms| self.possible(Time(ms))),
        };
        let ms = if !fraction.is_empty() {
            if !fraction.bytes().all(|b| b.is_ascii_digit()) {
                return exponent(digits).and_then(|ms| self.possible(Time(ms)));
            }
            let thousandths = format!("{:0<3}", &fraction[..fraction.len().min(3)]);
            n.checked_mul(1000)?
                .checked_add(thousandths.parse().ok()?)?
        } else if n < 100_000_000_000 {
            n.checked_mul(1000)?
        } else if n < 100_000_000_000_000 {
            n
        } else if n < 100_000_000_000_000_000 {
            n / 1000
        } else {
            n / 1_000_000
        };
        self.possible(Time(ms))
    }

    fn date(&self, text: &str) -> Option<Time> {
        if let Some(time) = zulu(text.as_bytes()) {
            return Some(time);
        }
        if let Some(time) = rfc3339(text) {
            return Some(time);
        }
        let text = within_nanoseconds(text);
        // "2026-11-23 10:00:00 +0100", of which the standard has no space before the offset. Go adds the name of the zone.
        let numbers = text.strip_suffix(" UTC").unwrap_or(&text);
        if let Some((wall, offset)) = numbers.rsplit_once(' ')
            && offset.starts_with(['+', '-'])
        {
            return rfc3339(&[wall, offset].concat());
        }
        let text = text.replacen(',', ".", 1);
        let text = text
            .strip_suffix(" UTC")
            .or(text.strip_suffix('Z'))
            .map_or((text.as_str(), false), |t| (t, true));
        let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];
        let wall = formats
            .iter()
            .find_map(|format| DateTime::strptime(format, text.0).ok())?;
        if text.1 {
            let moment = Offset::UTC.to_timestamp(wall).ok()?;
            return Some(Time(moment.as_millisecond()));
        }
        if let Some(ambiguous) = self.ambiguous {
            ambiguous.set(true);
        }
        Some(self.zone.moment(wall, self.previous.unwrap_or(self.now)))
    }
}

/// `1.795428e9`, as some writers print seconds.
fn exponent(digits: &str) -> Option<i64> {
    let (mantissa, power) = digits.split_once(['e', 'E'])?;
    let power: u32 = power.trim_start_matches('+').parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let scale = (power + 3).checked_sub(u32::try_from(fraction.len()).ok()?)?;
    let digits: i64 = format!("{whole}{fraction}").parse().ok()?;
    digits.checked_mul(10_i64.checked_pow(scale)?)
}

/// `2026-11-23T10:00:00.123Z`, the form that nearly all lines use, without the cost of a general reader.
fn zulu(text: &[u8]) -> Option<Time> {
    let (whole, fraction) = text.strip_suffix(b"Z")?.split_first_chunk()?;
    // The place of each digit, and what stands between them.
    let digit = |at: usize| i64::from(whole[at].wrapping_sub(b'0'));
    let two = |at: usize| digit(at) * 10 + digit(at + 1);
    let whole: &[u8; 19] = whole;
    let between = [whole[4], whole[7], whole[10], whole[13], whole[16]];
    let digits = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18];
    if between != *b"--T::" || digits.iter().any(|at| digit(*at) > 9) {
        return None;
    }
    let (year, month, day) = (two(0) * 100 + two(2), two(5), two(8));
    let (hour, minute, second) = (two(11), two(14), two(17));
    let millis = match fraction {
        [] => 0,
        [b'.', digits @ ..] if !digits.is_empty() && digits.len() <= 9 => {
            // Three places are kept.
            let places = digits.iter().copied().chain([b'0', b'0']).take(3);
            if !digits.iter().all(u8::is_ascii_digit) {
                return None;
            }
            places.fold(0, |n, digit| n * 10 + i64::from(digit - b'0'))
        }
        _ => return None,
    };
    if day < 1 || day > length_of(year, month)? || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    Some(Time(
        ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + millis,
    ))
}

/// Days of a month; `None` if there is no such month.
const fn length_of(year: i64, month: i64) -> Option<i64> {
    Some(match month {
        2 => 28 + leap(year) as i64,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    })
}

const fn leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

/// Days since 1970-01-01 in the Gregorian calendar; Howard Hinnant's `days_from_civil`.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time(1_795_428_100_000); // 2026-11-23T10:01:40Z

    fn read_in(zone: &str, json: &str) -> Option<Stamp> {
        let raw = Raw::parse(json).unwrap();
        Clock {
            now: NOW,
            previous: None,
            ambiguous: None,
            zone: zone.parse().unwrap(),
        }
        .read(raw)
    }

    fn read(json: &str) -> Option<Stamp> {
        read_in("Europe/Berlin", json)
    }

    #[test]
    fn each_way_to_write_the_same_moment_is_read() {
        let moment = Some(Stamp::At(Time(1_795_428_000_123)));
        for json in [
            r#""2026-11-23T10:00:00.123Z""#,
            r#""2026-11-23T10:00:00.123456789Z""#,
            r#""2026-11-23T11:00:00.123456+01:00""#,
            r#""2026-11-23T11:00:00.123+0100""#,
            r#""2026-11-23 11:00:00,123""#,
            r#""2026-11-23 11:00:00.123""#,
            r#""2026-11-23T11:00:00.123""#,
            r#""2026-11-23 10:00:00.123 UTC""#,
            r#""2026-11-23 11:00:00.123 +0100""#,
            r#""2026-11-23 11:00:00.123 +01:00""#,
            r#""2026-11-23 10:00:00.123 +0000 UTC""#,
            r#""2026-11-23T11:00:00.123456789012+01:00""#,
            r#""2026-11-23 11:00:00.123456789012""#,
            "1795428000.123",
            "1795428000123",
            "1795428000123456",
            "1795428000123456789",
            r#""1795428000123456""#,
            "1.795428000123e9",
        ] {
            assert_eq!(read(json), moment, "{json}");
        }
    }

    #[test]
    fn a_number_out_of_range_is_not_a_time_and_a_date_out_of_range_is_impossible() {
        for json in [
            "0.53",
            "12",
            "-5",
            "1e400",
            "99999999999",
            r#""""#,
            r#""soon""#,
            "true",
            "{}",
        ] {
            assert_eq!(read(json), None, "{json}");
        }
        assert!(matches!(
            read(r#""2019-01-01T00:00:00Z""#),
            Some(Stamp::Impossible(_))
        ));
        assert!(matches!(
            read(r#""2031-01-01T00:00:00Z""#),
            Some(Stamp::Impossible(_))
        ));
    }

    #[test]
    fn up_to_a_minute_ahead_of_the_clock_is_now() {
        assert_eq!(read(r#""2026-11-23T10:02:39Z""#), Some(Stamp::At(NOW)));
        assert!(matches!(
            read(r#""2026-11-23T10:02:41Z""#),
            Some(Stamp::Impossible(_))
        ));
    }

    #[test]
    fn the_hour_that_comes_twice_is_read_near_the_record_before() {
        // Berlin, 2026-10-25: 03:00 summer time is 02:00 winter time.
        let raw = Raw::parse(r#""2026-10-25 02:30:00""#).unwrap();
        let zone = "Europe/Berlin".parse().unwrap();
        let read = |previous: &str| {
            let previous = zulu(previous.as_bytes());
            Clock {
                now: NOW,
                previous,
                ambiguous: None,
                zone,
            }
            .read(raw)
        };
        assert_eq!(
            read("2026-10-25T00:29:00Z"),
            zulu(b"2026-10-25T00:30:00Z").map(Stamp::At)
        );
        assert_eq!(
            read("2026-10-25T01:29:00Z"),
            zulu(b"2026-10-25T01:30:00Z").map(Stamp::At)
        );
    }

    #[test]
    fn the_hour_that_does_not_exist_is_moved_forward() {
        // Berlin, 2026-03-29: 02:00 becomes 03:00.
        let moved = zulu(b"2026-03-29T01:30:00Z").map(Stamp::At);
        assert_eq!(read_in("Europe/Berlin", r#""2026-03-29 02:30:00""#), moved);
    }

    proptest! {
        #[test]
        fn the_fast_path_agrees_with_the_library(ms in 0_i64..4_102_444_800_000, places in 0_usize..=9) {
            let t = Timestamp::from_millisecond(ms).unwrap();
            let text = match places {
                0 => t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                n => format!("{}.{}Z", t.strftime("%Y-%m-%dT%H:%M:%S"), &t.strftime("%9f").to_string()[..n]),
            };
            prop_assert!(zulu(text.as_bytes()).is_some(), "{}", text);
            prop_assert_eq!(zulu(text.as_bytes()), rfc3339(&text));
        }

        #[test]
        fn what_is_no_time_is_none_on_the_fast_path(
            ms in 0_i64..4_102_444_800_000,
            at in 0_usize..24,
            other in prop::sample::select(b"0123456789 -:.TZz+/,".to_vec()),
        ) {
            let t = Timestamp::from_millisecond(ms).unwrap();
            let mut text = t.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string().into_bytes();
            text[at] = other;
            let text = String::from_utf8(text).unwrap();
            if let Some(time) = zulu(text.as_bytes()) {
                prop_assert_eq!(Some(time), rfc3339(&text), "{}", text);
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,40}") {
            let json = serde_json::to_string(&text).unwrap();
            let _ = read(&json);
        }
    }
}
