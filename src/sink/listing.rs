//! The price table as text, and the way from a name to its price.

use std::fmt::Write;

use super::text::{clean, count};
use crate::price::{Fallback, KINDS, Model, Platform, PriceTable, Speed};

const HEAD: [&str; 6] = [
    "US dollars per million tokens",
    "input",
    "output",
    "write 5m",
    "write 1h",
    "read",
];

/// The whole table. A number that does not come from the built-in table is marked.
pub fn price_table(table: &PriceTable) -> String {
    let mut out = String::new();
    line(&mut out, HEAD.map(str::to_owned));
    let marked = |model: &Model, fields: [&str; 5], prices: [String; 5]| {
        let mut prices = prices;
        for (field, price) in fields.iter().zip(&mut prices) {
            if price != "-" && table.overlays.contains(model.source_of(field)) {
                price.insert(0, '*');
            }
        }
        prices
    };
    for model in table.models() {
        row(
            &mut out,
            &model.id,
            marked(model, KINDS, model.price_list()),
        );
        if let Some((above, prices, until)) = model.long_prices() {
            let until = until
                .map(|day| format!(", before {day}"))
                .unwrap_or_default();
            let name = format!("  prompts above {}{until}", count(above));
            row(&mut out, &name, marked(model, ["long prompts"; 5], prices));
        }
    }
    let built_in = format!("the built-in table of {}", table.as_of);
    let _ = match &table.overlays[..] {
        [] => writeln!(out, "\nlist prices as of {}", table.as_of),
        files => writeln!(
            out,
            "\n* from {}; the others from {built_in}",
            files.join(" or ")
        ),
    };
    if table.n_variants() > 0 {
        let _ = writeln!(
            out,
            "{} more names have prices of their own there, as other platforms sell them",
            count(table.n_variants() as u64)
        );
    }
    let _ = writeln!(
        out,
        "web searches {} per 1,000; `claude-tokmon prices MODEL` says what a name gets and why",
        crate::price::PicoUsd(table.per_search().0 * 1000)
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

/// A name and its prices in one line. False if it has none.
pub fn price_line(table: &PriceTable, name: &str) -> (String, bool) {
    let shown = if name.is_empty() {
        "(no model)".into()
    } else {
        clean(name)
    };
    let resolved = table.resolve(name);
    let Some(model) = &resolved.model else {
        return (format!("{shown}: unpriced"), false);
    };
    let [input, output, ..] = model.price_list();
    let id = if *model.id == *name {
        String::new()
    } else {
        format!("{}, ", model.id)
    };
    let platform = model.platform_factor(resolved.trail.platform);
    let platform = if platform == crate::price::Ratio::ONE {
        String::new()
    } else {
        format!(" {platform}")
    };
    let source = &model.source;
    (
        format!("{shown}: {id}{input}/{output} $/MTok{platform}, {source}"),
        true,
    )
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

/// Where the numbers of a model come from.
fn sources(model: &Model) -> String {
    let mut text = model.source.to_string();
    for Fallback { source, fields } in model
        .fallbacks
        .iter()
        .filter(|fallback| fallback.source != model.source)
    {
        text.extend(["; ", source, ": ", &fields.join(", ")]);
    }
    text
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
    let _ = writeln!(out, "  source       {}", sources(model));
    if let Some(note) = &model.note {
        let _ = writeln!(out, "  note         {note}");
    }
}
