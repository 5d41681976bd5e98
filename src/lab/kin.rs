//! Which settings differ in nothing but one number of one rule.
//!
//! Pure: choices of rules in, families out.

use std::cmp::Reverse;
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
    let mut families: Vec<Kin> = Vec::new();
    let mut left: Vec<usize> = (0..choices.len()).collect();
    if choices.iter().all(|rules| rules.len() == first.len()) {
        let ids = ids(choices, &varied);
        while let Some((place, groups)) = largest(&left, &ids) {
            left.retain(|choice| !groups.iter().any(|group| group.contains(choice)));
            for group in groups {
                families.extend(of_one_rule(choices, varied[place], &group, families.len()));
            }
        }
    }
    let n = families.len();
    families.extend((n..).zip(left).map(|(clan, choice)| alone(choice, clan)));
    families.sort_by_key(|kin| kin.choices.iter().min().copied());
    families
}

/// For each choice which of the rules it has in these places, by number.
fn ids(choices: &[Vec<Rule>], places: &[usize]) -> Vec<Vec<usize>> {
    let mut known: Vec<HashMap<String, usize>> = vec![HashMap::new(); places.len()];
    let of_choice = |rules: &Vec<Rule>| {
        let in_places = places.iter().zip(&mut known);
        let ids = in_places.map(|(place, known)| {
            let next = known.len();
            *known.entry(format!("{:?}", rules[*place])).or_insert(next)
        });
        ids.collect()
    };
    choices.iter().map(of_choice).collect()
}

/// The place in which most of these choices differ alone, and the largest groups of those that do. None if none are left that differ in
/// one place.
fn largest(left: &[usize], ids: &[Vec<usize>]) -> Option<(usize, Vec<Vec<usize>>)> {
    let places = 0..ids.first().map_or(0, Vec::len);
    let groups_of = |place: usize| {
        let mut groups: HashMap<Vec<usize>, Vec<usize>> = HashMap::new();
        for choice in left {
            let mut others = ids[*choice].clone();
            others.remove(place);
            groups.entry(others).or_default().push(*choice);
        }
        let most = groups.values().map(Vec::len).max().unwrap_or(0);
        groups.retain(|_, group| group.len() == most);
        (most, place, groups)
    };
    let best = places
        .map(groups_of)
        .max_by_key(|(most, place, _)| (*most, Reverse(*place)));
    let (_, place, groups) = best.filter(|(most, ..)| *most > 1)?;
    Some((place, groups.into_values().collect()))
}

/// Families of choices that differ in this rule alone. Their clans are counted from here on.
fn of_one_rule(
    choices: &[Vec<Rule>],
    place: usize,
    group: &[usize],
    clans_from: usize,
) -> Vec<Kin> {
    let by = |which: usize| {
        let mut groups: HashMap<String, Vec<(Amount, usize)>> = HashMap::new();
        for choice in group {
            let mut rule = choices[*choice][place].clone();
            let value = take(&mut rule, which);
            let mut key = format!("{rule:?}");
            // Where there is no such number it has no kin.
            let value = value.unwrap_or_else(|| {
                let _ = write!(key, "{choice}");
                0
            });
            groups.entry(key).or_default().push((value, *choice));
        }
        groups
    };
    let fewest = (0..NUMBERS).map(by).min_by_key(HashMap::len);
    let mut clans: HashMap<String, usize> = HashMap::new();
    let kin = |mut members: Vec<(Amount, usize)>| {
        members.sort_unstable();
        let rule = &choices[members[0].1][place];
        let looks_at = (rule.metric, &rule.by, &rule.filter, rule.min_prompt_tokens);
        let next = clans_from + clans.len();
        let clan = clans.entry(format!("{looks_at:?}{}", rule.enabled));
        Kin {
            clan: *clan.or_insert(next),
            choices: members.iter().map(|(_, choice)| *choice).collect(),
            variants: members
                .iter()
                .map(|(_, choice)| Arc::new(choices[*choice][place].clone()))
                .collect(),
        }
    };
    fewest.unwrap_or_default().into_values().map(kin).collect()
}

fn alone(choice: usize, clan: usize) -> Kin {
    Kin {
        choices: vec![choice],
        variants: Vec::new(),
        clan,
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

    /// As `--suggest` tries them: each choice differs from what is in force in one rule, some of them in none.
    #[test]
    fn those_of_each_rule_are_kin_where_several_are_varied() {
        let severity = crate::monitor::Severity::Warning;
        let choice = |a, b| vec![rule(a, 60, severity), rule(b, 600, severity)];
        let choices =
            [(1, 5), (2, 5), (3, 5), (2, 4), (2, 5), (2, 6), (7, 8)].map(|(a, b)| choice(a, b));
        let families = families(&choices);
        let found: Vec<&[usize]> = families.iter().map(|kin| &kin.choices[..]).collect();
        assert_eq!(found, [&[0, 1, 4, 2][..], &[3, 5], &[6]]);
        let clans: std::collections::BTreeSet<usize> =
            families.iter().map(|kin| kin.clan).collect();
        assert_eq!(clans.len(), 3);
    }

    #[test]
    fn what_differs_in_more_is_alone() {
        use crate::monitor::Severity::{Critical, Warning};
        let choices = [vec![rule(1, 60, Warning)], vec![rule(2, 60, Critical)]];
        assert!(families(&choices).iter().all(|kin| kin.len() == 1));
        assert!(families(&[]).is_empty());
    }
}
