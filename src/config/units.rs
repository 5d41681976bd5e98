//! Durations, amounts and moments as people write them. Knows neither flags nor rules, and reads no clock.

use jiff::civil::Time as OfDay;

use crate::monitor::{Amount, Time, UNIT};
use crate::parse::{self, Zone};
use crate::price::scaled_decimal;

/// Reads `30s`, `5m`, `1h`, `7d` or `1h30m` as seconds.
///
/// # Errors
/// Says what is wrong and how to write it.
pub fn duration(text: &str) -> Result<i64, String> {
    let error = || format!("\"{text}\" is not a duration; write 30s, 5m, 1h or 7d");
    let mut rest = text.trim();
    let mut total = 0_i64;
    if rest.is_empty() {
        return Err(error());
    }
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
        let n: i64 = rest[..unit_at].parse().map_err(|_| error())?;
        let unit_len = rest[unit_at..]
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len() - unit_at);
        let secs = match rest[unit_at..unit_at + unit_len].trim() {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(error()),
        };
        total = n
            .checked_mul(secs)
            .and_then(|secs| total.checked_add(secs))
            .ok_or_else(error)?;
        rest = &rest[unit_at + unit_len..];
    }
    // A century is more than anybody means, and far from the limits of the arithmetic.
    if total > 100 * 366 * 86_400 {
        Err(error())
    } else {
        Ok(total)
    }
}

/// Writes seconds the way [`duration`] reads them: `90s`, `5m`, `7d`.
pub fn write_duration(secs: i64) -> String {
    match secs {
        0 => "0s".to_owned(),
        s if s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// Reads a plain decimal number exactly; `50%` is 0.50.
///
/// # Errors
/// Says what is wrong and how to write it.
pub(super) fn amount(text: &str) -> Result<Amount, String> {
    let text = text.trim();
    let (digits, parts) = match text.strip_suffix('%') {
        Some(digits) => (digits.trim(), 100),
        None => (text.strip_prefix('$').unwrap_or(text), 1),
    };
    scaled_decimal(digits, 12)
        .map(|n| n / parts)
        .ok_or_else(|| {
            let wrong = if digits.starts_with('-') {
                "is below 0"
            } else {
                "is not a number"
            };
            format!("\"{text}\" {wrong}; write it like 2, 0.5 or 50%")
        })
}

/// Writes an amount as a plain decimal number, exactly: `0.5`, `2.0`.
pub fn write_amount(amount: Amount) -> String {
    let fraction = format!("{:012}", amount % UNIT);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        format!("{}.0", amount / UNIT)
    } else {
        format!("{}.{fraction}", amount / UNIT)
    }
}

/// Reads `2026-11-01` with or without a time of that day, an RFC 3339 time, or `-2h`, `today` and `yesterday` seen from now.
///
/// # Errors
/// Says what is wrong and how to write it.
pub fn moment(text: &str, now: Time, zone: Zone) -> Result<Time, String> {
    let today = || zone.wall_clock(now).date();
    let day = match text {
        "today" => Some(today()),
        "yesterday" => today().yesterday().ok(),
        _ => None,
    };
    if let Some(day) = day {
        return Ok(zone.moment(day.to_datetime(OfDay::midnight()), now));
    }
    if let Some(time) = parse::moment(text, zone) {
        return Ok(time);
    }
    let ago = text.strip_prefix('-').unwrap_or(text);
    duration(ago).map(|secs| now.plus_secs(-secs)).map_err(|_| {
        format!(
            "\"{text}\" is not a time; write 2026-11-01, \"2026-11-01 12:00\", 2026-11-01T12:00:00Z, yesterday or -2h"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("90s"), Ok(90));
        assert_eq!(duration("1h30m"), Ok(5400));
        assert_eq!(duration("7d"), Ok(604_800));
        for wrong in [
            "",
            "5",
            "5 parsecs",
            "m",
            "-5m",
            "99999999999d",
            "9999999999999999999s",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn amounts_are_exact() {
        assert_eq!(amount("0.1"), Ok(UNIT / 10));
        assert_eq!(amount("50%"), Ok(UNIT / 2));
        assert_eq!(amount("$2"), Ok(2 * UNIT));
        assert!(amount("two").is_err() && amount("-1").is_err() && amount("").is_err());
        assert_eq!(write_amount(UNIT / 2), "0.5");
        assert_eq!(write_amount(2 * UNIT), "2.0");
    }

    #[test]
    fn days_begin_in_the_zone_that_is_shown() {
        let now = Time(1_795_428_000_000);
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        assert_eq!(
            moment("2026-11-23", now, berlin),
            Ok(Time(1_795_388_400_000))
        );
        assert_eq!(moment("20261123", now, berlin), Ok(Time(1_795_388_400_000)));
        assert_eq!(moment("-2h", now, berlin), Ok(now.plus_secs(-7200)));
        let midnight = moment("2026-11-23", now, berlin).unwrap();
        for (text, secs) in [
            ("today", 0),
            ("yesterday", -86_400),
            ("2026-11-23 01:30", 5400),
            ("2026-11-23T01:30:15", 5415),
            ("2026-11-23T00:30Z", 5400),
            ("2026-11-23 00:30:00Z", 5400),
        ] {
            assert_eq!(
                moment(text, now, berlin),
                Ok(midnight.plus_secs(secs)),
                "{text}"
            );
        }
        for wrong in ["tomorrow", "2026-11-31", "2026-11-23 25:00", "01:30", ""] {
            assert!(moment(wrong, now, berlin).is_err(), "{wrong}");
        }
    }
}
