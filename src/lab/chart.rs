//! Charts as SVG, drawn here so that a report needs no script to be seen, scales, and prints.
//!
//! A report draws four charts and a curve of its own shape; a library would be larger than all of this and want the numbers in
//! floating point. Coordinates are whole tenths of a pixel. Knows neither rules nor money: values are whole numbers, and who
//! calls says how they are written.

use std::fmt::Write;

use crate::monitor::{Severity, Time};
use crate::parse::Zone;
use crate::sink::Clock;

/// All charts are so wide, so that they share one axis of time.
const WIDTH: i64 = 10_000;
const LEFT: i64 = 850;
const RIGHT: i64 = 9_900;
const TOP: i64 = 80;
const PLOT: i64 = 1_300;
const BELOW: i64 = 230;

/// Text in a page, without anything that a browser could take for more than text.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in crate::sink::clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The name of a severity in the style sheet.
pub(super) fn class(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info => "info",
    }
}

/// The stretch of time that charts show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub(super) first: Time,
    pub(super) end: Time,
    pub(super) clock: Clock,
}

/// Values that fill the chart from its bottom, a bin each.
pub(super) struct Layer<'a> {
    pub(super) class: &'a str,
    pub(super) values: Vec<i128>,
}

/// A value that something is held against, as far as it is known.
pub(super) struct Limit {
    pub(super) class: &'static str,
    pub(super) name: String,
    pub(super) values: Vec<Option<i128>>,
}

/// A stretch in which an alert was on.
pub(super) struct Band {
    pub(super) class: &'static str,
    pub(super) from: Time,
    /// When it was told.
    pub(super) told: Time,
    pub(super) to: Time,
    pub(super) title: String,
}

/// One chart over time.
pub(super) struct Panel<'a> {
    pub(super) title: &'a str,
    /// Larger layers before those that lie in front of them.
    pub(super) layers: Vec<Layer<'a>>,
    /// A line with gaps.
    pub(super) line: Option<Vec<Option<i128>>>,
    pub(super) limits: Vec<Limit>,
    pub(super) bands: Vec<Band>,
    /// The largest value that can be; without it the axis follows the values.
    pub(super) most: Option<i128>,
    pub(super) write: &'a dyn Fn(i128) -> String,
}

impl Axis {
    /// The width of all charts, and where time begins and ends in it.
    pub(super) const EXTENT: (i64, i64, i64) = (WIDTH, LEFT, RIGHT);

    fn x(&self, at: Time) -> i64 {
        let whole = self.end.millis_since(self.first).max(1);
        let part = at.millis_since(self.first).clamp(0, whole);
        let x = i128::from(RIGHT - LEFT) * i128::from(part) / i128::from(whole);
        LEFT + i64::try_from(x).unwrap_or(0)
    }

    fn x_of(n: usize, of: usize) -> i64 {
        let (n, of) = (
            i64::try_from(n).unwrap_or(0),
            i64::try_from(of.max(1)).unwrap_or(1),
        );
        LEFT + (RIGHT - LEFT) * n / of
    }

    /// Moments to be named, at whole steps of the clock, with their names.
    fn ticks(&self) -> Vec<(Time, String)> {
        const STEPS: [i64; 14] = [
            10, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
            2_419_200, 7_257_600,
        ];
        let secs = self.end.millis_since(self.first) / 1000;
        let step = STEPS.into_iter().find(|step| secs / step <= 9);
        let step = step.unwrap_or(secs / 9) * 1000;
        let zone = self.clock.zone;
        // As if the clock on the wall showed universal time.
        let wall = Zone::UTC.moment(zone.wall_clock(self.first), self.first).0;
        let mut ticks = Vec::new();
        let mut at = (wall + step - 1).div_euclid(step) * step;
        loop {
            let shown = Zone::UTC.wall_clock(Time(at));
            let time = zone.moment(shown, Time(self.first.0.saturating_add(at - wall)));
            if time > self.end || ticks.len() > 20 {
                break;
            }
            let is_day = at.rem_euclid(86_400_000) == 0;
            let format = match (is_day, step < 60_000) {
                (true, _) => "%-d %b",
                (_, true) => "%H:%M:%S",
                _ => "%H:%M",
            };
            ticks.push((time, shown.strftime(format).to_string()));
            at += step;
        }
        ticks
    }

    fn draw_ticks(&self, svg: &mut String, (top, bottom): (i64, i64)) {
        for (at, name) in self.ticks() {
            let x = self.x(at);
            let _ = write!(
                svg,
                "<path class=grid d='M{x} {top}V{bottom}'/><text x={x} y={} class=x>{}</text>",
                bottom + 150,
                escape(&name)
            );
        }
    }
}

/// A whole number with one digit other than zero, or 25 and zeros, of which at most five reach to `most`.
fn step_to(most: i128) -> i128 {
    let mut unit = 1;
    loop {
        for step in [unit, 2 * unit, 5 * unit] {
            if most <= 4 * step {
                return step;
            }
        }
        unit *= 10;
    }
}

/// Steps from one value to the next; a gap where there is none.
fn steps(values: impl Iterator<Item = Option<i64>>, n: usize) -> String {
    let mut path = String::new();
    let mut before: Option<i64> = None;
    for (i, y) in values.enumerate() {
        if y != before {
            let x = Axis::x_of(i, n);
            match (before, y) {
                (Some(_), Some(y)) => {
                    let _ = write!(path, "H{x}V{y}");
                }
                (None, Some(y)) => {
                    let _ = write!(path, "M{x} {y}");
                }
                (Some(_), None) => {
                    let _ = write!(path, "H{x}");
                }
                (None, None) => {}
            }
        }
        before = y;
    }
    if before.is_some() {
        let _ = write!(path, "H{RIGHT}");
    }
    path
}

impl Panel<'_> {
    /// The chart, and what does not fit on it in words.
    pub(super) fn draw(&self, axis: &Axis) -> String {
        let bottom = TOP + PLOT;
        let layers = self.layers.iter().flat_map(|layer| &layer.values).copied();
        let line = self.line.iter().flatten().flatten().copied();
        let data = layers.chain(line).max().unwrap_or(0);
        let highest = |limit: &Limit| limit.values.iter().flatten().copied().max();
        // A limit far above all values would press them to the ground.
        let room = self
            .most
            .unwrap_or(if data > 0 { 4 * data } else { i128::MAX });
        let fits = |limit: &&Limit| highest(limit).is_some_and(|most| most <= room);
        let limits: Vec<&Limit> = self.limits.iter().filter(fits).collect();
        let above = limits.iter().filter_map(|limit| highest(limit)).max();
        let most = self
            .most
            .unwrap_or_else(|| data.max(above.unwrap_or(0)).max(1));
        let step = step_to(most);
        let top = (most + step - 1) / step * step;
        let y = |value: i128| {
            let height = i128::from(PLOT) * value.clamp(0, top) / top;
            bottom - i64::try_from(height).unwrap_or(0)
        };
        let mut svg = format!(
            "<figure class=panel><figcaption>{}</figcaption><svg viewBox='0 0 {WIDTH} {}' role=img aria-label='{}'>",
            escape(self.title),
            bottom + BELOW,
            escape(self.title)
        );
        for band in &self.bands {
            let (from, to) = (axis.x(band.from), axis.x(band.to));
            let _ = write!(
                svg,
                "<rect class='band {}' x={from} y={TOP} width={} height={PLOT} />",
                band.class,
                (to - from).max(20)
            );
        }
        axis.draw_ticks(&mut svg, (TOP, bottom));
        // Where there is nothing to be seen no height means anything.
        let last = if data > 0 || above.is_some() || self.most.is_some() {
            top
        } else {
            0
        };
        let mut tick = 0;
        while tick <= last {
            let (value, at) = ((self.write)(tick), y(tick));
            let _ = write!(
                svg,
                "<path class=grid d='M{LEFT} {at}H{RIGHT}'/><text x={} y={} class=y>{}</text>",
                LEFT - 60,
                at + 40,
                escape(&value)
            );
            tick += step;
        }
        for Layer { class, values } in &self.layers {
            let path = steps(values.iter().map(|value| Some(y(*value))), values.len());
            // From the ground, along the values, and back to the ground.
            let path = path.strip_prefix('M').unwrap_or_default();
            let (_, along) = path.split_once(' ').unwrap_or_default();
            let _ = write!(
                svg,
                "<path class='area {class}' d='M{LEFT} {bottom}V{along}V{bottom}Z'/>"
            );
        }
        if let Some(line) = &self.line {
            let path = steps(line.iter().map(|value| value.map(y)), line.len());
            let _ = write!(svg, "<path class=line d='{path}'/>");
        }
        let mut notes = String::new();
        for limit in &self.limits {
            let last = limit.values.iter().flatten().next_back();
            let Some(last) = last.map(|last| (self.write)(*last)) else {
                let _ = write!(notes, "<li>{}: learning, no limit yet", escape(&limit.name));
                continue;
            };
            let is_drawn = limits.iter().any(|drawn| std::ptr::eq(*drawn, limit));
            if is_drawn {
                let path = steps(
                    limit.values.iter().map(|value| value.map(y)),
                    limit.values.len(),
                );
                let _ = write!(
                    svg,
                    "<path class='limit {}' d='{path}'><title>{}</title></path>",
                    limit.class,
                    escape(&limit.name)
                );
            }
            let place = if is_drawn { "" } else { ", above the chart" };
            let _ = write!(
                notes,
                "<li><i class='dash {}'></i>limit of {}: {} at the end{place}",
                limit.class,
                escape(&limit.name),
                escape(&last),
            );
        }
        let _ = write!(
            svg,
            "<path class=cross d='M0 {TOP}V{bottom}'/></svg><ul class=key>{notes}</ul></figure>"
        );
        svg
    }
}

/// Rows of stretches, one for each name.
pub(super) fn rows(axis: &Axis, title: &str, rows: &[(String, Vec<Band>)]) -> String {
    const ROW: i64 = 200;
    let n = i64::try_from(rows.len()).unwrap_or(0);
    let bottom = 20 + ROW * n;
    let mut svg = format!(
        "<figure class='panel rows'><figcaption>{}</figcaption><svg viewBox='0 0 {WIDTH} {}' role=img aria-label='{}'>",
        escape(title),
        bottom + BELOW,
        escape(title)
    );
    axis.draw_ticks(&mut svg, (20, bottom));
    for (i, (name, bands)) in (0..).zip(rows) {
        let middle = 20 + ROW * i + ROW / 2;
        let _ = write!(
            svg,
            "<text x={} y={} class=y>{}</text>",
            LEFT - 60,
            middle + 40,
            escape(name)
        );
        for band in bands {
            let (from, told, to) = (axis.x(band.from), axis.x(band.told), axis.x(band.to));
            let _ = write!(
                svg,
                "<g class='{}'><title>{}</title><rect x={from} y={} width={} height=100 rx=20 /><circle cx={told} cy={middle} r=45 /></g>",
                band.class,
                escape(&band.title),
                middle - 50,
                (to - from).max(30)
            );
        }
    }
    let _ = write!(svg, "<path class=cross d='M0 20V{bottom}'/></svg></figure>");
    svg
}

/// One choice on a curve.
pub(super) struct Point {
    pub(super) name: String,
    pub(super) x: i128,
    pub(super) y: i128,
    pub(super) is_present: bool,
}

/// Choices by two numbers; the nearer to the corner, the better.
pub(super) struct Curve {
    pub(super) title: &'static str,
    pub(super) points: Vec<Point>,
    pub(super) write_x: fn(i128) -> String,
    pub(super) write_y: fn(i128) -> String,
}

impl Curve {
    /// More names than this would cover each other.
    const NAMED: usize = 16;

    pub(super) fn draw(&self) -> String {
        const HEIGHT: i64 = 2_600;
        let bottom = TOP + HEIGHT;
        let scale = |most: Option<i128>| {
            let most = most.unwrap_or(0).max(1);
            let step = step_to(most);
            (step, (most + step - 1) / step * step)
        };
        let (x_step, x_end) = scale(self.points.iter().map(|point| point.x).max());
        let (y_step, y_end) = scale(self.points.iter().map(|point| point.y).max());
        let place = |value: i128, end: i128, length: i64| {
            i64::try_from(i128::from(length) * value / end).unwrap_or(0)
        };
        let x = |value| LEFT + place(value, x_end, RIGHT - LEFT - 400);
        let y = |value| bottom - place(value, y_end, HEIGHT);
        let mut svg = format!(
            "<figure class=panel><figcaption>{}</figcaption><svg viewBox='0 0 {WIDTH} {}' role=img aria-label='{}'>",
            escape(self.title),
            bottom + BELOW,
            escape(self.title)
        );
        for (step, end, is_x) in [(x_step, x_end, true), (y_step, y_end, false)] {
            let mut tick = 0;
            while tick <= end {
                let _ = if is_x {
                    let at = x(tick);
                    write!(
                        svg,
                        "<path class=grid d='M{at} {TOP}V{bottom}'/><text x={at} y={} class=x>{}</text>",
                        bottom + 150,
                        escape(&(self.write_x)(tick))
                    )
                } else {
                    let at = y(tick);
                    write!(
                        svg,
                        "<path class=grid d='M{LEFT} {at}H{RIGHT}'/><text x={} y={} class=y>{}</text>",
                        LEFT - 60,
                        at + 40,
                        escape(&(self.write_y)(tick))
                    )
                };
                tick += step;
            }
        }
        let at: Vec<(i64, i64)> = self.points.iter().map(|p| (x(p.x), y(p.y))).collect();
        for ((point, (at_x, at_y)), name) in self.points.iter().zip(&at).zip(self.names(&at)) {
            let class = if point.is_present {
                "point present"
            } else {
                "point"
            };
            let name = name.map(|name| name.draw(&point.name)).unwrap_or_default();
            let _ = write!(
                svg,
                "<g class='{class}'><title>{}: {}, {}</title><circle cx={at_x} cy={at_y} r={RADIUS} />{name}</g>",
                escape(&point.name),
                escape(&(self.write_x)(point.x)),
                escape(&(self.write_y)(point.y)),
            );
        }
        svg.push_str("</svg></figure>");
        svg
    }

    /// Where each point's name stands, so that none covers another or a point. What finds no room has none; it is told where one
    /// points at it.
    fn names(&self, at: &[(i64, i64)]) -> Vec<Option<Name>> {
        let mut taken: Vec<Name> = at.iter().map(|at| Name::dot(*at)).collect();
        let mut names: Vec<Option<Name>> = at.iter().map(|_| None).collect();
        let is_named = |point: &Point| point.is_present || self.points.len() <= Self::NAMED;
        let (present, others): (Vec<usize>, Vec<usize>) =
            (0..at.len()).partition(|n| self.points[*n].is_present);
        for n in present.into_iter().chain(others) {
            let point = &self.points[n];
            let mut places = Name::places(at[n], &point.name).filter(|_| is_named(point));
            let free = places.find(|name| !taken.iter().any(|other| other.covers(name)));
            taken.extend(free);
            names[n] = free;
        }
        names
    }
}

/// Half of what a point is wide.
const RADIUS: i64 = 60;

/// The room that a name takes, and on which side of its point it stands.
#[derive(Debug, Clone, Copy)]
struct Name {
    left: i64,
    right: i64,
    /// What its letters stand on.
    base: i64,
    is_before: bool,
}

impl Name {
    const HEIGHT: i64 = 120;

    /// No letter is much wider.
    const LETTER: i64 = 75;

    fn dot((x, y): (i64, i64)) -> Self {
        Self {
            left: x - RADIUS,
            right: x + RADIUS,
            base: y + RADIUS,
            is_before: false,
        }
    }

    /// Where the name of a point may stand, the best place first.
    fn places((x, y): (i64, i64), name: &str) -> impl Iterator<Item = Self> {
        let letters = i64::try_from(name.chars().count()).unwrap_or(i64::MAX / Self::LETTER);
        let width = letters.saturating_mul(Self::LETTER);
        // There is no room behind what lies at the right.
        let is_right = x > i64::midpoint(LEFT, RIGHT);
        let bases = [-50, 150, 40].map(|lower| y + lower);
        let sides = [is_right, !is_right].into_iter();
        let places = sides.flat_map(move |is_before| bases.map(|base| (is_before, base)));
        let places = places.map(move |(is_before, base)| {
            let (left, right) = if is_before {
                ((x - 90).saturating_sub(width), x - 90)
            } else {
                (x + 90, (x + 90).saturating_add(width))
            };
            Self {
                left,
                right,
                base,
                is_before,
            }
        });
        places.filter(|name| name.left >= 0 && name.right <= WIDTH)
    }

    fn covers(&self, other: &Self) -> bool {
        let is_beside = self.right <= other.left || other.right <= self.left;
        !is_beside && (self.base - other.base).abs() < Self::HEIGHT
    }

    fn draw(&self, name: &str) -> String {
        let (class, x) = if self.is_before {
            ("'name before'", self.right)
        } else {
            ("name", self.left)
        };
        format!(
            "<text class={class} x={x} y={}>{}</text>",
            self.base,
            escape(name)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_leaves_a_handful_of_ticks() {
        for (most, step) in [
            (1, 1),
            (4, 1),
            (5, 2),
            (8, 2),
            (9, 5),
            (20, 5),
            (21, 10),
            (90, 50),
        ] {
            assert_eq!(step_to(most), step, "{most}");
        }
    }

    #[test]
    fn equal_values_are_one_stroke_and_gaps_are_none() {
        let values = [Some(5), Some(5), None, None, Some(7), Some(9)];
        assert_eq!(
            steps(values.into_iter(), 9050),
            "M850 5H852M854 7H855V9H9900"
        );
    }

    /// A chart of this line, with a limit of 50.
    fn drawn(line: Vec<Option<i128>>, most: Option<i128>, with_limit: bool) -> String {
        let limit = Limit {
            class: "warning",
            name: "x".to_owned(),
            values: vec![Some(50)],
        };
        let panel = Panel {
            title: "",
            layers: Vec::new(),
            line: Some(line),
            limits: if with_limit { vec![limit] } else { Vec::new() },
            bands: Vec::new(),
            most,
            write: &|n| n.to_string(),
        };
        let axis = Axis {
            first: Time(0),
            end: Time(10_000),
            clock: Clock { zone: Zone::UTC },
        };
        panel.draw(&axis)
    }

    #[test]
    fn a_limit_is_drawn_where_there_is_room_for_it() {
        let is_drawn = |svg: &str| svg.contains("class='limit warning'");
        let heights = |svg: &str| svg.matches("class=y>").count();
        // Five times as high as the values.
        let svg = drawn(vec![Some(10)], None, true);
        assert!(!is_drawn(&svg) && svg.contains("50 at the end, above the chart"));
        // Shares reach to a hundred whatever they are, and where all is zero the limit is the only measure.
        for (most, with_nothing) in [(Some(100), 3), (None, 4)] {
            let svg = drawn(vec![Some(0)], most, true);
            assert!(is_drawn(&svg) && !svg.contains("above the chart"), "{svg}");
            assert_eq!(heights(&svg), with_nothing, "{svg}");
        }
        assert_eq!(heights(&drawn(vec![None], None, false)), 1);
    }

    #[test]
    fn names_of_points_that_lie_together_cover_nothing() {
        let write: fn(i128) -> String = |n| n.to_string();
        let curve = |points: &[(i128, i128)]| Curve {
            title: "",
            points: points
                .iter()
                .enumerate()
                .map(|(n, (x, y))| Point {
                    name: format!("{n} and more"),
                    x: *x,
                    y: *y,
                    is_present: n == 0,
                })
                .collect(),
            write_x: write,
            write_y: write,
        };
        for points in [
            &[(0, 3_147), (0, 3_149), (2, 770), (7, 340), (190, 1_480)][..],
            &[(5, 5); 16],
        ] {
            let at: Vec<(i64, i64)> = points
                .iter()
                .map(|(x, y)| {
                    (
                        i64::try_from(*x * 40).unwrap() + LEFT,
                        i64::try_from(*y).unwrap(),
                    )
                })
                .collect();
            let names: Vec<Name> = curve(points).names(&at).into_iter().flatten().collect();
            assert!(names.len() >= points.len().min(4), "{names:?}");
            for (n, name) in names.iter().enumerate() {
                assert!(
                    !names[..n].iter().any(|other| other.covers(name)),
                    "{names:?}"
                );
                assert!(
                    !at.iter().any(|at| Name::dot(*at).covers(name)),
                    "{names:?}"
                );
            }
        }
    }

    #[test]
    fn a_name_from_a_log_is_text() {
        let name = "<script>'\"&\u{1b}";
        assert_eq!(escape(name), "&lt;script&gt;&#39;&quot;&amp;\u{fffd}");
    }
}
