//! What was told of incidents and on ordinary days, counted. Knows nothing of how the traffic came to be.

use std::collections::BTreeMap;

use claude_tokmon::monitor::{Notice, Reason, Severity};

use crate::common::rfc3339;
use crate::incident::Kind;
use crate::world::Fleet;
use crate::{DAY, HOUR, MINUTE, Played, WEEKS};

pub(crate) fn is_page(notice: &Notice) -> bool {
    notice.rule.severity >= Severity::Warning
        && !matches!(notice.reason, Reason::Resolved | Reason::Stopped)
}

/// Figures of one kind in one fleet.
#[derive(Default)]
pub(crate) struct Row {
    pub(crate) incidents: usize,
    pub(crate) by_named: usize,
    pub(crate) by_any: usize,
    pub(crate) records: Vec<f64>,
    pub(crate) secs: Vec<f64>,
    pub(crate) exposed: Vec<f64>,
    pub(crate) obvious: usize,
    /// It had been alarming when the incident began.
    pub(crate) drowned: usize,
    pub(crate) obvious_secs: Vec<f64>,
    /// Lost until we, and until the obvious monitor, say so: all of it if never.
    pub(crate) lost: Vec<(f64, f64)>,
    /// Exposed with us and with the obvious monitor, where both find it.
    pub(crate) both: Vec<(f64, f64)>,
    pub(crate) notices: Vec<f64>,
    pub(crate) size: Vec<f64>,
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) const GRACE: i64 = HOUR;

pub(crate) fn judge(played: &Played, rows: &mut BTreeMap<(Fleet, Kind), Row>, verbose: bool) {
    for incident in &played.incidents {
        if incident.affected.is_empty() && incident.kind != Kind::Silence {
            continue;
        }
        let row = rows.entry((played.fleet, incident.kind)).or_default();
        row.incidents += 1;
        let first = incident.first();
        let end = incident.end() + 10 * MINUTE;
        let during = |at: i64| (first..=end).contains(&at);
        let named = |notice: &&Notice| {
            let names = incident.kind.rules();
            let is = |name: &str| names.contains(&name);
            is_page(notice)
                && during(notice.at.0)
                && is(&notice.rule.name)
                // A budget is there each day; it is found if all of it is gone, or seen to go.
                && (incident.kind != Kind::ChronicBurn
                    || &*notice.rule.name == "cost-day"
                    || notice.rule.severity == Severity::Critical
                    || notice.text.as_deref().is_some_and(|text| text.contains("pace")))
        };
        let itself = played.notices.iter().find(named);
        // What explains it names it: people hear of it by that.
        let listed = |n: &&Notice| {
            let names = incident.kind.rules();
            n.reason != Reason::Stopped
                && n.at.0 >= first
                && n.since.0 <= end
                && n.explains.iter().any(|rule| names.contains(&&**rule))
        };
        let by_named = itself.or_else(|| played.notices.iter().find(listed));
        let by_any = played.notices.iter().find(|n| is_page(n) && during(n.at.0));
        row.by_named += usize::from(by_named.is_some());
        row.by_any += usize::from(by_any.is_some());
        row.size.push(incident.lost_until(i64::MAX));
        // What matters is when people hear of it: whatever rule says so first.
        let heard = if incident.kind == Kind::ChronicBurn {
            by_named
        } else {
            by_any
        };
        if let Some(notice) = heard {
            let at = notice.at.0;
            row.secs.push((at - first) as f64 / 1000.0);
            row.exposed.push(incident.lost_until(at));
            let records = incident
                .affected
                .iter()
                .filter(|(when, _)| *when <= at)
                .count();
            row.records.push(records as f64);
        }
        // One that has been crying for the last quarter of an hour says nothing by crying on.
        let before = first - 15 * MINUTE..first;
        let cries = played.obvious.iter().any(|at| before.contains(at));
        row.drowned += usize::from(cries);
        // Its alerts are about the request that they come with.
        let hit = |at: &i64| incident.affected.iter().any(|(when, _)| when == at);
        let mut alerts = played.obvious.iter().copied().filter(|at| during(*at));
        let obvious = alerts.find(hit).filter(|_| !cries);
        row.obvious += usize::from(obvious.is_some());
        if let Some(at) = obvious {
            row.obvious_secs.push((at - first) as f64 / 1000.0);
            if let Some(notice) = heard {
                row.both
                    .push((incident.lost_until(notice.at.0), incident.lost_until(at)));
            }
        }
        let until = |at: Option<i64>| incident.lost_until(at.unwrap_or(i64::MAX));
        row.lost
            .push((until(heard.map(|n| n.at.0)), until(obvious)));
        // Where a budget stands is told by the calendar.
        let early = |n: &&Notice| {
            is_page(n)
                && (first..first + 15 * MINUTE).contains(&n.at.0)
                && &*n.rule.name != "budget"
        };
        row.notices
            .push(played.notices.iter().filter(early).count() as f64);
        if verbose && (by_named.is_none() || played.notices.iter().filter(early).count() > 3) {
            println!(
                "  {} {:?} {:?} at {} one session {}: ${:.0} over {} requests; told:",
                if by_named.is_none() { "MISSED" } else { "LOUD" },
                played.fleet,
                incident.kind,
                rfc3339(first),
                incident.one_session,
                incident.lost_until(i64::MAX),
                incident.affected.len()
            );
            for notice in played.notices.iter().filter(|n| during(n.at.0)).take(12) {
                println!(
                    "    {} {} {} {:?} explains {:?}",
                    rfc3339(notice.at.0),
                    notice.rule.name,
                    notice.reason.name(),
                    notice.exposed.map(|e| e.to_string()),
                    notice.explains
                );
            }
        }
    }
}

/// What is told on ordinary days: episodes and notices that touch no incident, by rule.
pub(crate) fn false_alarms(
    played: &Played,
    verbose: bool,
) -> (BTreeMap<String, usize>, usize, f64) {
    let touches = |at: i64, since: i64| {
        played.incidents.iter().any(|incident| {
            since <= incident.end() + GRACE
                && at >= incident.start
                && at <= incident.end() + 8 * HOUR
        })
    };
    let mut episodes: BTreeMap<String, usize> = BTreeMap::new();
    let mut notices = 0;
    let ours: Vec<&Notice> = played.notices.iter().filter(|n| is_page(n)).collect();
    for notice in ours {
        // Half of a budget is news, not an alarm.
        let is_news = &*notice.rule.name == "budget" && notice.rule.severity != Severity::Critical;
        if is_news || touches(notice.at.0, notice.since.0) {
            continue;
        }
        notices += 1;
        if verbose {
            println!(
                "  FALSE {:?} {} {} {} {:?} limit {} value {}",
                played.fleet,
                rfc3339(notice.at.0),
                notice.rule.name,
                notice.reason.name(),
                notice.exposed.map(|e| e.to_string()),
                notice.limit as f64 / 1e12,
                notice.value.unwrap_or_default() as f64 / 1e12
            );
        }
        if matches!(notice.reason, Reason::First | Reason::StillFiring) {
            *episodes.entry(notice.rule.name.to_string()).or_default() += 1;
        }
    }
    let busy: i64 = played
        .incidents
        .iter()
        .map(|incident| (incident.end() - incident.start + GRACE).max(0))
        .sum();
    let days = ((WEEKS * 7 * DAY - busy) as f64 / DAY as f64).max(1.0);
    (episodes, notices, days)
}
