//! The words for what has changed since an alert about spending began: more responses, another model, longer prompts or outputs, less
//! from the cache, more for something that the model does not tell; and the project where, if one costs more of it than before.
//!
//! Compares two makeups, and knows nothing of limits.

use std::sync::Arc;

use super::text::{clean, quantity};
use crate::monitor::{
    Changed, Label, MAX_PROJECTS, Makeup, Metric, Notice, PORTIONS, Portion, ProjectShare, Share,
};

/// Something that is not as it was.
struct Change {
    /// How many times what it was, in tenths; shares weigh likewise.
    weight: u128,
    /// `outputs 3.1 times as long (1.2k tokens)`.
    words: String,
    /// `what asks for longer answers`.
    look_at: String,
    /// `: max_tokens, thinking, or the task`.
    such_as: &'static str,
}

/// All that has changed so much that it is worth a word.
#[derive(Default)]
pub(super) struct Changes {
    /// What, the most first.
    what: Vec<Change>,
    /// In which project: its name, and what is told of it.
    place: Option<(String, String)>,
}

impl Changes {
    /// What the reader would look for. `at` is when it began.
    pub(super) fn advice(&self, at: &str) -> Option<String> {
        let project = self.place.as_ref().map(|(name, _)| name);
        match (self.what.first(), project) {
            (Some(what), project) => {
                let place = project.map(|name| format!(" in project {name}"));
                let place = place.unwrap_or_default();
                Some(format!(
                    "{}{place} since {at}{}",
                    what.look_at, what.such_as
                ))
            }
            (None, Some(name)) => Some(format!("what project {name} has been doing since {at}")),
            (None, None) => None,
        }
    }
}

/// `changed: outputs 3.1 times as long (1.2k tokens) · 71 % of prompts from the cache, not 94 %`.
pub(super) fn in_one_line(changes: &Changes, notice: &Notice) -> Option<String> {
    let place = changes.place.iter().map(|(_, words)| words.as_str());
    let what = changes.what.iter().map(|change| change.words.as_str());
    let words: Vec<&str> = place.chain(what).collect();
    let against = if is_against_others(notice) {
        "unlike others"
    } else {
        "changed"
    };
    (!words.is_empty()).then(|| format!("{against}: {}", words.join(" · ")))
}

/// A session has no day before it.
fn is_against_others(notice: &Notice) -> bool {
    let mut labels = notice.key.iter().map(|(label, _)| label);
    labels.any(|label| matches!(label, Label::Session | Label::Conversation))
}

/// Less than this many tenths is as before.
const MORE_OFTEN: u128 = 15;
const LONGER: u128 = 13;

/// At least so many tenths are as much as before.
const AS_MUCH: u128 = 9;

/// So many responses say what they are made of, though they may be too few for the value of a rule.
const ENOUGH: u64 = 10;

/// So many points of a hundred.
const OF_COST: u64 = 20;
const OF_PROMPTS: u64 = 10;

/// What is so many times as much was hardly there before.
const NEW: u64 = 4;

/// What has changed so much that it is worth a word.
pub(super) fn changes(notice: &Notice) -> Changes {
    let metric = notice.rule.metric;
    let Some(changed) = &notice.changed else {
        return Changes::default();
    };
    let Changed { before, now } = changed;
    let least = if notice.value.is_some() { 1 } else { ENOUGH };
    if now.requests < least || before.requests == 0 {
        return Changes::default();
    }
    let of_prompts = !matches!(metric, Metric::OutputTokens | Metric::OutputPerRequest);
    let of_outputs = !matches!(metric, Metric::PromptTokens | Metric::PromptPerRequest);
    let is_of_each = metric != Metric::Requests;
    let of_cost = matches!(metric, Metric::Cost | Metric::CostPerRequest);
    let of_cache = of_cost || metric == Metric::Tokens;
    let found = [
        requests(before, now).filter(|_| metric.is_volume()),
        model(before, now).filter(|_| of_cost),
        longer("outputs", before.output, now.output, changed).filter(|_| is_of_each && of_outputs),
        longer("prompts", before.prompt, now.prompt, changed).filter(|_| is_of_each && of_prompts),
        cache(before, now).filter(|_| of_cache),
    ];
    let portions = PORTIONS.iter().filter(|_| of_cost);
    let portions = portions.map(|of| portion(*of, before, now));
    let mut found: Vec<Change> = found.into_iter().chain(portions).flatten().collect();
    found.sort_by_key(|change| std::cmp::Reverse(change.weight));
    let place = project(before, now).filter(|_| !is_of_one_project(notice));
    Changes { what: found, place }
}

/// It is about one project, or part of one.
fn is_of_one_project(notice: &Notice) -> bool {
    let mut labels = notice.key.iter().map(|(label, _)| label);
    is_against_others(notice) || labels.any(|label| *label == Label::Project)
}

/// `a` of `of_a` for each `b` of `of_b`, in tenths.
fn times((a, of_a): (u64, u64), (b, of_b): (u64, u64)) -> u128 {
    let [a, of_a, b, of_b] = [a, of_a, b, of_b].map(u128::from);
    a * of_b * 10 / (of_a * b).max(1)
}

/// `3.1 times`.
fn in_words(tenths: u128) -> String {
    match tenths {
        ..100 => format!("{}.{} times", tenths / 10, tenths % 10),
        _ => format!(
            "{} times",
            quantity(u64::try_from(tenths / 10).unwrap_or(u64::MAX))
        ),
    }
}

fn requests(before: &Makeup, now: &Makeup) -> Option<Change> {
    let (was, is) = (before.rate, now.rate);
    let weight = times((is.requests, is.minutes), (was.requests, was.minutes));
    let a_minute = is.requests.div_ceil(is.minutes.max(1));
    (weight >= MORE_OFTEN).then(|| Change {
        weight,
        words: format!(
            "{} as many responses ({} a minute)",
            in_words(weight),
            quantity(a_minute)
        ),
        look_at: "what sends so many".to_owned(),
        such_as: ": a loop, retries, or more users",
    })
}

fn model(before: &Makeup, now: &Makeup) -> Option<Change> {
    let (model, share) = now.models.first()?;
    let known = before.models.iter().find(|(known, _)| known == model);
    // Those with the largest shares are known.
    let least = before.models.get(2).map_or(0, |(_, share)| *share);
    let was = known.map_or(least, |(_, share)| *share);
    let was_in_words = match known {
        None if least > 0 => format!("at most {least} %"),
        _ => format!("{was} %"),
    };
    // Where a project costs more than before, so do its models, though nobody has chosen another.
    let least = u64::from(was).max(as_projects_go(model, before, now)) + OF_COST;
    (u64::from(*share) >= least).then(|| Change {
        weight: weight_of_shares(u64::from(*share), u64::from(was)),
        words: format!(
            "{} is {share} % of the cost, not {was_in_words}",
            clean(model)
        ),
        look_at: format!("what has chosen {}", clean(model)),
        such_as: "",
    })
}

/// The share that a model would have if each project had the models that it had before. What is new may have this one.
fn as_projects_go(model: &Arc<str>, before: &Makeup, now: &Makeup) -> u64 {
    let share_in = |models: &[Share]| {
        let known = models.iter().find(|(known, _)| known == model);
        known.map_or(0, |(_, share)| u64::from(*share))
    };
    let mut others = 100;
    let mut sum = 0;
    for project in &now.projects {
        let known = before.projects.iter().find(|p| p.name == project.name);
        let percent = u64::from(project.percent);
        sum += percent * known.map_or(100, |known| share_in(&known.models));
        others -= percent.min(others);
    }
    (sum + others * share_in(&before.models)) / 100
}

/// The project that costs more of it than before: its name, and what to say of it.
fn project(before: &Makeup, now: &Makeup) -> Option<(String, String)> {
    let ProjectShare { name, percent, .. } = now.projects.first()?;
    let smallest = before.projects.last()?.percent;
    let known = before.projects.iter().find(|p| p.name == *name);
    let (was, was_in_words) = match known {
        Some(project) => (project.percent, format!("{} %", project.percent)),
        None if before.projects.len() < MAX_PROJECTS => (0, "0 %".to_owned()),
        // Those with the largest shares are known.
        None => (smallest, format!("at most {smallest} %")),
    };
    let name = clean(name).into_owned();
    (u64::from(*percent) >= u64::from(was) + OF_COST).then(|| {
        let words = format!("project {name} is {percent} % of the cost, not {was_in_words}");
        (name, words)
    })
}

/// What a share that has grown so far weighs beside others.
fn weight_of_shares(is: u64, was: u64) -> u128 {
    10 * u128::from(is) / u128::from(was.max(10))
}

/// `fast mode is 96 % of the cost, not 2 %`.
fn portion(of: Portion, before: &Makeup, now: &Makeup) -> Option<Change> {
    let share = |makeup: &Makeup| u64::from(makeup.portions.of(of));
    let (was, is) = (share(before), share(now));
    let (what, look_at, such_as) = match of {
        Portion::FastMode => (
            "fast mode is",
            "what has switched fast mode on",
            ": /fast, or the speed of requests",
        ),
        Portion::LongPrompts => (
            "prompts so long that they are dearer are",
            "what has made prompts longer",
            ": history, files or tools",
        ),
        Portion::HourWrites => (
            "cache writes that live an hour are",
            "what makes cache writes live an hour",
            ": the ttl of cache_control",
        ),
        Portion::WebSearches => (
            "web searches are",
            "what searches the web so often",
            ": max_uses of the tool, or the task",
        ),
        Portion::SubAgents => ("sub-agents are", "what starts so many sub-agents", ""),
    };
    // Who writes for an hour anyhow writes more where the cache is lost.
    let is_new = of != Portion::HourWrites || is >= NEW * was;
    (is_new && is >= was + OF_COST).then(|| Change {
        weight: weight_of_shares(is, was),
        words: format!("{what} {is} % of the cost, not {was} %"),
        look_at: look_at.to_owned(),
        such_as,
    })
}

fn longer(what: &str, was: u64, is: u64, changed: &Changed) -> Option<Change> {
    let Changed { before, now } = changed;
    let weight = times((is, now.requests), (was, before.requests));
    let (look_at, such_as) = match what {
        "outputs" => (
            "what asks for longer answers",
            ": max_tokens, thinking, or the task",
        ),
        _ => ("what has made prompts longer", ": history, files or tools"),
    };
    (weight >= LONGER).then(|| Change {
        weight,
        words: format!(
            "{what} {} as long ({} tokens)",
            in_words(weight),
            quantity(is / now.requests)
        ),
        look_at: look_at.to_owned(),
        such_as,
    })
}

fn cache(before: &Makeup, now: &Makeup) -> Option<Change> {
    let share = |makeup: &Makeup| makeup.read * 100 / makeup.prompt.max(1);
    let (was, is) = (share(before), share(now));
    if was < is + OF_PROMPTS {
        return None;
    }
    let of = |makeup: &Makeup, tokens| (tokens, makeup.requests);
    let fresh = |makeup: &Makeup| of(makeup, makeup.prompt.saturating_sub(makeup.read));
    let weight = times(fresh(now), fresh(before));
    if times(of(now, now.read), of(before, before.read)) >= AS_MUCH {
        // The cache gives what it gave; there is more beside it.
        return Some(Change {
            weight,
            words: format!(
                "{} as many tokens outside the cache ({} a prompt)",
                in_words(weight),
                quantity(fresh(now).0 / now.requests)
            ),
            look_at: "what has been added to prompts".to_owned(),
            such_as: ": files, tools, or what is another each time",
        });
    }
    Some(Change {
        weight: 10 * u128::from(100 - is.min(100)) / u128::from(100_u64.saturating_sub(was).max(1)),
        words: format!("{is} % of prompts from the cache, not {was} %"),
        look_at: "why the cache gives less".to_owned(),
        such_as: ": cache_control, or what prompts begin with",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::{Portions, Rate, Reason, Rule, Time};
    use crate::price::PicoUsd;

    fn before() -> Makeup {
        Makeup {
            rate: Rate {
                requests: 1_000,
                minutes: 100,
            },
            requests: 1_000,
            prompt: 10_000_000,
            read: 9_000_000,
            output: 300_000,
            cost: PicoUsd(1_000),
            models: [("a", 60), ("b", 30), ("c", 4)]
                .map(|(model, share)| (model.into(), share))
                .to_vec(),
            projects: Vec::new(),
            portions: Portions::default(),
        }
    }

    fn words(metric: Metric, key: Option<Label>, now: Makeup) -> Vec<String> {
        words_of_value(metric, key, now, Some(1))
    }

    fn words_of_value(
        metric: Metric,
        key: Option<Label>,
        now: Makeup,
        value: Option<i128>,
    ) -> Vec<String> {
        let rule = Arc::new(Rule {
            metric,
            ..Rule::blank()
        });
        let key = key
            .map(|label| (label, "x".to_owned()))
            .into_iter()
            .collect();
        let notice = Notice {
            value,
            changed: Some(Changed {
                before: Arc::new(before()),
                now,
            }),
            ..Notice::in_words(&rule, Reason::First, key, 1, Time(0), Time(0), "")
        };
        let changes = changes(&notice);
        let advice = changes.advice("02:00");
        in_one_line(&changes, &notice)
            .into_iter()
            .chain(advice)
            .collect()
    }

    fn of_ten_minutes(requests: u64) -> Rate {
        Rate {
            requests,
            minutes: 10,
        }
    }

    /// Ten minutes like those before.
    fn as_ever() -> Makeup {
        let all = before();
        Makeup {
            rate: of_ten_minutes(100),
            requests: all.requests / 10,
            prompt: all.prompt / 10,
            read: all.read / 10,
            output: all.output / 10,
            ..all
        }
    }

    #[test]
    fn what_is_as_ever_is_not_told() {
        assert!(words(Metric::Cost, None, as_ever()).is_empty());
        let none = Makeup {
            requests: 0,
            ..as_ever()
        };
        assert!(words(Metric::Cost, None, none).is_empty());
    }

    #[test]
    fn what_has_changed_most_comes_first_and_tells_what_to_look_at() {
        let longer = Makeup {
            prompt: 1_400_000,
            output: 400_000,
            ..as_ever()
        };
        assert_eq!(
            words(Metric::CostPerRequest, None, longer.clone()),
            [
                "changed: outputs 13 times as long (4,000 tokens) · 5.0 times as many tokens outside the cache (5,000 a prompt) \
                 · prompts 1.4 times as long (14.0k tokens)",
                "what asks for longer answers since 02:00: max_tokens, thinking, or the task"
            ]
        );
        // A rule that is about a part of it tells of that.
        assert_eq!(
            words(Metric::PromptPerRequest, Some(Label::Session), longer),
            [
                "unlike others: prompts 1.4 times as long (14.0k tokens)",
                "what has made prompts longer since 02:00: history, files or tools"
            ]
        );
    }

    #[test]
    fn how_many_there_are_is_told_where_it_counts() {
        let many = Makeup {
            rate: of_ten_minutes(372),
            requests: 372,
            prompt: 3_720_000,
            read: 3_348_000,
            output: 111_600,
            ..as_ever()
        };
        for metric in [Metric::Cost, Metric::Tokens, Metric::Requests] {
            assert_eq!(
                words(metric, None, many.clone()),
                [
                    "changed: 3.7 times as many responses (38 a minute)",
                    "what sends so many since 02:00: a loop, retries, or more users"
                ]
            );
        }
        assert!(words(Metric::CostPerRequest, None, many).is_empty());
    }

    #[test]
    fn another_model_is_told_where_it_costs() {
        let by = |model: &str, share| Makeup {
            models: vec![(model.into(), share)],
            ..as_ever()
        };
        let told = |model, share| {
            words(Metric::Cost, None, by(model, share))
                .into_iter()
                .next()
        };
        let said = |words: &str| Some(format!("changed: {words}"));
        assert_eq!(told("a", 79), None);
        assert_eq!(told("a", 80), said("a is 80 % of the cost, not 60 %"));
        // It may have had as much as the third, no more.
        assert_eq!(
            told("d", 90),
            said("d is 90 % of the cost, not at most 4 %")
        );
        assert!(words(Metric::Tokens, None, by("d", 90)).is_empty());
    }

    #[test]
    fn what_a_model_does_not_tell_is_told_where_it_costs() {
        let with = |of: Portion, percent: u8| {
            let mut costs = [PicoUsd::ZERO; PORTIONS.len()];
            costs[of as usize] = PicoUsd(percent.into());
            Makeup {
                portions: Portions::new(costs).shares(PicoUsd(100)),
                ..as_ever()
            }
        };
        assert_eq!(
            words(Metric::CostPerRequest, None, with(Portion::FastMode, 96)),
            [
                "changed: fast mode is 96 % of the cost, not 0 %",
                "what has switched fast mode on since 02:00: /fast, or the speed of requests"
            ]
        );
        let first = |of, percent| {
            words(Metric::Cost, None, with(of, percent))
                .into_iter()
                .next()
        };
        assert_eq!(first(Portion::WebSearches, 19), None);
        assert!(first(Portion::WebSearches, 20).is_some());
        assert!(first(Portion::LongPrompts, 20).is_some());
        assert!(first(Portion::SubAgents, 20).is_some());
        assert!(words(Metric::Tokens, None, with(Portion::FastMode, 96)).is_empty());
        // Where prompts are always written for an hour, more of it is what a lost cache comes to.
        let told = |was, is| {
            let writes = |percent| with(Portion::HourWrites, percent);
            portion(Portion::HourWrites, &writes(was), &writes(is)).map(|change| change.words)
        };
        let words = "cache writes that live an hour are 70 % of the cost, not 0 %";
        assert_eq!(told(0, 70).as_deref(), Some(words));
        assert!(told(17, 70).is_some());
        assert_eq!(told(18, 70), None);
    }

    /// Five services, of which one costs more: what that one does is told, and not that somebody had chosen its model.
    #[test]
    fn a_project_that_costs_more_of_it_is_told_as_the_place() {
        let share = |name: &str, percent, model: &str| ProjectShare {
            name: name.into(),
            percent,
            models: vec![(model.into(), 100)],
        };
        let before = Makeup {
            projects: vec![
                share("web", 60, "a"),
                share("batch", 30, "b"),
                share("old", 5, "b"),
            ],
            ..before()
        };
        let told = |key: &[Label], projects: Vec<ProjectShare>, models: &[(&str, u8)], requests| {
            let models = models
                .iter()
                .map(|(name, share)| (Arc::from(*name), *share));
            let now = Makeup {
                rate: of_ten_minutes(requests),
                projects,
                models: models.collect(),
                ..as_ever()
            };
            let rule = Arc::new(Rule {
                metric: Metric::Cost,
                ..Rule::blank()
            });
            let key = key.iter().map(|label| (*label, "x".to_owned())).collect();
            let notice = Notice {
                value: Some(1),
                changed: Some(Changed {
                    before: Arc::new(before.clone()),
                    now,
                }),
                ..Notice::in_words(&rule, Reason::First, key, 1, Time(0), Time(0), "")
            };
            let changes = changes(&notice);
            let words = in_one_line(&changes, &notice);
            words
                .into_iter()
                .chain(changes.advice("02:00"))
                .collect::<Vec<_>>()
        };
        let grown = || vec![share("batch", 55, "b"), share("web", 40, "a")];
        let models = [("b", 57), ("a", 40)];
        assert_eq!(
            told(&[], grown(), &models, 100),
            [
                "changed: project batch is 55 % of the cost, not 30 %",
                "what project batch has been doing since 02:00"
            ]
        );
        assert_eq!(
            told(&[], grown(), &models, 200),
            [
                "changed: project batch is 55 % of the cost, not 30 % · 2.0 times as many responses (20 a minute)",
                "what sends so many in project batch since 02:00: a loop, retries, or more users"
            ]
        );
        // Its model is another one too.
        assert_eq!(
            told(&[], grown(), &[("c", 52), ("a", 40)], 100),
            [
                "changed: project batch is 55 % of the cost, not 30 % · c is 52 % of the cost, not 4 %",
                "what has chosen c in project batch since 02:00"
            ]
        );
        // One that was not there may have brought its model; one that costs a little more is no news.
        assert_eq!(
            told(
                &[],
                vec![share("new", 50, "c"), share("web", 35, "a")],
                &[("c", 50)],
                100
            ),
            [
                "changed: project new is 50 % of the cost, not 0 %",
                "what project new has been doing since 02:00"
            ]
        );
        assert!(told(&[], vec![share("batch", 49, "b")], &[("b", 49)], 100).is_empty());
        assert!(told(&[Label::Project], grown(), &models, 100).is_empty());
        assert!(told(&[Label::Session], grown(), &[], 100).is_empty());
    }

    /// What the others had is what all had; so is what names no project.
    #[test]
    fn models_are_expected_as_projects_had_them() {
        let share = ProjectShare::of;
        let before = Makeup {
            projects: vec![
                share("web", 60, &[("a", 90), ("b", 10)]),
                share("batch", 30, &[("b", 100)]),
            ],
            ..before()
        };
        let expected = |model: &str, projects: Vec<ProjectShare>| {
            let now = Makeup {
                projects,
                ..as_ever()
            };
            as_projects_go(&model.into(), &before, &now)
        };
        // Half of it is that of batch, a fifth that of web, and 30 % of the rest.
        let now = || vec![share("batch", 50, &[]), share("web", 20, &[])];
        assert_eq!(expected("b", now()), 50 + 2 + 9);
        assert_eq!(expected("a", now()), 18 + 18);
        assert_eq!(expected("d", now()), 0);
        assert_eq!(expected("d", vec![share("new", 40, &[])]), 40);
        assert_eq!(expected("b", Vec::new()), 30);
    }

    #[test]
    fn a_project_that_was_not_known_among_many_had_no_more_than_the_smallest() {
        let share = |n: usize, percent| ProjectShare {
            name: format!("p{n}").into(),
            percent,
            models: Vec::new(),
        };
        let told = |n| {
            let before = Makeup {
                projects: (0..n).map(|n| share(n, 6)).collect(),
                ..before()
            };
            let now = Makeup {
                projects: vec![share(99, 40)],
                ..as_ever()
            };
            project(&before, &now).map(|(_, words)| words)
        };
        let said = |was: &str| Some(format!("project p99 is 40 % of the cost, not {was}"));
        assert_eq!(told(16), said("at most 6 %"));
        assert_eq!(told(15), said("0 %"));
        assert_eq!(told(0), None);
        // One beside the only one.
        let before = Makeup {
            projects: vec![share(0, 100)],
            ..before()
        };
        let with = |percent| Makeup {
            projects: vec![share(99, percent), share(0, 100 - percent)],
            ..as_ever()
        };
        let words = |percent| project(&before, &with(percent)).map(|(_, words)| words);
        assert_eq!(
            words(51).as_deref(),
            Some("project p99 is 51 % of the cost, not 0 %")
        );
        assert_eq!(words(19), None);
    }

    #[test]
    fn what_the_cache_gives_less_is_told_and_weighs_by_what_is_paid_instead() {
        let read = |read| Makeup { read, ..as_ever() };
        let first = |now| words(Metric::Cost, None, now).into_iter().next();
        let said = Some("changed: 80 % of prompts from the cache, not 90 %".to_owned());
        assert_eq!(first(read(800_000)), said);
        assert_eq!(first(read(810_000)), None);
        // Five times as much is paid in full, and outputs are three times as long.
        let longer = Makeup {
            output: 90_000,
            ..read(500_000)
        };
        let both = "changed: 50 % of prompts from the cache, not 90 % · outputs 3.0 times as long (900 tokens)";
        assert_eq!(first(longer), Some(both.to_owned()));
    }

    #[test]
    fn more_beside_what_the_cache_gives_is_no_loss_of_the_cache() {
        let more = Makeup {
            prompt: 1_250_000,
            ..as_ever()
        };
        assert_eq!(
            words(Metric::Cost, None, more),
            [
                "changed: 3.5 times as many tokens outside the cache (3,500 a prompt)",
                "what has been added to prompts since 02:00: files, tools, or what is another each time"
            ]
        );
    }

    /// Where too few came for the value of a rule they may be enough to say what they are made of.
    #[test]
    fn a_few_responses_without_a_value_say_what_they_are_made_of() {
        let told = |requests| {
            let now = Makeup {
                requests,
                output: 10_000 * requests,
                ..as_ever()
            };
            !words_of_value(Metric::CostPerRequest, None, now, None).is_empty()
        };
        assert!(told(10) && !told(9));
    }
}
