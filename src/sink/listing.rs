//! The price table as text, and the way from a name to its price.

use std::fmt::Write;

use super::text::{clean, count};
use crate::price::{Model, Platform, PriceTable, Speed};

const HEAD: [&str; 6] = [
    "US dollars per million tokens",
    "input",
    "output",
    "write 5m",
    "write 1h",
    "read",
];

/// The whole table.
pub fn price_table(table: &PriceTable) -> String {
    let mut out = String::new();
    line(&mut out, HEAD.map(str::to_owned));
    for model in table.models() {
        row(&mut out, &model.id, model.price_list());
        if let Some((above, prices, until)) = model.long_prices() {
            let until = until
                .map(|day| format!(", before {day}"))
                .unwrap_or_default();
            row(
                &mut out,
                &format!("  prompts above {}{until}", count(above)),
                prices,
            );
        }
    }
    let _ = writeln!(
        out,
        "\nlist prices as of {}; web searches $10 per 1,000. `claude-tokmon prices MODEL` says what a name gets and why",
        table.as_of
    );
    out
}

fn row(out: &mut String, name: &str, prices: [String; 5]) {
    let [input, output, write_5m, write_1h, read] = prices;
    line(
        out,
        [name.to_owned(), input, output, write_5m, write_1h, read],
    );
}

fn line(out: &mut String, cells: [String; 6]) {
    let [name, rest @ ..] = cells;
    let _ = write!(out, "{name:<40}");
    for cell in rest {
        let _ = write!(out, "{cell:>10}");
    }
    out.push('\n');
}

/// How a name is read and what it costs. False if it has no price.
pub fn price_of(table: &PriceTable, name: &str) -> (String, bool) {
    let resolved = table.resolve(name);
    let mut out = String::new();
    let trail = &resolved.trail;
    let forms: Vec<String> = trail
        .forms
        .iter()
        .map(|form| clean(form).into_owned())
        .collect();
    let Some(model) = &resolved.model else {
        let _ = writeln!(out, "{}: no price", clean(name));
        let _ = writeln!(out, "  read as      {}", forms.join(" → "));
        let _ = writeln!(
            out,
            "  next step    add it with --prices FILE; names match exactly, there is no guess by family"
        );
        return (out, false);
    };
    let _ = writeln!(out, "{}: {}", clean(name), model.id);
    if forms.len() > 1 || forms[0] != *model.id {
        let alias = if trail.last() == &*model.id {
            String::new()
        } else {
            format!(" → {}", model.id)
        };
        let _ = writeln!(out, "  read as      {}{alias}", forms.join(" → "));
    }
    describe(&mut out, model);
    let platform = model.platform_factor(trail.platform);
    if trail.platform != Platform::Global {
        let kind = if trail.platform == Platform::UsGov {
            "US government cloud"
        } else {
            "regional endpoint"
        };
        let _ = writeln!(out, "  platform     {platform} for the {kind} in this name");
    }
    if trail.speed == Speed::Fast {
        let _ = writeln!(out, "  speed        fast, by the suffix of this name");
    }
    (out, true)
}

fn describe(out: &mut String, model: &Model) {
    let prices = |[input, output, write_5m, write_1h, read]: [String; 5]| {
        format!(
            "input {input} · output {output} · cache write {write_5m} (5m) {write_1h} (1h) · cache read {read}"
        )
    };
    let _ = writeln!(out, "  $/MTok       {}", prices(model.price_list()));
    if let Some((above, long, until)) = model.long_prices() {
        let until = until
            .map(|day| format!(", only before {day}"))
            .unwrap_or_default();
        let _ = writeln!(
            out,
            "  above {:<6} {}{until}",
            format!("{}k", above / 1000),
            prices(long)
        );
    }
    let factors: Vec<String> = model
        .multipliers()
        .into_iter()
        .map(|(name, ratio)| format!("{name} {ratio}"))
        .collect();
    if !factors.is_empty() {
        let _ = writeln!(out, "  multipliers  {}", factors.join(" · "));
    }
    let _ = writeln!(out, "  source       {}", model.source);
    if let Some(note) = &model.note {
        let _ = writeln!(out, "  note         {note}");
    }
}
