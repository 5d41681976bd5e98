//! The price table: which prices a response gets, and what it costs.
//!
//! Prices and their dates are data (`prices.json`, or the user's own file in the same shape). A cost is
//! (base or long-prompt prices) × fast × batch × geography × platform + web searches, rounded once.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::civil::Date;

use super::file::{self, PriceError};
use super::litellm::{self, Entry};
use super::model::Model;
use super::money::{PicoUsd, Ratio};
use super::name::{NameTrail, trail};
use super::rates::{Quote, Rates, Terms};
use crate::monitor::{Time, Tokens};

const EMBEDDED: &str = include_str!("prices.json");

/// Where a price was read from, for those who ask.
const EMBEDDED_NAME: &str = "built-in table";

/// A name from a log and the model that it means, if any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The model; `None` means unpriced.
    pub model: Option<Arc<Model>>,
    /// How the name was read.
    pub trail: NameTrail,
}

/// All models and their exact names.
#[derive(Debug, Clone)]
pub struct PriceTable {
    models: Vec<Arc<Model>>,
    /// Names with prices of their own: a model as another platform sells it.
    variants: HashMap<String, Arc<Model>>,
    by_name: HashMap<String, usize>,
    /// Names that the user says stand for others.
    aliases: HashMap<String, String>,
    web_search: u64,
    /// The day the built-in prices were checked.
    pub as_of: Date,
    /// The files laid over them, with their dates.
    pub overlays: Vec<Arc<str>>,
}

impl PriceTable {
    /// The table that is built into the program.
    ///
    /// # Panics
    /// Never: a test reads the same bytes.
    pub fn embedded() -> Self {
        let mut table = Self {
            models: Vec::new(),
            variants: HashMap::new(),
            by_name: HashMap::new(),
            aliases: HashMap::new(),
            web_search: 0,
            as_of: Date::default(),
            overlays: Vec::new(),
        };
        match table.overlay(EMBEDDED, EMBEDDED_NAME, None) {
            Ok(()) => {
                table.overlays.clear();
                table
            }
            Err(e) => unreachable!("the built-in price table is read by a test: {e}"),
        }
    }

    /// Adds the models of a price file, replacing those with the same id. `source` names the file to people and `dated` is the
    /// day it was written, unless it names one itself. The price file of `LiteLLM` is read as it is.
    ///
    /// # Errors
    /// If the text is not a price file; the table is then unchanged.
    pub fn overlay(
        &mut self,
        json: &str,
        source: &str,
        dated: Option<Date>,
    ) -> Result<(), PriceError> {
        let source_of = |date: Option<Date>| -> Arc<str> {
            date.or(dated).map_or_else(
                || source.into(),
                |date| format!("{source} of {date}").into(),
            )
        };
        if litellm::is_one(json) {
            let source = source_of(None);
            for entry in litellm::read(json)? {
                self.insert_entry(entry, &source);
            }
            self.overlays.push(source);
            return Ok(());
        }
        let file = file::read(json, source_of)?;
        if self.models.is_empty() {
            self.as_of = file.as_of.unwrap_or(self.as_of);
        }
        self.web_search = file.web_search.unwrap_or(self.web_search);
        for model in file.models {
            self.insert(model);
        }
        self.overlays.push(file.source);
        Ok(())
    }

    /// Lays a model of another price list over the one it means. What Anthropic sells itself is that model; what others sell
    /// under a name of theirs has prices of its own, in which their surcharges are contained.
    fn insert_entry(&mut self, entry: Entry, source: &Arc<str>) {
        let resolved = self.resolve(&entry.name);
        let known = resolved.model.as_deref();
        if entry.is_first_party {
            let model = Model::overlaid(&entry, known, Ratio::ONE, source);
            self.insert(model);
            return;
        }
        let platform = known.map_or(Ratio::ONE, |model| {
            model.platform_factor(resolved.trail.platform)
        });
        let mut model = Model::overlaid(&entry, known, platform, source);
        (model.regional, model.us_gov) = (None, None);
        self.variants.insert(entry.name, Arc::new(model));
    }

    /// Names that have prices of their own beside the models, because another platform sells under them.
    pub fn n_variants(&self) -> usize {
        self.variants.len()
    }

    /// Lets a name stand for another, as the user says.
    ///
    /// # Errors
    /// If the other has no price.
    pub fn alias(&mut self, name: &str, target: &str) -> Result<(), PriceError> {
        if self.resolve(target).model.is_none() {
            return Err(PriceError::Alias(target.to_owned()));
        }
        self.aliases
            .insert(name.trim().to_lowercase(), target.to_owned());
        Ok(())
    }

    /// A hash of all that prices depend on: the same for the same table.
    pub fn fingerprint(&self) -> u64 {
        let sorted = |map: &HashMap<String, String>| {
            let mut all: Vec<_> = map.clone().into_iter().collect();
            all.sort();
            all
        };
        let mut variants: Vec<_> = self.variants.iter().collect();
        variants.sort_by_key(|(name, _)| *name);
        let text = format!(
            "{:?} {variants:?} {:?} {}",
            self.models,
            sorted(&self.aliases),
            self.web_search
        );
        xxhash_rust::xxh3::xxh3_64(text.as_bytes())
    }

    /// The price of one web search.
    pub fn per_search(&self) -> PicoUsd {
        PicoUsd(i128::from(self.web_search))
    }

    /// The plain prices of a model on a day, whatever the size of the prompt; `None` if it has none.
    pub fn base_rates(&self, resolved: &Resolved, at: Option<Time>) -> Option<Rates> {
        let nothing = Tokens::default();
        let quote = self.quote(resolved, &nothing, Terms::default(), at)?;
        Some(quote.rates)
    }

    fn insert(&mut self, model: Model) {
        let index = self
            .by_name
            .get(&*model.id)
            .copied()
            .filter(|i| self.models[*i].id == model.id);
        let index = index.unwrap_or(self.models.len());
        for name in model.aliases.iter().map(String::as_str).chain([&*model.id]) {
            self.by_name.insert(name.to_lowercase(), index);
        }
        let model = Arc::new(model);
        if index == self.models.len() {
            self.models.push(model);
        } else {
            self.models[index] = model;
        }
    }

    /// All models, newest first.
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// Finds the model that a name from a log means, exactly or not at all.
    pub fn resolve(&self, name: &str) -> Resolved {
        let known =
            |form: &str| self.by_name.contains_key(form) || self.variants.contains_key(form);
        let mut trail = match self.aliases.get(&name.trim().to_lowercase()) {
            None => trail(name, known),
            Some(target) => {
                let mut trail = trail(target, known);
                trail.forms.insert(0, name.trim().to_lowercase());
                trail
            }
        };
        trail.forms.dedup();
        let variant = self.variants.get(trail.last()).cloned();
        let model = variant.or_else(|| {
            let index = self.by_name.get(trail.last())?;
            Some(Arc::clone(&self.models[*index]))
        });
        Resolved { model, trail }
    }

    /// Prices a response of `model`. `at` chooses among dated prices; `None` means the latest. `None` is returned if the
    /// model has no price for a kind of token that was used.
    pub fn quote(
        &self,
        resolved: &Resolved,
        tokens: &Tokens,
        terms: Terms,
        at: Option<Time>,
    ) -> Option<Quote> {
        self.quote_part(resolved, tokens, tokens.prompt(), terms, at)
    }

    /// The same of tokens that are not of one prompt alone: `prompt_tokens` says how long each was.
    pub fn quote_part(
        &self,
        resolved: &Resolved,
        tokens: &Tokens,
        prompt_tokens: u64,
        terms: Terms,
        at: Option<Time>,
    ) -> Option<Quote> {
        let model = resolved.model.as_ref()?;
        let quote = model.quote(tokens, prompt_tokens, terms, &resolved.trail, at)?;
        let searches = i128::from(tokens.web_search) * i128::from(self.web_search);
        Some(Quote {
            cost: quote.cost + PicoUsd(searches),
            ..quote
        })
    }
}
