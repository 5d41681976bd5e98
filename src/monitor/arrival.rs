//! What has come in for a key, or why else its rules are read, and what alerts have spoken for of it.
//!
//! Carries it from scope to scope. What follows from it is decided elsewhere.

use std::sync::Arc;

use super::cache::Miss;
use super::metric::Metric;
use super::record::{Labels, Time, UsageRecord};
use super::scope::Scope;
use super::settings::Looking;
use super::who::Portions;
use super::window::Sums;
use crate::price::PicoUsd;

/// Waste of a record that an alert has spoken for, passed on to the scopes that come after.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spoken {
    pub(super) run: PicoUsd,
    pub(super) window: PicoUsd,
}

impl Spoken {
    /// Alerts have spoken for so much after a miss, and for so much before it.
    pub(super) fn add(&mut self, told: &SpokenFor, before: &SpokenFor) {
        if let Some(cost) = told.run {
            self.run = cost - before.run.unwrap_or_default();
        } else if let Some(cost) = told.window
            && self.run == PicoUsd::ZERO
        {
            self.window = cost - before.window.unwrap_or_default();
        }
    }
}

/// What has just come in for a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived<'a> {
    pub(super) labels: &'a Arc<Labels>,
    /// No error.
    pub(super) is_response: bool,
    /// A response that missed nothing, is not late, and leaves room below the limits of all means; no error.
    pub(super) is_plain: bool,
    /// Which tellers have to look at the rule that they judge, if that is known.
    pub(super) looking: Option<Looking>,
}

/// Why the rules of a key are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Came<'a> {
    /// Time has moved on.
    Nothing,
    /// The same, and minutes of it were sampled, which everybody would have looked for.
    Sampled,
    /// One that spoke for others has ended, which is for those to look at of whom nothing is known.
    Released,
    /// What a response of these labels cost turned out to be more.
    More(&'a Arc<Labels>),
    /// A response or an error has come.
    Arrived(Arrived<'a>),
}

impl<'a> Came<'a> {
    /// A response of these labels.
    pub(super) const fn of_response(
        labels: &'a Arc<Labels>,
        is_plain: bool,
        looking: Option<Looking>,
    ) -> Self {
        Self::Arrived(Arrived {
            labels,
            is_response: true,
            is_plain,
            looking,
        })
    }

    pub(super) const fn arrived(self) -> Option<Arrived<'a>> {
        match self {
            Self::Arrived(arrived) => Some(arrived),
            Self::Nothing | Self::Sampled | Self::Released | Self::More(_) => None,
        }
    }

    /// Of whom it came.
    pub(super) fn labels(self) -> Option<&'a Arc<Labels>> {
        match self {
            Self::More(labels) => Some(labels),
            _ => self.arrived().map(|arrived| arrived.labels),
        }
    }

    /// It is a response.
    pub(super) fn is_response(self) -> bool {
        self.arrived().is_some_and(|arrived| arrived.is_response)
    }

    /// It is a response that is plain.
    pub(super) fn is_plain(self) -> bool {
        self.arrived().is_some_and(|arrived| arrived.is_plain)
    }

    /// It adds to what responses come to.
    pub(super) const fn adds(self) -> bool {
        match self {
            Self::Arrived(arrived) => arrived.is_response,
            Self::More(_) => true,
            Self::Nothing | Self::Sampled | Self::Released => false,
        }
    }
}

/// A record on its way through the scopes.
pub(super) struct Arrival<'a> {
    pub(super) record: &'a UsageRecord,
    /// Under which labels it comes.
    pub(super) labels: &'a Arc<Labels>,
    pub(super) at: Time,
    /// A miss that could have been avoided.
    pub(super) miss: Option<&'a Miss>,
    /// Those before it that it shows to have been some.
    pub(super) late: &'a [Miss],
    /// What it adds to windows; what the cache could have served of it is for each key to say.
    pub(super) sums: Sums,
    /// What it costs for what its model does not tell.
    pub(super) portions: Option<Portions<PicoUsd>>,
    pub(super) spoken: Spoken,
}

impl Arrival<'_> {
    /// It is a miss that could have been avoided, or shows that others were.
    pub(super) const fn is_miss(&self) -> bool {
        self.miss.is_some() || !self.late.is_empty()
    }
}

/// Waste that the open alerts of a key have spoken for so far, by kind of rule.
#[derive(Default)]
pub(super) struct SpokenFor {
    run: Option<PicoUsd>,
    window: Option<PicoUsd>,
}

/// How much they have spoken for.
pub(super) fn spoken_for(scope: &Scope, id: u64) -> SpokenFor {
    let mut spoken = SpokenFor::default();
    if !scope.explains {
        return spoken;
    }
    let Some(key) = scope.keys.get(&id) else {
        return spoken;
    };
    for (alert, rule) in key.alerts.iter().zip(&scope.rules) {
        let said = alert.open().map(|episode| episode.exposed);
        match rule.metric {
            Metric::MissRun => spoken.run = said,
            Metric::CacheWaste => spoken.window = said,
            _ => {}
        }
    }
    spoken
}
