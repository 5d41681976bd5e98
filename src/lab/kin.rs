//! Which settings differ in nothing but one number of one rule.
//!
//! Pure: choices of rules in, families out.

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use crate::monitor::{Amount, Limit, Metric, Rule};

/// Settings that differ in one number of one rule, the most sensitive first.
#[derive(Debug, Clone)]
pub(super) struct Kin {
    /// Which choices they are.
    pub(super) choices: Vec<usize>,
    /// The rule that differs, as each has it; none if settings differ in more than one rule.
    pub(super) variants: Vec<Arc<Rule>>,
    /// Those that differ in nothing but this rule, which looks at the same, have the same number.
    pub(super) clan: usize,
}

impl Kin {
    pub(super) fn len(&self) -> usize {
        self.choices.len()
    }

    pub(super) fn part(&self, part: Range<usize>) -> Self {
        Self {
            choices: self.choices[part.clone()].to_vec(),
            variants: self.variants[part].to_vec(),
            clan: self.clan,
        }
    }
}

/// The numbers with which a rule fires the less the higher they are.
const NUMBERS: usize = 6;

/// Takes one of them out of a rule; `None` where it has none.
fn take(rule: &mut Rule, which: usize) -> Option<Amount> {
    let is_run = rule.metric == Metric::MissRun;
    let number = match (which, &mut rule.limit) {
        (3, _) if rule.metric.is_about_cache() => &mut rule.min_waste.0,
        (4, Limit::ByChance { days }) if is_run => return Some(std::mem::take(days).into()),
        (0, Limit::Above(number)) if is_run => number,
        _ if !rule.metric.is_windowed() || rule.metric == Metric::Blind => return None,
        (
            0,
            Limit::Above(number)
            | Limit::TimesUsual(number)
            | Limit::BeyondBusy(number)
            | Limit::AboveBusy { above: number, .. },
        )
        | (1, Limit::AboveBusy { beyond: number, .. }) => number,
        (5, Limit::Above(_)) => &mut rule.share_of_cost,
        (2, Limit::TimesUsual(_) | Limit::BeyondBusy(_)) => &mut rule.floor,
        _ => return None,
    };
    Some(std::mem::take(number))
}

/// Puts choices together that differ in one number; the others are alone. The choices are the same rules in the same order.
pub(super) fn families(choices: &[Vec<Rule>]) -> Vec<Kin> {
    let Some(first) = choices.first() else {
        return Vec::new();
    };
    // Most rules are the same in all choices.
    let varied: Vec<usize> = (0..first.len())
        .filter(|n| choices.iter().any(|rules| rules.get(*n) != first.get(*n)))
        .collect();
    let is_regular = choices.iter().all(|rules| rules.len() == first.len());
    let by = |place: usize, which: usize| {
        let mut groups: HashMap<String, Vec<(Amount, usize)>> = HashMap::new();
        for (choice, rules) in choices.iter().enumerate() {
            let mut key = String::new();
            let mut value = None;
            for n in &varied {
                let mut rule = rules[*n].clone();
                if *n == place {
                    value = take(&mut rule, which);
                }
                let _ = write!(key, "{rule:?}");
            }
            // Where there is no such number it has no kin.
            let value = value.unwrap_or_else(|| {
                let _ = write!(key, "{choice}");
                0
            });
            groups.entry(key).or_default().push((value, choice));
        }
        groups
    };
    let places = varied
        .iter()
        .flat_map(|place| (0..NUMBERS).map(|which| (*place, which)));
    let fewest = places
        .filter(|_| is_regular)
        .map(|(place, which)| (place, by(place, which)))
        .min_by_key(|(_, groups)| groups.len());
    let Some((place, groups)) = fewest else {
        return (0..choices.len()).map(alone).collect();
    };
    let mut families: Vec<Kin> = Vec::new();
    let mut clans: HashMap<String, usize> = HashMap::new();
    for mut members in groups.into_values() {
        members.sort_unstable();
        let rules = &choices[members[0].1];
        let mut rest = String::new();
        for n in varied.iter().filter(|n| **n != place) {
            let _ = write!(rest, "{:?}", rules[*n]);
        }
        let rule = &rules[place];
        let looks_at = (rule.metric, &rule.by, &rule.filter, rule.min_prompt_tokens);
        let _ = write!(rest, "{looks_at:?}{}", rule.enabled);
        let next = clans.len();
        families.push(Kin {
            clan: *clans.entry(rest).or_insert(next),
            choices: members.iter().map(|(_, choice)| *choice).collect(),
            variants: members
                .iter()
                .map(|(_, choice)| Arc::new(choices[*choice][place].clone()))
                .collect(),
        });
    }
    families.sort_by_key(|kin| kin.choices.iter().min().copied());
    families
}

fn alone(choice: usize) -> Kin {
    Kin {
        choices: vec![choice],
        variants: Vec::new(),
        clan: choice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::UNIT;

    fn rule(above: i128, window: i64, severity: crate::monitor::Severity) -> Rule {
        Rule {
            limit: Limit::Above(above * UNIT),
            windows: vec![window],
            severity,
            ..Rule::blank()
        }
    }

    #[test]
    fn limits_of_a_rule_are_kin_and_windows_are_not() {
        let severity = crate::monitor::Severity::Warning;
        let mut choices = Vec::new();
        for window in [60, 300] {
            for above in [5, 1, 3] {
                choices.push(vec![rule(9, 60, severity), rule(above, window, severity)]);
            }
        }
        let families = families(&choices);
        let found: Vec<&[usize]> = families.iter().map(|kin| &kin.choices[..]).collect();
        assert_eq!(found, [&[1, 2, 0][..], &[4, 5, 3]]);
        assert_eq!(families[0].variants[0].limit, Limit::Above(UNIT));
        assert_eq!(families[0].clan, families[1].clan);
    }

    #[test]
    fn what_differs_in_more_is_alone() {
        use crate::monitor::Severity::{Critical, Warning};
        let choices = [vec![rule(1, 60, Warning)], vec![rule(2, 60, Critical)]];
        assert!(families(&choices).iter().all(|kin| kin.len() == 1));
        assert!(families(&[]).is_empty());
    }
}
