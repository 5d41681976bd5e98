//! `claude-tokmon.toml`: what would otherwise be typed each time.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use serde::Deserialize;
use toml::Spanned;

use super::rules::{Drafts, WrittenRule};
use crate::source::reason;

/// The name of the file in the current folder.
const HERE: &str = "claude-tokmon.toml";

/// What is to be done where a rule is written as a table of its name.
const RULES_LOOK_LIKE: &str = "; a rule begins with [[rule]] and its name = \"cost-rate\", as `claude-tokmon rules` prints them";

/// What a configuration says. It is read once and no more: it may be a pipe, and may be written to while the program runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file, if there is one.
    pub(super) file: Option<PathBuf>,
    /// Names that stand for models.
    pub(super) model_aliases: Vec<ModelAlias>,
    /// The built-in rules, and those that it changes or adds.
    pub(super) rules: Drafts,
}

/// A name that stands for a model.
#[derive(Debug, Clone)]
pub(super) struct ModelAlias {
    pub(super) name: String,
    pub(super) model: String,
    /// File and line, for an error.
    pub(super) place: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    model_alias: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    rule: Vec<Spanned<BTreeMap<Spanned<String>, toml::Value>>>,
}

impl Config {
    /// Reads the configuration: the file that is named (`-` is none), else the one in the current folder, else that of the user.
    ///
    /// # Errors
    /// If it cannot be read, or names what there is not; with the line.
    pub fn read(named: Option<&Path>) -> Result<Self> {
        let path = match named {
            Some(path) if path.as_os_str() == "-" => return parse("", path),
            Some(path) => path.to_owned(),
            None => match [Some(PathBuf::from(HERE)), of_user()]
                .into_iter()
                .flatten()
                .find(|path| path.exists())
            {
                Some(path) => path,
                None => return parse("", Path::new(HERE)),
            },
        };
        let text = fs::read_to_string(&path)
            .map_err(|e| anyhow!("cannot read {}: {}", path.display(), reason(&e)))?;
        Ok(Self {
            file: Some(path.clone()),
            ..parse(&text, &path)?
        })
    }
}

fn parse(text: &str, path: &Path) -> Result<Config> {
    let place = |at: usize| {
        let line = text[..text.floor_char_boundary(at)].matches('\n').count() + 1;
        format!("{}:{line}", path.display())
    };
    let file: File = toml::from_str(text).map_err(|e| {
        let at = e.span().map_or(0, |span| span.start);
        let message = e.message().replace('`', "\"");
        let is_shape = message.starts_with("unknown field") || message.ends_with("a sequence");
        let way_out = if is_shape { RULES_LOOK_LIKE } else { "" };
        anyhow!("{}: {message}{way_out}", place(at))
    })?;
    let aliases = file
        .model_alias
        .into_iter()
        .map(|(name, model)| ModelAlias {
            name,
            place: place(model.span().start),
            model: model.into_inner(),
        });
    let key = |(key, value): (Spanned<String>, toml::Value)| {
        let place = place(key.span().start);
        (key.into_inner(), place, value)
    };
    let rules = file.rule.into_iter().map(|rule| WrittenRule {
        place: place(rule.span().start),
        keys: rule.into_inner().into_iter().map(key).collect(),
    });
    Ok(Config {
        file: None,
        model_aliases: aliases.collect(),
        rules: Drafts::with(rules)?,
    })
}

fn of_user() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let folder = set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(set("HOME")?).join(".config")))?;
    Some(folder.join("claude-tokmon").join("config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named_with_their_line() {
        let error = |text: &str| {
            let error = parse(text, Path::new("c.toml")).err();
            error.map(|e| format!("{e:#}")).unwrap_or_default()
        };
        assert_eq!(
            error("\n[model_alais]\nx = \"y\"\n"),
            "c.toml:2: unknown field \"model_alais\", expected \"model_alias\" or \"rule\"; a rule begins with [[rule]] and its name = \"cost-rate\", as `claude-tokmon rules` prints them"
        );
        assert_eq!(
            error("[rule]\nabove = 1\n"),
            "c.toml:1: invalid type: map, expected a sequence; a rule begins with [[rule]] and its name = \"cost-rate\", as `claude-tokmon rules` prints them"
        );
        assert!(error("[model_alias]\nx = 5\n").starts_with("c.toml:2: "));
        assert!(error("[model_alias\n").starts_with("c.toml:1: "));
        assert_eq!(error("[model_alias]\n\"a=b\" = \"claude-opus-4-7\"\n"), "");
    }
}
