//! Who keeps quiet because others speak, to be listed in what speaks for them.
//!
//! Follows from what begins and ends, never from how often it is looked at: a rule is listed from the moment that it keeps quiet
//! while others speak, and until none of these speaks any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::teller::Place;
use super::voices::{Voices, Withheld};

/// An episode that is on and is not told.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Hushed {
    rule: Arc<str>,
    /// What the cache did not give explains it.
    by_cache: bool,
    /// Others tell of the same spending.
    by_spending: bool,
}

/// All that keep quiet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::monitor) struct Hush {
    episodes: BTreeMap<(usize, u64, usize), Hushed>,
    /// Some alert that may explain others speaks.
    explaining: bool,
    /// Some alert about spending speaks.
    spending: bool,
    /// Rules that have kept quiet since the first that explains spoke.
    explained: BTreeSet<Arc<str>>,
    /// Rules that have kept quiet since the first about spending spoke.
    outspoken: BTreeSet<Arc<str>>,
}

impl Hush {
    /// An episode is explained by others. True if it was not before.
    pub(super) fn explain(&mut self, place: Place, rule: &Arc<str>, by: Withheld) -> bool {
        let hushed = self.episodes.entry(place.into()).or_insert(Hushed {
            rule: Arc::clone(rule),
            by_cache: false,
            by_spending: false,
        });
        let (hushed, speaks, rules) = match by {
            Withheld::ByCache => (&mut hushed.by_cache, self.explaining, &mut self.explained),
            Withheld::BySpending => (&mut hushed.by_spending, self.spending, &mut self.outspoken),
            Withheld::ByItsLike => return false,
        };
        let is_new = !std::mem::replace(hushed, true);
        if is_new && speaks && !rules.contains(rule) {
            rules.insert(Arc::clone(rule));
        }
        is_new
    }

    /// An episode waits for others to end. Who these are when it is first to be told decides where it is listed: others come and
    /// go, and nobody looks at it for that. True if it did not wait before.
    pub(super) fn withhold(&mut self, place: Place, rule: &Arc<str>, by: Withheld) -> bool {
        !self.episodes.contains_key(&place.into()) && self.explain(place, rule, by)
    }

    /// An episode is told, or over.
    pub(super) fn end(&mut self, place: Place) {
        self.episodes.remove(&place.into());
    }

    /// Forgets all that keep quiet: they are to be looked at anew.
    pub(in crate::monitor) fn clear(&mut self) {
        self.episodes.clear();
    }

    /// Others have begun or ceased to speak.
    pub(in crate::monitor) fn follow(&mut self, voices: &Voices) {
        let explaining = std::mem::replace(&mut self.explaining, voices.any_explaining());
        if explaining != self.explaining {
            let hushed = self.episodes.values().filter(|hushed| hushed.by_cache);
            let hushed = hushed.filter(|_| !explaining);
            self.explained = hushed.map(|hushed| Arc::clone(&hushed.rule)).collect();
        }
        let spending = std::mem::replace(&mut self.spending, voices.any_about_spending());
        if spending != self.spending {
            let hushed = self.episodes.values().filter(|hushed| hushed.by_spending);
            let hushed = hushed.filter(|_| !spending);
            self.outspoken = hushed.map(|hushed| Arc::clone(&hushed.rule)).collect();
        }
    }

    /// Rules that keep quiet because an open alert about the cache explains them.
    pub(super) fn explained(&self) -> impl Iterator<Item = &Arc<str>> {
        self.explained.iter()
    }

    /// Rules about spending that keep quiet because another one speaks.
    pub(super) fn outspoken(&self) -> impl Iterator<Item = &Arc<str>> {
        self.outspoken.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::Reason;
    use super::*;
    use crate::monitor::metric::Metric;
    use crate::monitor::record::Time;
    use crate::monitor::rule::Rule;
    use crate::price::PicoUsd;

    const PLACE: Place = Place {
        index: 1,
        id: 7,
        slot: 0,
    };

    fn miss() -> Rule {
        Rule {
            name: "cache-miss".into(),
            metric: Metric::CacheMiss,
            ..Rule::blank()
        }
    }

    #[test]
    fn what_keeps_quiet_is_listed_while_one_speaks_that_explains() {
        let (mut voices, mut hush) = (Voices::default(), Hush::default());
        let run: Arc<str> = "cache-break".into();
        assert!(hush.explain(PLACE, &run, Withheld::ByCache));
        assert_eq!(hush.explained().count(), 0);
        voices.note(&miss(), 1, Reason::First, Time(60_000), PicoUsd::ZERO);
        hush.follow(&voices);
        assert_eq!(hush.explained().collect::<Vec<_>>(), [&run]);
        // It is over, and was kept quiet all the same.
        hush.end(PLACE);
        assert_eq!(hush.explained().count(), 1);
        voices.note(&miss(), 1, Reason::Resolved, Time(90_000), PicoUsd::ZERO);
        hush.follow(&voices);
        voices.note(&miss(), 2, Reason::First, Time(120_000), PicoUsd::ZERO);
        hush.follow(&voices);
        assert_eq!(hush.explained().count(), 0);
    }

    #[test]
    fn why_it_waits_is_decided_when_it_begins_to() {
        let (mut voices, mut hush) = (Voices::default(), Hush::default());
        let run: Arc<str> = "cache-break".into();
        voices.note(&miss(), 1, Reason::First, Time(60_000), PicoUsd::ZERO);
        hush.follow(&voices);
        assert!(!hush.withhold(PLACE, &run, Withheld::ByItsLike));
        // However often one looks.
        assert!(!hush.withhold(PLACE, &run, Withheld::ByCache));
        assert_eq!(hush.explained().count(), 0);
        hush.end(PLACE);
        assert!(hush.withhold(PLACE, &run, Withheld::ByCache));
        assert!(!hush.withhold(PLACE, &run, Withheld::ByCache));
        assert_eq!(hush.explained().count(), 1);
    }
}
