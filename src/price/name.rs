//! Model names as they stand in logs, brought to the one id that has a price.
//!
//! A name is stripped of what platforms wrap around it and must then match exactly. There is no prefix match and no guess
//! by family: `claude-opus-4` is a prefix of `claude-opus-4-8`, which costs a third of it.

use super::rates::{Speed, Terms};

/// Where a request ran, as far as its model name tells. Later models cost more on regional endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// The Claude API itself or a global endpoint: no surcharge.
    Global,
    /// A regional inference profile (`us.`, `eu.`, `apac.`, `jp.`, `au.`).
    Regional,
    /// A profile of the US government cloud (`us-gov.`).
    UsGov,
}

/// The forms a name goes through, outermost first, and what they tell besides the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTrail {
    /// The name as logged, lower-cased, then each shorter form. A form that is a known id or alias ends the search.
    pub forms: Vec<String>,
    /// The platform that the name tells.
    pub platform: Platform,
    /// The speed that the name tells.
    pub speed: Speed,
}

const GEO_PREFIXES: [(&str, Platform); 7] = [
    ("us-gov.", Platform::UsGov),
    ("us.", Platform::Regional),
    ("eu.", Platform::Regional),
    ("apac.", Platform::Regional),
    ("jp.", Platform::Regional),
    ("au.", Platform::Regional),
    ("global.", Platform::Global),
];

const MARKS: [&str; 5] = ["[1m]", "@default", ":thinking", ":beta", "-latest"];

/// Lists the forms of a model name from the outside in, stopping at the first that `known` accepts.
pub(super) fn trail(name: &str, known: impl Fn(&str) -> bool) -> NameTrail {
    let mut trail = NameTrail {
        forms: vec![name.trim().to_lowercase()],
        platform: Platform::Global,
        speed: Speed::Standard,
    };
    let steps: [fn(&mut NameTrail) -> Option<String>; 6] = [
        strip_path,
        strip_geography,
        strip_vendor,
        strip_marks,
        dots_to_dashes_without_date,
        family_before_version,
    ];
    for step in steps {
        if known(trail.last()) {
            break;
        }
        if let Some(next) = step(&mut trail)
            && next != trail.last()
        {
            trail.forms.push(next);
        }
    }
    trail
}

impl NameTrail {
    /// The name, or what was asked for, means fast mode.
    pub(super) fn is_fast(&self, terms: Terms) -> bool {
        terms.speed == Speed::Fast || self.speed == Speed::Fast
    }

    /// The shortest form reached.
    pub fn last(&self) -> &str {
        self.forms.last().map_or("", String::as_str)
    }
}

/// `arn:…:inference-profile/NAME` and `provider/path/NAME` become `NAME`. An application inference profile hides its model.
fn strip_path(trail: &mut NameTrail) -> Option<String> {
    let name = trail.last();
    let kinds = [":foundation-model/", ":inference-profile/"];
    if name.starts_with("arn:") && !kinds.iter().any(|kind| name.contains(kind)) {
        return None;
    }
    name.rsplit('/').next().map(str::to_owned)
}

fn strip_geography(trail: &mut NameTrail) -> Option<String> {
    let name = trail.last().to_owned();
    GEO_PREFIXES.iter().find_map(|(prefix, platform)| {
        let rest = name.strip_prefix(prefix)?;
        rest.starts_with("anthropic.").then(|| {
            trail.platform = *platform;
            rest.to_owned()
        })
    })
}

fn strip_vendor(trail: &mut NameTrail) -> Option<String> {
    let name = trail.last();
    ["anthropic.", "anthropic-", "databricks-"]
        .iter()
        .find_map(|vendor| name.strip_prefix(vendor))
        .filter(|rest| rest.starts_with("claude"))
        .map(str::to_owned)
}

fn strip_marks(trail: &mut NameTrail) -> Option<String> {
    let mut name = trail.last().to_owned();
    loop {
        let before = name.len();
        for mark in MARKS {
            name.truncate(name.strip_suffix(mark).map_or(name.len(), str::len));
        }
        name.truncate(without_revision(&name).len());
        if let Some((stem, date)) = name.rsplit_once('@')
            && is_date(date)
        {
            name.truncate(stem.len());
        }
        if let Some(stem) = name.strip_suffix("-fast") {
            trail.speed = Speed::Fast;
            name.truncate(stem.len());
        }
        if name.len() == before {
            return Some(name);
        }
    }
}

/// Drops `:0` and then `-v1` … `-v9` from the end.
fn without_revision(name: &str) -> &str {
    let name = name.strip_suffix(":0").unwrap_or(name);
    match name.rsplit_once("-v") {
        Some((stem, digit)) if digit.len() == 1 && digit.as_bytes()[0].is_ascii_digit() => stem,
        _ => name,
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit())
}

#[allow(clippy::unnecessary_wraps, reason = "one of several steps of a kind")]
fn dots_to_dashes_without_date(trail: &mut NameTrail) -> Option<String> {
    let name = trail.last().replace('.', "-");
    match name.rsplit_once('-') {
        Some((stem, date)) if is_date(date) => Some(stem.to_owned()),
        _ => Some(name),
    }
}

/// `claude-4-5-sonnet` becomes `claude-sonnet-4-5`; generation 3 keeps its number first.
fn family_before_version(trail: &mut NameTrail) -> Option<String> {
    let (version, family) = trail.last().strip_prefix("claude-")?.rsplit_once('-')?;
    let is_version = version
        .split('-')
        .all(|part| part.len() <= 2 && part.parse::<u8>().is_ok());
    let is_family = family.bytes().all(|b| b.is_ascii_lowercase());
    let modern = !version.starts_with('3') && !version.starts_with('2');
    (is_version && is_family && modern).then(|| format!("claude-{family}-{version}"))
}
