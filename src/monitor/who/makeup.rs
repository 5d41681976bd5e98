//! What responses were made of: how many came, of which models, how long prompts and outputs were, how much the cache gave. For what
//! an alert about spending says has changed.
//!
//! Knows the responses of one key over a day with traffic, or those of all keys that come and go. Whether a change is worth a word is
//! for the sinks.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::names::Top;
use super::portion::Portions;
use super::weight::{add_to, shares, shares_of_most};
use crate::monitor::alert::Share;
use crate::monitor::dedupe::Growth;
use crate::monitor::metric::Metric;
use crate::monitor::record::{Labels, Time, UsageRecord};
use crate::monitor::window::Sums;
use crate::price::PicoUsd;

/// Responses are added up in blocks of so many minutes.
const BLOCK_MINUTES: i64 = 10;

/// So many are a day, and so many are kept: with pauses they reach further back, up to a week.
const DAY: i64 = 24 * 60 / BLOCK_MINUTES;
const MAX_BLOCKS: usize = 144;
const WEEK: i64 = 7 * DAY;

/// So many of them are the last hour.
const HOUR: i64 = 60 / BLOCK_MINUTES;

/// With less than this nobody can say what was before.
const MIN_MINUTES: u64 = 30;
const MIN_REQUESTS: u64 = 30;

/// Where a day has less than this, the days before it count too.
const MINUTES_OF_A_DAY: u64 = 120;

/// With less than this nobody can say how many come in an hour.
const MIN_OF_HOUR: u64 = 10;

/// So many responses in so many minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rate {
    /// Responses.
    pub requests: u64,
    /// Minutes in which any came, of each key by itself; or those of the window that was looked at.
    pub minutes: u64,
}

impl Rate {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.minutes += other.minutes;
    }

    fn is_above(self, other: Self) -> bool {
        let times = |a: u64, b: u64| u128::from(a) * u128::from(b);
        times(self.requests, other.minutes) > times(other.requests, self.minutes)
    }
}

/// So many projects with a model each are told apart in a block.
const MAX_STREAMS: usize = 48;

/// So many projects are known of what was before.
pub const MAX_PROJECTS: usize = 16;

/// What responses are made of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Makeup {
    /// How many come: of a day, or of its last hour if that was busier. More at noon than at night is no change.
    pub rate: Rate,
    /// Responses that the sums are of.
    pub requests: u64,
    /// Tokens of their prompts, those from the cache included.
    pub prompt: u64,
    /// Tokens that they read from the cache.
    pub read: u64,
    /// Tokens of output.
    pub output: u64,
    /// What they cost, as far as they have a price.
    pub cost: PicoUsd,
    /// Models by share of the cost.
    pub models: Vec<Share>,
    /// Projects by share of what those cost that name one.
    pub projects: Vec<ProjectShare>,
    /// Shares of the cost for what their names do not tell.
    pub portions: Portions<u8>,
}

/// What a project cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectShare {
    /// Its name.
    pub name: Arc<str>,
    /// In per cent of the cost of all projects.
    pub percent: u8,
    /// Its models by share of its cost. Of a window they are not known.
    pub models: Vec<Share>,
}

#[cfg(test)]
impl ProjectShare {
    /// A project with so many per cent, of which its models have so many each.
    pub(crate) fn of(name: &str, percent: u8, models: &[(&str, u8)]) -> Self {
        let models = models.iter().map(|(name, n)| ((*name).into(), *n));
        Self {
            name: name.into(),
            percent,
            models: models.collect(),
        }
    }
}

/// What has changed since an episode began, or is not as with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The day before it, or what is known of that; of all keys where a single one is too short-lived.
    pub before: Arc<Makeup>,
    /// The window that its value is of.
    pub now: Makeup,
}

/// What is told of it is what responses are made of.
pub(in crate::monitor) const fn is_of_makeup(metric: Metric) -> bool {
    metric.is_volume() || metric.is_mean()
}

impl Makeup {
    /// What a window holds, and who cost what in it.
    pub(in crate::monitor) fn of_window(sums: &Sums, secs: i64, top: &Top) -> Self {
        let [models, _, projects] = &top.names;
        let project = |(name, percent): &Share| ProjectShare {
            name: Arc::clone(name),
            percent: *percent,
            models: Vec::new(),
        };
        let whole = |n: i64| u64::try_from(n).unwrap_or(0);
        let requests = whole(sums.requests);
        let minutes = whole(secs / 60).max(1);
        Self {
            rate: Rate { requests, minutes },
            requests,
            prompt: whole(sums.prompt),
            // What is not fresh is output or part of a prompt.
            read: whole(sums.prompt + sums.output - sums.fresh),
            output: whole(sums.output),
            cost: sums.cost,
            models: models.clone(),
            projects: projects.iter().map(project).collect(),
            portions: top.portions,
        }
    }
}

/// What a model cost in a project, or in none.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StreamCost {
    /// Which model and project.
    stream: u64,
    model: Arc<str>,
    project: Option<Arc<str>>,
    cost: i128,
}

/// The responses of ten minutes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Block {
    /// Which ten minutes.
    index: i64,
    /// All but shares.
    sum: Makeup,
    streams: Vec<StreamCost>,
    portions: Portions<PicoUsd>,
}

impl Block {
    fn add_cost(&mut self, labels: &Labels, cost: PicoUsd) {
        self.sum.cost += cost;
        let streams = &mut self.streams;
        if let Some(known) = streams.iter_mut().find(|s| s.stream == labels.stream) {
            known.cost += cost.0;
        } else if streams.len() < MAX_STREAMS {
            streams.push(StreamCost {
                stream: labels.stream,
                model: Arc::clone(&labels.model),
                project: labels.project.clone(),
                cost: cost.0,
            });
        }
    }
}

/// Projects by share of their cost, with their models.
fn projects_of<'a>(streams: impl Iterator<Item = &'a StreamCost> + Clone) -> Vec<ProjectShare> {
    let named = streams.filter_map(|stream| Some((stream.project.as_ref()?, stream)));
    let mut costs = Vec::new();
    for (project, stream) in named.clone() {
        add_to(&mut costs, project, stream.cost);
    }
    let projects = shares_of_most(costs, MAX_PROJECTS).into_iter();
    let with_models = |(name, percent): Share| {
        let mut models = Vec::new();
        for (_, stream) in named.clone().filter(|(project, _)| **project == name) {
            add_to(&mut models, &stream.model, stream.cost);
        }
        ProjectShare {
            name,
            percent,
            models: shares(models),
        }
    };
    projects.map(with_models).collect()
}

/// The responses of a day, or of the last days that had any where a day has few: nights and weekends have none of many.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::monitor) struct Past {
    blocks: VecDeque<Block>,
    /// Those that come now.
    now: Block,
    /// The first moment after them.
    until: Time,
}

impl Default for Past {
    fn default() -> Self {
        Self {
            blocks: VecDeque::new(),
            now: Block::default(),
            until: Time(i64::MIN),
        }
    }
}

impl Past {
    /// Adds a response, which may be the first of its key in its minute. What comes late counts as of now.
    #[inline]
    pub(in crate::monitor) fn add(
        &mut self,
        at: Time,
        is_new_minute: bool,
        record: &UsageRecord,
        portions: Option<&Portions<PicoUsd>>,
    ) {
        if at >= self.until {
            self.begin(at.minute().div_euclid(BLOCK_MINUTES));
        }
        let tokens = &record.tokens;
        let sum = &mut self.now.sum;
        sum.rate.minutes += u64::from(is_new_minute);
        sum.requests += 1;
        sum.prompt += tokens.prompt();
        sum.read += tokens.cache_read;
        sum.output += tokens.output;
        let cost = record.cost.unwrap_or_default();
        self.now.add_cost(&record.labels, cost);
        if let Some(portions) = portions {
            self.now.portions.add(portions);
        }
    }

    /// Adds what a copy has more than the response that was added.
    pub(in crate::monitor) fn grow(&mut self, first: Time, growth: &Growth) {
        let index = first.minute().div_euclid(BLOCK_MINUTES);
        let mut blocks = self.blocks.iter_mut().chain([&mut self.now]).rev();
        if let Some(block) = blocks.find(|block| block.index <= index) {
            block.sum.output += growth.tokens.output;
            block.add_cost(&growth.labels, growth.cost.unwrap_or_default());
            if let Some(portions) = Portions::of_growth(growth) {
                block.portions.add(&portions);
            }
        }
    }

    #[cold]
    fn begin(&mut self, index: i64) {
        let over = Block {
            index,
            ..Block::default()
        };
        let over = std::mem::replace(&mut self.now, over);
        if over.sum.requests > 0 {
            self.blocks.push_back(over);
        }
        let is_old = |block: &Block| block.index <= index - WEEK;
        while self.blocks.len() > MAX_BLOCKS || self.blocks.front().is_some_and(is_old) {
            self.blocks.pop_front();
        }
        self.until = Time::from_secs((index + 1) * BLOCK_MINUTES * 60);
    }

    /// What was in the day before a moment, if enough of it is known; further back, as far as it needs, if there was too little.
    pub(in crate::monitor) fn before(&self, moment: Time) -> Option<Makeup> {
        let end = moment.minute().div_euclid(BLOCK_MINUTES);
        let mut all = Makeup::default();
        let mut streams: FxHashMap<u64, StreamCost> = FxHashMap::default();
        let mut portions = Portions::default();
        let mut hour = Rate::default();
        let blocks = self.blocks.iter().chain([&self.now]);
        let before = blocks.rev().skip_while(|block| block.index >= end);
        for block in before {
            let is_known = is_enough(&all) && all.rate.minutes >= MINUTES_OF_A_DAY;
            if block.index < end - DAY && is_known {
                break;
            }
            let rate = Rate {
                requests: block.sum.requests,
                ..block.sum.rate
            };
            all.rate.add(rate);
            if block.index >= end - HOUR {
                hour.add(rate);
            }
            all.requests += block.sum.requests;
            all.prompt += block.sum.prompt;
            all.read += block.sum.read;
            all.output += block.sum.output;
            all.cost += block.sum.cost;
            portions.add(&block.portions);
            for stream in &block.streams {
                let known = streams.entry(stream.stream);
                let known = known.or_insert_with(|| StreamCost {
                    cost: 0,
                    ..stream.clone()
                });
                known.cost += stream.cost;
            }
        }
        let mut models = Vec::new();
        for stream in streams.values() {
            add_to(&mut models, &stream.model, stream.cost);
        }
        all.models = shares(models);
        all.projects = projects_of(streams.values());
        all.portions = portions.shares(all.cost);
        if !is_enough(&all) {
            return None;
        }
        if hour.minutes.min(hour.requests) >= MIN_OF_HOUR && hour.is_above(all.rate) {
            all.rate = hour;
        }
        Some(all)
    }

    /// The clock was wrong by so many seconds.
    pub(in crate::monitor) fn shift(&mut self, secs: i64) {
        for block in self.blocks.iter_mut().chain([&mut self.now]) {
            block.index += secs.div_euclid(60 * BLOCK_MINUTES);
        }
        self.until = Time(self.until.0.saturating_add(secs * 1000));
    }
}

fn is_enough(makeup: &Makeup) -> bool {
    makeup.rate.minutes >= MIN_MINUTES && makeup.requests >= MIN_REQUESTS
}

#[cfg(test)]
mod tests {
    use super::super::portion::Portion;
    use super::*;
    use crate::monitor::record::{Labels, Tokens};
    use crate::price::Premium;

    const MINUTE: i64 = 60;

    fn labels(project: Option<&str>, model: &str) -> Arc<Labels> {
        let labels = Labels {
            model: model.into(),
            project: project.map(Into::into),
            ..Labels::default()
        };
        Arc::new(labels.with_hashes())
    }

    fn record(model: &str, cost: i128) -> UsageRecord {
        UsageRecord {
            labels: labels(None, model),
            tokens: Tokens {
                input: 100,
                cache_read: 900,
                output: 50,
                ..Tokens::default()
            },
            cost: Some(PicoUsd(cost)),
            ..UsageRecord::blank()
        }
    }

    fn past(minutes: impl Iterator<Item = i64>) -> Past {
        let (model, other) = (record("a", 300), record("b", 100));
        let mut past = Past::default();
        for minute in minutes {
            let at = Time::from_secs(minute * MINUTE);
            past.add(at, true, &model, None);
            past.add(at.plus_secs(7), false, &other, None);
        }
        past
    }

    #[test]
    fn what_was_before_ends_with_the_last_whole_block() {
        let past = past(0..100);
        let before = past.before(Time::from_secs(57 * MINUTE)).unwrap();
        assert_eq!((before.rate.minutes, before.requests), (50, 100));
        assert_eq!((before.prompt, before.read), (100_000, 90_000));
        assert_eq!((before.output, before.cost), (5_000, PicoUsd(20_000)));
        assert_eq!(before.models, [("a".into(), 75), ("b".into(), 25)]);
    }

    #[test]
    fn no_more_than_a_day_counts_and_no_less_than_half_an_hour() {
        let end = |minute| Time::from_secs(minute * MINUTE);
        let day = past((0..3 * 24 * 60).step_by(2));
        let before = day.before(end(3 * 24 * 60)).unwrap();
        assert_eq!(before.rate.minutes, 24 * 60 / 2);
        let short = past(0..39);
        let before = short.before(end(39)).unwrap();
        assert_eq!(before.rate.minutes, 30);
        assert_eq!(short.before(end(29)), None);
        assert_eq!(Past::default().before(end(0)), None);
    }

    /// On Monday morning it is held against Friday, from the last hour on backwards; not after a holiday of a week.
    #[test]
    fn where_a_day_has_too_little_the_days_before_it_count() {
        let (friday, monday) = (8 * 60..16 * 60, (3 * 24 + 9) * 60);
        let days = |begun| past(friday.clone().chain(monday..monday + begun));
        let minutes = |past: &Past, end| {
            let before = past.before(Time::from_secs(end * MINUTE));
            before.map(|before| before.rate.minutes)
        };
        assert_eq!(minutes(&days(180), monday + 180), Some(180));
        assert_eq!(minutes(&days(20), monday + 20), Some(120));
        assert_eq!(minutes(&days(0), monday), Some(120));
        let mut holiday = days(0);
        let next = monday + 7 * 24 * 60;
        holiday.add(Time::from_secs(next * MINUTE), true, &record("a", 1), None);
        assert_eq!(minutes(&holiday, next), None);
    }

    #[test]
    fn what_projects_cost_is_known_with_their_models() {
        let of = |project, model, cost| UsageRecord {
            labels: labels(project, model),
            ..record(model, cost)
        };
        let all = [
            of(Some("web"), "a", 500),
            of(Some("web"), "b", 100),
            of(Some("batch"), "b", 400),
            of(None, "a", 7_000),
        ];
        let mut past = Past::default();
        for minute in 0..60 {
            for record in &all {
                past.add(Time::from_secs(minute * MINUTE), true, record, None);
            }
        }
        let before = past.before(Time::from_secs(60 * MINUTE)).unwrap();
        assert_eq!(before.models, [("a".into(), 93), ("b".into(), 6)]);
        let share = ProjectShare::of;
        assert_eq!(
            before.projects,
            [
                share("web", 60, &[("a", 83), ("b", 16)]),
                share("batch", 40, &[("b", 100)])
            ]
        );
    }

    #[test]
    fn what_a_copy_has_more_belongs_to_its_first() {
        let mut past = past(0..60);
        let growth = Growth {
            first: Some(Time::from_secs(5 * MINUTE)),
            labels: record("a", 0).labels,
            tokens: Tokens {
                output: 1_000,
                ..Tokens::default()
            },
            extra: Vec::new(),
            cost: Some(PicoUsd(10_000)),
            premium: Premium {
                fast: true,
                long_prompt: false,
            },
            now_final: true,
        };
        past.grow(Time::from_secs(5 * MINUTE), &growth);
        let before = past.before(Time::from_secs(60 * MINUTE)).unwrap();
        assert_eq!((before.requests, before.output), (120, 7_000));
        assert_eq!(before.cost, PicoUsd(34_000));
        assert_eq!(before.portions.of(Portion::FastMode), 29);
    }

    /// A night of one response a minute, then the morning: the hour before counts if it was busier, and enough came in it.
    #[test]
    fn how_many_come_is_as_in_the_hour_before_if_that_was_busier() {
        let a = record("a", 300);
        let rate = |morning: i64, minutes: i64| {
            let mut past = Past::default();
            for minute in 0..300 {
                past.add(Time::from_secs(minute * MINUTE), true, &a, None);
            }
            for minute in 300..300 + minutes {
                for n in 0..morning {
                    past.add(Time::from_secs(minute * MINUTE), n == 0, &a, None);
                }
            }
            let before = past.before(Time::from_secs(360 * MINUTE)).unwrap();
            (before.rate.requests, before.rate.minutes)
        };
        assert_eq!(rate(7, 60), (420, 60));
        assert_eq!(rate(7, 10), (70, 10));
        assert_eq!(rate(7, 9), (363, 309));
        assert_eq!(rate(1, 60), (360, 360));
    }

    #[test]
    fn what_the_cost_is_for_is_known_of_the_day() {
        let (plain, fast) = (record("a", 300), record("a", 100));
        let mut portions = Portions::default();
        portions.add(
            &Portions::of_record(&UsageRecord {
                premium: Premium {
                    fast: true,
                    long_prompt: false,
                },
                ..fast.clone()
            })
            .unwrap(),
        );
        let mut past = Past::default();
        for minute in 0..60 {
            let at = Time::from_secs(minute * MINUTE);
            past.add(at, true, &plain, None);
            past.add(at, false, &fast, Some(&portions));
        }
        let before = past.before(Time::from_secs(60 * MINUTE)).unwrap();
        assert_eq!(before.portions.of(Portion::FastMode), 25);
        assert_eq!(before.portions.of(Portion::SubAgents), 0);
    }

    #[test]
    fn it_moves_with_the_clock() {
        let mut past = past(0..60);
        past.shift(-3_600);
        assert!(past.before(Time::from_secs(0)).is_some());
    }

    #[test]
    fn what_a_window_reads_from_the_cache_is_what_is_not_fresh() {
        let sums = Sums {
            requests: 2,
            prompt: 1_000,
            fresh: 150,
            output: 50,
            ..Sums::default()
        };
        let top = Top {
            names: Default::default(),
            by_measure: Default::default(),
            portions: Portions::default(),
        };
        let now = Makeup::of_window(&sums, 600, &top);
        assert_eq!((now.rate.minutes, now.requests, now.read), (10, 2, 900));
    }
}
