//! The blind spots alarm themselves: nothing is seen where something should be.
//!
//! What makes a spot blind is found out elsewhere and comes in as a sentence; here it becomes an alert like any other.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::alert::{Alert, Episode, Notice, Phase, Reading};
use super::record::{Labels, Time};
use super::rule::{Label, Rule};
use super::step::episode_id;
use super::tell::{Reason, Told};
use crate::price::PicoUsd;

/// What cannot be seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlindSpot {
    /// In which way.
    pub kind: String,
    /// Where.
    pub source: Arc<str>,
}

/// All blind spots, those that are over for as long as they may come back.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Blind {
    spots: BTreeMap<BlindSpot, Spot>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Spot {
    alert: Alert,
    told: Told,
    is_on: bool,
    text: Arc<str>,
}

impl Blind {
    /// Whether anything is told to be blind.
    pub(super) fn is_told(&self) -> bool {
        let mut spots = self.spots.values();
        spots.any(|spot| spot.alert.open().is_some() && spot.told.is_open())
    }

    /// Says of a spot that it is blind, and how, or that it no longer is.
    pub(super) fn set(&mut self, spot: &BlindSpot, text: Option<String>) {
        match (self.spots.get_mut(spot), text) {
            (None, None) => {}
            (Some(known), None) => known.is_on = false,
            (Some(known), Some(text)) => {
                known.is_on = true;
                known.text = text.into();
            }
            (None, Some(text)) => {
                let new = Spot {
                    alert: Alert::default(),
                    told: Told::default(),
                    is_on: true,
                    text: text.into(),
                };
                self.spots.insert(spot.clone(), new);
            }
        }
    }

    /// Moves the alerts in time: the clock was wrong by so much.
    pub(super) fn shift(&mut self, ms: i64) {
        for spot in self.spots.values_mut() {
            spot.alert.shift(ms);
            spot.told.shift(ms);
        }
    }

    /// Moves the alerts on and gives the notices that are due.
    pub(super) fn step(&mut self, rule: &Arc<Rule>, now: Time, live: bool) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (place, spot) in &mut self.spots {
            let key = vec![
                (Label::Source, place.source.to_string()),
                (Label::Project, place.kind.clone()),
            ];
            let labels = Arc::new(Labels {
                source: Arc::clone(&place.source),
                ..Labels::default()
            });
            let reading = if spot.is_on {
                Reading::Breach
            } else {
                Reading::Clear
            };
            spot.alert.step(now, reading, rule, || {
                let id = episode_id(rule, &key, now);
                Episode::new(id, now, 0, Arc::clone(&labels))
            });
            // It is so at every look, so there is news for as long as it lasts.
            if let Some(episode) = spot.alert.open_mut().filter(|_| spot.is_on) {
                episode.last_evidence = now;
            }
            let Some(episode) = spot.alert.episode.as_deref() else {
                spot.told = Told::default();
                continue;
            };
            let due = spot.told.due(&spot.alert, now, PicoUsd::ZERO);
            let Some(reason) = due.filter(|_| live) else {
                continue;
            };
            spot.told.note(reason, now, PicoUsd::ZERO);
            notices.push(notice(rule, reason, now, episode, place, &spot.text));
        }
        self.spots
            .retain(|_, spot| spot.is_on || spot.alert.phase != Phase::Inactive);
        notices
    }
}

fn notice(
    rule: &Arc<Rule>,
    reason: Reason,
    now: Time,
    episode: &Episode,
    place: &BlindSpot,
    text: &Arc<str>,
) -> Notice {
    let key = vec![(Label::Source, place.source.to_string())];
    let text = Arc::clone(text);
    Notice {
        labels: Arc::clone(&episode.labels),
        flapping: episode.is_flapping(),
        ..Notice::in_words(rule, reason, key, episode.id, now, episode.since, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::{Limit, Metric};

    fn rule() -> Arc<Rule> {
        Arc::new(Rule {
            name: "blind".into(),
            metric: Metric::Blind,
            limit: Limit::Once,
            keep_firing_secs: 60,
            ..Rule::blank()
        })
    }

    #[test]
    fn a_spot_is_told_once_repeated_rarely_and_resolved_when_it_has_been_clear() {
        let rule = rule();
        let mut blind = Blind::default();
        let place = BlindSpot {
            kind: "gone".to_owned(),
            source: "app.log".into(),
        };
        let mut told = Vec::new();
        for second in 0..3000 {
            let is_gone = (100..2000).contains(&second);
            blind.set(&place, is_gone.then(|| "app.log is gone".to_owned()));
            for notice in blind.step(&rule, Time::from_secs(second), true) {
                told.push((second, notice.reason.name()));
            }
        }
        assert_eq!(told, [(100, "first"), (1000, "repeat"), (2060, "resolved")]);
        assert!(blind.spots.is_empty(), "nothing is kept of what is over");
    }

    #[test]
    fn nothing_is_told_while_silent_and_what_is_still_so_afterwards() {
        let rule = rule();
        let mut blind = Blind::default();
        let place = BlindSpot {
            kind: "dry".to_owned(),
            source: "a".into(),
        };
        blind.set(&place, Some("x".to_owned()));
        assert!(blind.step(&rule, Time::from_secs(1), false).is_empty());
        assert_eq!(blind.step(&rule, Time::from_secs(2), true).len(), 1);
    }
}
