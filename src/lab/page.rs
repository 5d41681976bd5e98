//! `--report`: all that a replay found as one page that opens from a disk, without a network, in dark and in light, and on paper.
//!
//! Puts together; charts are drawn by `chart`, and the numbers come from elsewhere. Text from a log is escaped, and the page
//! forbids its browser to load anything.

use std::fmt::Write;

use super::chart::{Axis, Band, Curve, Layer, Limit, Panel, class, escape, rows};
use super::episodes::{Episodes, Told};
use super::report::{Finding, Report};
use super::timeline::{Bin, Timeline};
use crate::config::write_duration;
use crate::monitor::{Amount, Metric, Rule, Severity, Time, UNIT};
use crate::price::PicoUsd;
use crate::sink::{clean, count, duration, percent, quantity};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// More alerts than this are not listed one by one: nobody reads them, and the page has to open.
const MAX_LISTED: usize = 1000;

/// Bands drawn in a chart; more of them are a wall.
const MAX_BANDS: usize = 2000;

const DAY_SECS: i64 = 86_400;

/// What a page is made of.
pub(super) struct Page<'a> {
    pub(super) report: &'a Report<'a>,
    pub(super) timeline: &'a Timeline,
    /// The rules whose limits the timeline noted, with the windows these are for.
    pub(super) limits: Vec<(&'a Rule, i64)>,
    pub(super) curve: Option<Curve>,
}

impl Page<'_> {
    /// The whole page.
    pub(super) fn html(&self) -> String {
        let mut html = String::new();
        let title = match self.report.span_line() {
            Some(line) => escape(&line),
            None => "no times".to_owned(),
        };
        let _ = write!(
            html,
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
             <meta http-equiv=Content-Security-Policy content=\"default-src 'none';style-src 'unsafe-inline';script-src 'unsafe-inline'\">\
             <title>claude-tokmon: {title}</title><style>{STYLE}</style><h1>{title}</h1><p>{}</p>",
            escape(&self.report.read_line())
        );
        self.sums(&mut html);
        let caveats = self.report.caveats();
        if !caveats.is_empty() {
            html.push_str("<ul class=notes>");
            for line in caveats {
                let _ = write!(html, "<li>{}", escape(&line));
            }
            html.push_str("</ul>");
        }
        if self.timeline.bins().len() > 0 {
            self.charts(&mut html);
        }
        self.alerts(&mut html);
        for finding in self.report.findings {
            section(&mut html, finding);
        }
        if let Some(curve) = &self.curve {
            let _ = write!(html, "<h2>Which setting</h2>{}", curve.draw());
        }
        html.push_str("<h2>By model</h2>");
        table(&mut html, &self.report.model_rows());
        for line in self.report.cost_lines() {
            let _ = write!(html, "<p>{}</p>", escape(&line));
        }
        if let Some(groups) = self.report.groups() {
            let _ = write!(html, "<h2>By {}</h2>", groups.name);
            table(&mut html, &groups.rows);
            if let Some(line) = groups.rest {
                let _ = write!(html, "<p>{}</p>", escape(&line));
            }
        }
        let causes = self.report.cause_rows();
        if !causes.is_empty() {
            html.push_str("<h2>Why the cache missed</h2>");
            table(&mut html, &causes);
        }
        for line in self.report.cache_lines() {
            let _ = write!(html, "<p>{}</p>", escape(&line));
        }
        self.days(&mut html);
        html.push_str("<div id=tip></div>");
        self.data(&mut html);
        let _ = write!(html, "<script>{SCRIPT}</script></html>");
        html
    }

    fn axis(&self) -> Axis {
        let (first, end) = self.timeline.span();
        Axis {
            first,
            end,
            clock: self.report.style.clock,
        }
    }

    fn sums(&self, html: &mut String) {
        let totals = self.report.totals;
        let bound = if totals.is_lower_bound() { "≥ " } else { "" };
        let told = self.report.episodes.all().count() as u64;
        let mut sums = vec![
            ("cost", format!("{bound}{}", totals.cost)),
            ("responses", count(totals.records)),
            ("paid again, avoidable", self.report.avoidable()),
            ("alerts", count(told)),
        ];
        if let Some(per_mille) = totals.cache_read_per_mille() {
            let share = percent(Amount::from(per_mille) * UNIT / 1000);
            sums.insert(2, ("of prompt tokens from the cache", share));
        }
        html.push_str("<dl class=sums>");
        for (name, value) in sums {
            let _ = write!(html, "<div><dt>{name}<dd>{}</div>", escape(&value));
        }
        html.push_str("</dl>");
    }

    fn charts(&self, html: &mut String) {
        let axis = self.axis();
        let secs = self.timeline.width();
        let width = write_duration(secs);
        let a_minute = |bin: &Bin, amount: i128| {
            amount * 60 / i128::from(secs) * i128::from(bin.requests > 0 || amount != 0)
        };
        let of = |amount: &dyn Fn(&Bin) -> i128| -> Vec<i128> {
            let bins = self.timeline.bins();
            bins.map(|bin| a_minute(bin, amount(bin))).collect()
        };
        let dollars = |amount: i128| PicoUsd(amount).to_string();
        let _ = write!(
            html,
            "<h2>Over time</h2><p>Each step is {width} long; --since and --until show a part of the log in finer steps.</p>"
        );
        let cost = Panel {
            title: "Cost a minute",
            layers: vec![
                layer("cost", of(&|bin| bin.cost.0)),
                layer("waste", of(&|bin| bin.waste.0)),
            ],
            line: None,
            limits: self.limits_of(Metric::Cost),
            bands: self.bands(|metric| metric.has_dollars() && !metric.is_about_cache()),
            most: None,
            write: &dollars,
        };
        html.push_str(&cost.draw(&axis));
        html.push_str("<ul class=key><li><i class=cost></i>cost<li><i class=waste></i>of it paid again for prompt that had been cached</ul>");
        let share = |bin: &Bin| {
            let prompt = bin.tokens.prompt();
            (prompt > 0).then(|| i128::from(bin.tokens.cache_read) * UNIT / i128::from(prompt))
        };
        let cache = Panel {
            title: "Share of prompt tokens read from the cache",
            layers: Vec::new(),
            line: Some(self.timeline.bins().map(share).collect()),
            limits: self.limits_of(Metric::CacheMiss),
            bands: self.bands(Metric::is_about_cache),
            most: Some(UNIT),
            write: &percent,
        };
        html.push_str(&cache.draw(&axis));
        let tokens = |n: u64| i128::from(n);
        let fresh = Panel {
            title: "Tokens a minute, without those read from the cache",
            layers: vec![
                layer("output", of(&|bin| tokens(bin.tokens.fresh()))),
                layer(
                    "write",
                    of(&|bin| tokens(bin.tokens.input + bin.tokens.cache_write())),
                ),
                layer("input", of(&|bin| tokens(bin.tokens.input))),
            ],
            line: None,
            limits: self.limits_of(Metric::Tokens),
            bands: self.bands(|metric| !metric.has_dollars() && !metric.is_about_cache()),
            most: None,
            write: &|n| quantity(u64::try_from(n).unwrap_or(0)),
        };
        html.push_str(&fresh.draw(&axis));
        html.push_str("<ul class=key><li><i class=output></i>output<li><i class=write></i>written to the cache<li><i class=input></i>input</ul>");
        let lanes: Vec<(String, Vec<Band>)> = self
            .rules()
            .into_iter()
            .map(|rule| {
                let name = clean(&rule.name).into_owned();
                (name, self.bands_of(|told| told.rule.name == rule.name))
            })
            .collect();
        if !lanes.is_empty() {
            html.push_str(&rows(&axis, "Alerts: a dot when one was told, a bar from its first affected response to its end", &lanes));
        }
    }

    /// The rules that spoke, the most severe first.
    fn rules(&self) -> Vec<&Rule> {
        let mut rules: Vec<&Rule> = Vec::new();
        for told in self.report.episodes.all() {
            if rules.iter().all(|known| known.name != told.rule.name) {
                rules.push(&told.rule);
            }
        }
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.severity));
        rules
    }

    fn limits_of(&self, metric: Metric) -> Vec<Limit> {
        let rules = self.limits.iter().enumerate();
        // What a day may cost in all is no limit of its minutes.
        rules
            .filter(|(_, (rule, secs))| rule.metric == metric && *secs < DAY_SECS)
            .map(|(slot, (rule, window_secs))| {
                let noted = self.timeline.limits();
                let values = noted.map(|limits| {
                    let limit = limits?.get(slot).copied().flatten()?;
                    if metric == Metric::CacheMiss {
                        // The chart shows what was read, the rule is about what was not.
                        return Some((UNIT - limit).max(0));
                    }
                    let per = rule.per_secs.unwrap_or(*window_secs);
                    let a_minute = limit * 60 / i128::from(per);
                    Some(if metric == Metric::Cost {
                        a_minute
                    } else {
                        a_minute / UNIT
                    })
                });
                Limit {
                    class: class(rule.severity),
                    name: rule.name.to_string(),
                    values: values.collect(),
                }
            })
            .collect()
    }

    fn bands(&self, is_of: impl Fn(Metric) -> bool) -> Vec<Band> {
        self.bands_of(|told| is_of(told.rule.metric) && told.rule.severity > Severity::Info)
    }

    fn bands_of(&self, is_shown: impl Fn(&Told) -> bool) -> Vec<Band> {
        let (_, end) = self.timeline.span();
        let clock = self.report.style.clock;
        let told = self.report.episodes.all().filter(|told| is_shown(told));
        told.take(MAX_BANDS)
            .map(|told| Band {
                class: class(told.rule.severity),
                from: told.since,
                told: told.first,
                to: told.until(end),
                title: format!(
                    "{}, told {}: {}",
                    told.rule.name,
                    clock.full(told.first),
                    told.words.first().map_or("", String::as_str)
                ),
            })
            .collect()
    }

    fn alerts(&self, html: &mut String) {
        html.push_str("<h2>Alerts</h2>");
        let episodes: &Episodes = self.report.episodes;
        let mut all: Vec<&Told> = episodes.all().collect();
        all.sort_by_key(|told| told.first);
        if all.is_empty() {
            html.push_str("<p>None.</p>");
            return;
        }
        html.push_str("<div class=scroll><table><tr><th>told<th class=rule>rule<th class=words>what and why<th>on for<th>notices<th>exposed");
        let clock = self.report.style.clock;
        let end = self
            .report
            .totals
            .span
            .map_or(Time(i64::MIN), |(_, last)| last);
        for told in all.iter().take(MAX_LISTED) {
            let length = told.until(end).millis_since(told.since) / 1000;
            let (length, still) = match told.rule.metric.is_announcement() {
                true => (String::new(), ""),
                false if told.open => (duration(length), ", still on"),
                false => (duration(length), ""),
            };
            let mut words = String::new();
            for (i, line) in told.words.iter().enumerate() {
                let line = escape(line);
                let _ = match i {
                    0 => write!(words, "{line}"),
                    _ => write!(words, "<small>{line}</small>"),
                };
            }
            let _ = write!(
                html,
                "<tr><td>{}<td class=rule><b class={}>{}</b><td class=words>{words}<td>{}{}<td>{}<td>{}",
                clock.full(told.first),
                class(told.rule.severity),
                escape(&told.rule.name),
                length,
                still,
                count(told.notices),
                told.exposed.map_or_else(String::new, |usd| usd.to_string()),
            );
        }
        html.push_str("</table></div>");
        if all.len() > MAX_LISTED {
            let rest = count((all.len() - MAX_LISTED) as u64);
            let _ = write!(html, "<p>and {rest} more (--json lists all)</p>");
        }
    }

    fn days(&self, html: &mut String) {
        let days = self.timeline.days();
        let most = days.values().map(|bin| bin.cost).max().unwrap_or_default();
        if days.is_empty() {
            return;
        }
        html.push_str("<h2>By day</h2><div class=scroll><table><tr><th>day<th>responses<th>input<th>output<th>cache write<th>cache read<th>paid again<th>cost<th>");
        for (day, bin) in days {
            let bound = if bin.unpriced > 0 { "≥ " } else { "" };
            let share = (bin.cost.0 * 100).checked_div(most.0).unwrap_or(0);
            let _ = write!(
                html,
                "<tr><td>{day}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{bound}{}<td class=bar><i style='width:{share}%'></i>",
                count(bin.requests),
                quantity(bin.tokens.input),
                quantity(bin.tokens.output),
                quantity(bin.tokens.cache_write()),
                quantity(bin.tokens.cache_read),
                bin.waste,
                bin.cost
            );
        }
        html.push_str("</table></div>");
    }

    /// What the script shows of each bin, written as everything else is.
    fn data(&self, html: &mut String) {
        let (first, _) = self.timeline.span();
        let secs = self.timeline.width();
        let clock = self.report.style.clock;
        let times = (0..).zip(self.timeline.bins()).map(|(index, _)| {
            let at = Time(first.0 + index * secs * 1000);
            if secs < 60 {
                clock.full(at)
            } else {
                format!("{} {}", clock.date(at), clock.minute(at))
            }
        });
        let bins = self.timeline.bins().map(|bin| {
            if *bin == Bin::default() {
                return serde_json::Value::from(0);
            }
            let bound = if bin.unpriced > 0 { "≥ " } else { "" };
            let share = (bin.tokens.cache_read * 1000).checked_div(bin.tokens.prompt());
            serde_json::json!([
                format!("{bound}{}", bin.cost_a_minute(secs)),
                format!("{bound}{}", bin.cost),
                bin.waste.to_string(),
                share.map_or_else(String::new, |share| percent(
                    Amount::from(share) * UNIT / 1000
                )),
                count(bin.requests),
                quantity(bin.tokens.input),
                quantity(bin.tokens.output),
                quantity(bin.tokens.cache_write()),
                quantity(bin.tokens.cache_read),
            ])
        });
        let (width, left, right) = Axis::EXTENT;
        let data = serde_json::json!({
            "width": width, "left": left, "right": right,
            "names": [
                "cost a minute", format!("cost in {}", write_duration(secs)), "of it paid again", "read from the cache",
                "responses", "input", "output", "cache write", "cache read",
            ],
            "times": times.collect::<Vec<_>>(),
            "bins": bins.collect::<Vec<_>>(),
        });
        // What would end the element cannot stand in it.
        let data = data.to_string().replace('<', "\\u003c");
        let _ = write!(
            html,
            "<script type='application/json' id=bins>{data}</script>"
        );
    }
}

fn layer(class: &str, values: Vec<i128>) -> Layer<'_> {
    Layer { class, values }
}

/// A finding of the laboratory: its rows, and what is said under them.
fn section(html: &mut String, finding: &Finding) {
    let Finding {
        title,
        rows,
        sentences,
    } = finding;
    let _ = write!(html, "<h2>{title}</h2>");
    if rows.len() > 1 {
        table(html, rows);
    }
    let is_code = |line: &String| line.starts_with('[') || line.contains(" = ") || line.is_empty();
    let mut is_open = false;
    for sentence in sentences {
        match (is_code(sentence), is_open) {
            (true, false) => html.push_str("<pre>"),
            (false, true) => html.push_str("</pre>"),
            _ => {}
        }
        is_open = is_code(sentence);
        let _ = if is_open {
            writeln!(html, "{}", escape(sentence))
        } else {
            write!(html, "<p>{}</p>", escape(sentence))
        };
    }
    if is_open {
        html.push_str("</pre>");
    }
}

fn table(html: &mut String, rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let is_word = |cell: &String| cell.starts_with(char::is_alphabetic);
    let is_figure = |cell: &String| !is_word(cell) && cell.contains(|c: char| c.is_ascii_digit());
    // What has no price says so among figures.
    let holds_words = |column: usize| {
        let cells = || rows.iter().skip(1).filter_map(|row| row.get(column));
        cells().any(is_word) && !cells().any(is_figure)
    };
    let classes: Vec<&str> = (0..columns)
        .map(|column| {
            if holds_words(column) {
                " class=left"
            } else {
                ""
            }
        })
        .collect();
    html.push_str("<div class=scroll><table>");
    for (i, row) in rows.iter().enumerate() {
        html.push_str("<tr>");
        let cell = if i == 0 { "th" } else { "td" };
        for (class, text) in classes.iter().zip(row) {
            let _ = write!(html, "<{cell}{class}>{}", escape(text));
        }
    }
    html.push_str("</table></div>");
}
