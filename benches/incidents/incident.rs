//! What goes wrong, when, and what was lost by it. What it does to a request is the world's business.
//!
//! Knows no monitor, but for the names of the rules that should find it.

use crate::common::Random;
use crate::world::{Fleet, World, job_begin};
use crate::{DAY, FIRST_INCIDENT, HOUR, MINUTE, START, WEEKS};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Dropped,
    Rewritten,
    PartOfTraffic,
    ShorterTtl,
    Loop,
    /// One that goes on all night at the pace of ordinary work.
    SlowLoop,
    /// A job that does not end.
    LongJob,
    Output,
    DearerModel,
    GrownContext,
    RetryStorm,
    ChronicBurn,
    Silence,
    NewFormat,
}

impl Kind {
    /// The rules of which one must find it.
    pub(crate) fn rules(self) -> &'static [&'static str] {
        match self {
            Self::Dropped | Self::Rewritten => &["cache-break"],
            Self::PartOfTraffic => &["cache-drop"],
            Self::ShorterTtl => &["cache-waste"],
            Self::Loop => &["session-cost"],
            Self::SlowLoop => &["session-long", "cost-day"],
            Self::LongJob => &["cost-spike", "token-spike", "cost-rate"],
            Self::Output => &["token-spike", "cost-rate"],
            Self::DearerModel | Self::GrownContext => &["request-cost"],
            Self::RetryStorm => &["errors"],
            Self::ChronicBurn => &["budget", "cost-day"],
            Self::Silence => &["silence"],
            Self::NewFormat => &["blind"],
        }
    }

    pub(crate) fn of(fleet: Fleet) -> &'static [Self] {
        match fleet {
            Fleet::Developer => &[
                Self::Dropped,
                Self::Rewritten,
                Self::ShorterTtl,
                Self::Loop,
                Self::DearerModel,
                Self::RetryStorm,
            ],
            Fleet::Nights => &[Self::SlowLoop],
            Fleet::Team => &[
                Self::Dropped,
                Self::Rewritten,
                Self::PartOfTraffic,
                Self::Loop,
                Self::Output,
                Self::DearerModel,
                Self::GrownContext,
                Self::RetryStorm,
                Self::ChronicBurn,
                Self::NewFormat,
            ],
            Fleet::Service => &[
                Self::Dropped,
                Self::Rewritten,
                Self::PartOfTraffic,
                Self::Output,
                Self::DearerModel,
                Self::GrownContext,
                Self::RetryStorm,
                Self::ChronicBurn,
                Self::Silence,
                Self::NewFormat,
            ],
            Fleet::Jobs => &[
                Self::LongJob,
                Self::Output,
                Self::DearerModel,
                Self::GrownContext,
                Self::RetryStorm,
            ],
        }
    }

    /// It has no dollars of its own: it lasts for a time.
    pub(crate) fn is_timed(self) -> bool {
        matches!(self, Self::RetryStorm | Self::Silence | Self::NewFormat)
    }
}

/// One incident and what became of it.
#[derive(Debug)]
pub(crate) struct Incident {
    pub(crate) kind: Kind,
    pub(crate) start: i64,
    /// Ends when so much was lost.
    pub(crate) dollars: f64,
    /// Ends at this moment at the latest.
    pub(crate) until: i64,
    /// The session it is about, chosen at the first request; `None` for all.
    pub(crate) one_session: bool,
    pub(crate) session: Option<String>,
    /// Affected requests: moment and dollars beyond what they would have cost.
    pub(crate) affected: Vec<(i64, f64)>,
    pub(crate) over: Option<i64>,
}

impl Incident {
    pub(crate) fn is_on(&self, at: i64) -> bool {
        self.over.is_none() && at >= self.start
    }

    pub(crate) fn first(&self) -> i64 {
        self.affected.first().map_or(self.start, |(at, _)| *at)
    }

    pub(crate) fn end(&self) -> i64 {
        self.over.unwrap_or(i64::MAX)
    }

    /// What was lost up to a moment.
    pub(crate) fn lost_until(&self, at: i64) -> f64 {
        let lost = self.affected.iter().filter(|(when, _)| *when <= at);
        lost.map(|(_, dollars)| dollars).sum()
    }
}

/// Incidents one after another, a day and a half apart, at random hours when there is traffic.
pub(crate) fn incidents(fleet: Fleet, random: &mut Random) -> Vec<Incident> {
    let kinds = Kind::of(fleet);
    let mut left: Vec<Kind> = Vec::new();
    let mut incidents = Vec::new();
    let mut at = FIRST_INCIDENT;
    while at < START + (WEEKS * 7 - 3) * DAY {
        if left.is_empty() {
            left = kinds.to_vec();
        }
        let kind = left.swap_remove(random.below(left.len() as u64) as usize);
        let mut start = at + random.below(12 * HOUR as u64) as i64;
        while !fleet.is_service() && !World::is_work(start) {
            start += HOUR;
        }
        match kind {
            // At the end of a day's work.
            Kind::SlowLoop => start += (17 - World::hour(start)) * HOUR,
            Kind::LongJob => start = job_begin(start + DAY),
            _ => {}
        }
        let dollars = 5.0 * 100_f64.powf(random.unit());
        let length = match kind {
            Kind::ChronicBurn => 3 * DAY,
            Kind::LongJob => 4 * HOUR,
            kind if kind.is_timed() => 20 * MINUTE + random.below(100 * MINUTE as u64) as i64,
            _ => 12 * HOUR,
        };
        let is_endless = kind.is_timed() || matches!(kind, Kind::ChronicBurn | Kind::SlowLoop);
        let one_session = matches!(kind, Kind::Loop | Kind::SlowLoop)
            || (!fleet.is_service()
                && matches!(kind, Kind::Dropped | Kind::Rewritten)
                && random.chance(0.5));
        incidents.push(Incident {
            kind,
            start,
            dollars: if is_endless { f64::INFINITY } else { dollars },
            until: start + length,
            one_session,
            session: None,
            affected: Vec::new(),
            over: None,
        });
        at = start + length.max(12 * HOUR) + fleet.pause();
    }
    incidents
}
