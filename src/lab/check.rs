//! `prices --check`: which models stand in logs, and has each a price?

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use anyhow::Result;

use super::inputs::read_all;
use crate::config::Check;
use crate::monitor::Time;
use crate::parse::{Clock, Item, ParseOptions, Reader, Spare, Usage};
use crate::run::Exit;
use crate::sink::{self, Outlet, counted, price_line};
use crate::source::{Decode, InOrder, Line, SourceInfo};

/// Lists each model in the logs with its price.
///
/// # Errors
/// If a named log is missing.
pub fn check_models(check: &Check, now: Time) -> Result<Exit> {
    let err = Outlet::direct(io::stderr());
    let mut names = ModelNames {
        options: &check.parse,
        now,
        readers: HashMap::new(),
        spare: Spare::default(),
        seen: BTreeMap::new(),
    };
    let unreadable = read_all(&check.inputs, &mut names, &err)?;
    if names.seen.is_empty() {
        err.write("NO DATA: no usage record in these logs\n")?;
        return Ok(Exit::NoUsage);
    }
    let mut out = String::new();
    let mut unpriced = 0_u64;
    for (name, n) in &names.seen {
        let (line, priced) = price_line(&check.prices, name);
        unpriced += u64::from(!priced);
        out.extend([&line, " · ", &counted(*n, "line"), "\n"]);
    }
    sink::print(&out)?;
    if unpriced > 0 {
        let models = if unpriced == 1 {
            "model has"
        } else {
            "models have"
        };
        err.write(&format!(
            "{unpriced} {models} no price: add it with --prices FILE, or map the name with --model-alias NAME=MODEL\n"
        ))?;
        return Ok(Exit::Found);
    }
    Ok(if unreadable > 0 {
        Exit::Unreadable
    } else {
        Exit::Clean
    })
}

/// Counts the lines' models by the name as written. Copies count too: it is the names that matter.
struct ModelNames<'a> {
    options: &'a ParseOptions,
    now: Time,
    readers: HashMap<Arc<str>, Reader>,
    spare: Spare,
    seen: BTreeMap<String, u64>,
}

impl ModelNames<'_> {
    fn note(seen: &mut BTreeMap<String, u64>, item: &Item) {
        let mut add = |name: Option<&str>| {
            *seen.entry(name.unwrap_or("").to_owned()).or_default() += 1;
        };
        match item {
            Item::Usage(usage) => {
                let Usage { model, extra, .. } = &**usage;
                add(model.as_deref());
                for (name, _) in extra.iter().filter(|(name, _)| name.is_some()) {
                    add(name.as_deref());
                }
            }
            Item::Run(run) => {
                for model in run.models.iter().filter(|model| model.name.is_some()) {
                    add(model.name.as_deref());
                }
            }
            Item::CompactBoundary { .. } | Item::Error(_) => {}
        }
    }
}

impl Decode for ModelNames<'_> {
    type Item = ();

    type Glance = InOrder<()>;

    fn glance(&self) -> Option<InOrder<()>> {
        None
    }

    fn digest(&mut self, _source: &Arc<SourceInfo>, (): (), _last: Option<i64>) {}

    fn line(&mut self, line: Line<'_>, _out: &mut Vec<(Option<i64>, ())>) {
        let clock = Clock {
            now: self.now,
            previous: None,
            ambiguous: None,
            zone: self.options.zone,
        };
        let name = Arc::clone(&line.source.name);
        let reader = self.readers.entry(name).or_default();
        let seen = &mut self.seen;
        reader.line(
            line.bytes,
            self.options,
            clock,
            &mut self.spare,
            &mut |item| {
                Self::note(seen, item);
            },
        );
    }

    fn end(&mut self, source: &SourceInfo, _out: &mut Vec<(Option<i64>, ())>) {
        let seen = &mut self.seen;
        if let Some(mut reader) = self.readers.remove(&source.name) {
            reader.finish(&mut |item| Self::note(seen, item));
        }
    }

    fn probe(&self, _line: Line<'_>) -> Option<i64> {
        None
    }

    fn is_whole(&self, bytes: &[u8]) -> bool {
        crate::parse::is_complete(bytes)
    }

    fn take(&mut self, _time: Option<i64>, (): ()) {}
}
