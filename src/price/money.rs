//! Money as whole pico-dollars, and the exact ratios that prices are multiplied by.
//!
//! Knows nothing else: no models, no tokens, no tables. There is no floating point here.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

/// An amount of money in pico-dollars: 10⁻¹² US dollars.
///
/// The unit is chosen so that a price of one dollar per million tokens is the whole number 1,000,000 per token.
/// 128 bits hold every sum that a log can produce.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct PicoUsd(pub i128);

impl PicoUsd {
    /// No money.
    pub const ZERO: Self = Self(0);
    /// One US dollar.
    pub const DOLLAR: Self = Self(1_000_000_000_000);

    /// The amount rounded half to even to micro-dollars (10⁻⁶ dollars), for output only.
    pub fn to_micros(self) -> i128 {
        div_half_even(self.0, 1_000_000)
    }

    /// The amount as a decimal number of dollars with six places, as the JSON output writes it: `0.862500`.
    pub fn to_decimal(self) -> String {
        let micros = self.to_micros();
        let sign = if micros < 0 { "-" } else { "" };
        let micros = micros.unsigned_abs();
        format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

impl fmt::Display for PicoUsd {
    /// Dollars for people: `$1,234.56`. Amounts under one cent show up to six places, so that they are never `$0.00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cents = div_half_even(self.0, 10_000_000_000);
        let text = if cents == 0 && self.0 != 0 {
            let decimal = self.to_decimal();
            let trimmed = decimal.trim_end_matches('0').trim_end_matches('.');
            if trimmed.trim_start_matches('-') == "0" {
                "<$0.000001".to_owned()
            } else {
                format!(
                    "{}${}",
                    if self.0 < 0 { "-" } else { "" },
                    trimmed.trim_start_matches('-')
                )
            }
        } else {
            let sign = if cents < 0 { "-" } else { "" };
            let cents = cents.unsigned_abs();
            format!("{sign}${}.{:02}", thousands(cents / 100), cents % 100)
        };
        f.pad(&text)
    }
}

/// Writes a whole number with commas between thousands: `12,345`.
pub fn thousands(n: u128) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Divides and rounds to the nearest whole number, halves to the even neighbour. The divisor must be above zero.
pub fn div_half_even(n: i128, divisor: i128) -> i128 {
    let floor = n.div_euclid(divisor);
    let twice = n.rem_euclid(divisor) * 2;
    match twice.cmp(&divisor) {
        std::cmp::Ordering::Less => floor,
        std::cmp::Ordering::Greater => floor + 1,
        std::cmp::Ordering::Equal => floor + (floor & 1),
    }
}

/// An exact positive factor such as 1/2 for batches or 11/10 for a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ratio {
    /// Numerator, above zero.
    pub num: u32,
    /// Denominator, above zero.
    pub den: u32,
}

impl Ratio {
    /// A factor that changes nothing.
    pub const ONE: Self = Self { num: 1, den: 1 };

    /// The product of two factors, reduced.
    #[must_use]
    pub fn times(self, other: Self) -> Self {
        let num = u64::from(self.num) * u64::from(other.num);
        let den = u64::from(self.den) * u64::from(other.den);
        let divisor = gcd(num, den);
        let reduce = |n: u64| u32::try_from(n / divisor).unwrap_or(u32::MAX);
        Self {
            num: reduce(num),
            den: reduce(den),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.den == 1 {
            return write!(f, "{}×", self.num);
        }
        let thousandths = u64::from(self.num) * 1000 / u64::from(self.den);
        let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
        write!(f, "{}×", text.trim_end_matches('0'))
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// Reads a decimal number exactly and scales it by `10^places`. `None` if it is not a plain non-negative decimal number or
/// has more digits than `places` can hold.
pub fn scaled_decimal(text: &str, places: u32) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 15 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let missing = places.checked_sub(u32::try_from(fraction.len()).ok()?)?;
    let whole: i128 = whole.parse().ok()?;
    let fraction: i128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    Some(whole * 10_i128.pow(places) + fraction * 10_i128.pow(missing))
}

/// A cost as it stands in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedCost {
    /// The cost in pico-dollars.
    pub pico: i128,
    /// What its last digit stands for: the true cost may differ by so much.
    pub step: i128,
}

impl RecordedCost {
    /// Reads a cost in dollars as it stands in a log. Binary fractions are written with up to 17 digits; those past the ninth
    /// place are noise and are rounded away. `None` if it is no plain number, or negative.
    pub fn read(text: &str) -> Option<Self> {
        let (value, places) = decimal(text)?;
        let power = |n: i32| 10_i128.checked_pow(u32::try_from(n).ok()?);
        if places > 9 {
            let pico = div_half_even(value, power(places - 9)?) * 1000;
            return Some(Self { pico, step: 1000 });
        }
        let step = power(12 - places)?;
        let pico = value.checked_mul(step)?;
        Some(Self { pico, step })
    }
}

/// Reads a price in dollars per token, `3e-06`, as pico-dollars; what lies below one of them is rounded away, half to even.
pub(super) fn per_token(text: &str) -> Option<u64> {
    let (value, places) = decimal(text)?;
    let power = |n: i32| 10_i128.checked_pow(u32::try_from(n).ok()?);
    let pico = if places > 12 {
        div_half_even(value, power(places - 12)?)
    } else {
        value.checked_mul(power(12 - places)?)?
    };
    // A million dollars per million tokens is a mistake.
    u64::try_from(pico).ok().filter(|n| *n <= 1_000_000_000_000)
}

/// A number that is not negative, also with an exponent, as a whole number and how many decimal places it has.
fn decimal(text: &str) -> Option<(i128, i32)> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || !(-30..=9).contains(&exponent) {
        return None;
    }
    let places = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    let joined = format!("{whole}{fraction}");
    let significant = joined.trim_start_matches('0');
    if significant.len() > 30 {
        return None;
    }
    let value = if significant.is_empty() {
        0
    } else {
        significant.parse().ok()?
    };
    Some((value, places))
}

impl Add for PicoUsd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for PicoUsd {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Neg for PicoUsd {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl AddAssign for PicoUsd {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl SubAssign for PicoUsd {
    fn sub_assign(&mut self, other: Self) {
        self.0 -= other.0;
    }
}

impl Sum for PicoUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_rounded_for_people_and_never_shown_as_nothing() {
        let show = |p: i128| PicoUsd(p).to_string();
        assert_eq!(show(1_234_565_000_000_000), "$1,234.56");
        assert_eq!(show(862_500_000_000), "$0.86");
        assert_eq!(show(0), "$0.00");
        assert_eq!(show(1_500_000_000), "$0.0015");
        assert_eq!(show(-2_000_000_000_000), "-$2.00");
        assert_eq!(show(3), "<$0.000001");
    }

    #[test]
    fn halves_go_to_the_even_neighbour() {
        assert_eq!(
            [-3, -1, 1, 3, 5].map(|n| div_half_even(n, 2)),
            [-2, 0, 0, 2, 2]
        );
    }

    #[test]
    fn decimals_are_read_exactly_or_not_at_all() {
        assert_eq!(scaled_decimal("0.0125", 6), Some(12_500));
        assert_eq!(scaled_decimal("37.50", 6), Some(37_500_000));
        assert_eq!(scaled_decimal("0.0000001", 6), None);
        assert_eq!(scaled_decimal("-1", 6), None);
        assert_eq!(scaled_decimal("1e3", 6), None);
    }

    #[test]
    fn a_recorded_cost_knows_what_its_last_digit_stands_for() {
        let cost = |text: &str| RecordedCost::read(text).map(|cost| (cost.pico, cost.step));
        assert_eq!(cost("0.0205089"), Some((20_508_900_000, 100_000)));
        assert_eq!(
            cost("0.020508900000000003"),
            Some((20_508_900_000, 1000)),
            "the noise of a binary fraction is dropped"
        );
        assert_eq!(cost("3e-06"), Some((3_000_000, 1_000_000)));
        assert_eq!(cost("1.5E-3"), Some((1_500_000_000, 100_000_000)));
        assert_eq!(cost("2"), Some((2_000_000_000_000, 1_000_000_000_000)));
        for wrong in ["", "-1", "x", "1e", "1e99", "0x1", "1.2.3"] {
            assert_eq!(cost(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn prices_per_token_are_whole_pico_dollars() {
        assert_eq!(per_token("3e-06"), Some(3_000_000));
        assert_eq!(per_token("1.25e-07"), Some(125_000));
        assert_eq!(per_token("0.000015"), Some(15_000_000));
        assert_eq!(per_token("3.0000000000000004e-07"), Some(300_000));
        assert_eq!(per_token("-1e-06"), None);
        assert_eq!(per_token("5"), None);
    }
}
