//! What to set where an alert is of an ordinary day, and too little has been seen yet to tell so.
//!
//! Knows limits, and that what is usual of a day is learned in a day.

use super::text::clean;
use crate::monitor::{Amount, Limit, Notice, Reason, UNIT, Unit};

/// What is on for so long may be how it is here.
const LONG_SECS: i64 = 3600;

/// `ordinary here? a day shows what is; until then: --set cost-rate.above=15`.
pub(super) fn way_out(notice: &Notice) -> Option<String> {
    let rule = &notice.rule;
    let field = match rule.limit {
        Limit::AboveBusy { .. } => "above",
        Limit::TimesUsual(_) | Limit::BeyondBusy(_) => "floor",
        Limit::Above(_)
        | Limit::Below(_)
        | Limit::SilentFor(_)
        | Limit::ByChance { .. }
        | Limit::Once => return None,
    };
    let is_long = notice.at.millis_since(notice.since) >= 1000 * LONG_SECS;
    let knows_days = notice.usual.is_some_and(|usual| usual.is_of_days);
    // Its plain number holds until something is learned, and stands for any log.
    let is_a_guess = field == "above" && notice.usual.is_none();
    let until = match notice.reason {
        Reason::First if is_a_guess => "little is known yet; until it is",
        Reason::Repeat | Reason::StillFiring if is_long && !knows_days => {
            "a day shows what is; until then"
        }
        _ => return None,
    };
    if !rule.goes_with_the_days() {
        return None;
    }
    let least = match rule.metric.unit() {
        Unit::Usd => UNIT / 100,
        Unit::Tokens | Unit::Requests | Unit::Share | Unit::Seconds => UNIT,
    };
    let limit = roundly_above(notice.value?.max(notice.limit), least)?;
    Some(format!(
        "ordinary here? {until}: --set {}.{field}={limit}",
        clean(&rule.name)
    ))
}

/// A round number half as high again, and no less than this.
fn roundly_above(value: Amount, least: Amount) -> Option<String> {
    let wanted = value.checked_mul(3)? / 2;
    let mut ten = least;
    loop {
        for fifths in [5, 10, 15, 25] {
            let number = ten.checked_mul(fifths)? / 5;
            if number >= wanted {
                return Some(plain(number));
            }
        }
        ten = ten.checked_mul(10)?;
    }
}

/// `15`, `0.3`.
fn plain(number: Amount) -> String {
    let text = format!("{}.{:012}", number / UNIT, number % UNIT);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::{Metric, Rule, Time, Usual};
    use std::sync::Arc;

    const CENT: Amount = UNIT / 100;

    fn notice(metric: Metric, limit: Limit, reason: Reason, on_for_secs: i64) -> Notice {
        let rule = Arc::new(Rule {
            name: "cost-rate".into(),
            metric,
            limit,
            ..Rule::blank()
        });
        let at = Time::from_secs(on_for_secs);
        Notice {
            value: Some(1138 * CENT),
            limit: 200 * CENT,
            ..Notice::in_words(&rule, reason, Vec::new(), 1, at, Time(0), "")
        }
    }

    #[test]
    fn it_is_told_of_what_goes_on_and_only_while_no_day_is_known() {
        let above = Limit::AboveBusy {
            above: 2 * UNIT,
            beyond: UNIT,
        };
        let told = |notice: &Notice| {
            way_out(notice).map(|text| text.split("--set ").nth(1).map(str::to_owned))
        };
        let set = |text: &str| Some(Some(text.to_owned()));
        let of = |limit, reason, secs| notice(Metric::Cost, limit, reason, secs);
        assert_eq!(
            told(&of(above, Reason::Repeat, 3600)),
            set("cost-rate.above=20")
        );
        let times = Limit::TimesUsual(3 * UNIT);
        assert_eq!(
            told(&of(times, Reason::Repeat, 7200)),
            set("cost-rate.floor=20")
        );
        // It has not been on for long, is over, is what somebody has set, or is no sum of a day.
        assert_eq!(told(&of(above, Reason::Repeat, 3599)), None);
        assert_eq!(told(&of(above, Reason::Resolved, 7200)), None);
        // The first of all, while nothing is known; later ones only say it if they go on.
        assert_eq!(
            told(&of(above, Reason::First, 0)),
            set("cost-rate.above=20")
        );
        assert_eq!(told(&of(times, Reason::First, 0)), None);
        let after_an_hour = Notice {
            usual: Some(Usual::default()),
            ..of(above, Reason::First, 0)
        };
        assert_eq!(told(&after_an_hour), None);
        assert_eq!(told(&of(Limit::Above(UNIT), Reason::Repeat, 7200)), None);
        let mean = notice(Metric::CostPerRequest, times, Reason::Repeat, 7200);
        assert_eq!(told(&mean), None);
        let after_a_day = Notice {
            usual: Some(Usual {
                is_of_days: true,
                days: 0,
                ..Usual::default()
            }),
            ..of(above, Reason::Repeat, 7200)
        };
        assert_eq!(told(&after_a_day), None);
    }

    #[test]
    fn limits_are_round_and_lie_above() {
        for (value, least, round) in [
            (1138 * CENT, CENT, "20"),
            (1334 * CENT, CENT, "30"),
            (20 * CENT, CENT, "0.3"),
            (CENT / 10, CENT, "0.01"),
            (300_000 * UNIT, UNIT, "500000"),
        ] {
            assert_eq!(roundly_above(value, least).as_deref(), Some(round));
        }
        assert_eq!(roundly_above(Amount::MAX, CENT), None);
    }
}
