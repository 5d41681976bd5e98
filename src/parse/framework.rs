//! What the frameworks that call the API in the place of a program write of a response: the AI SDK and `LangChain`.
//!
//! They put what the provider answered beside counts of their own, and the steps of a run into one object. Others write a
//! response as its provider did, in a wrapper.

use super::item::{Item, Skipped};
use super::json::{Key, Object, Raw, elements, keys};
use super::places::{Context, Frame};
use super::{Found, usage};

/// Keys of what they write.
const KEYS: [Key; 5] = keys([
    "steps",
    "generations",
    "response_metadata",
    "usage_metadata",
    "usage",
]);

impl<'s> Frame<'s> {
    /// What a framework says of a response, if one wrote the object.
    pub(super) fn of_framework(&self, context: &Context<'_>) -> Option<Found> {
        let mut values = self.object.values(&KEYS);
        values.find_map(|(key, raw)| match key {
            "steps" | "generations" => self.of_each(raw, context),
            "usage" => self.of_ai_sdk(context),
            _ => self.of_langchain(context),
        })
    }

    /// The steps of a run of the AI SDK, or the answers to a call of `LangChain`. Each is a response.
    fn of_each(&self, all: Raw<'s>, context: &Context<'_>) -> Option<Found> {
        let answers = |raw: &Raw<'s>| match Object::of(*raw) {
            Some(step) => vec![step],
            None => elements(*raw)
                .iter()
                .filter_map(|raw| Object::of(*raw)?.object("message"))
                .collect(),
        };
        let mut found = Vec::new();
        for one in elements(all).iter().flat_map(answers) {
            found.extend(self.inside(&one).of_framework(context));
        }
        (!found.is_empty()).then_some(Found::Several(found))
    }

    /// A step of the AI SDK: the provider's answer stands beside its usage.
    fn of_ai_sdk(&self, context: &Context<'_>) -> Option<Found> {
        let usage = self.object.object("usage")?;
        if !usage::is_ai_sdk(self.object, &usage) {
            return None;
        }
        // The end of a stream sums up its steps.
        if self.object.text("type").as_deref() == Some("finish") {
            return Some(Found::Skipped(Skipped::Copy));
        }
        let answer = self.object.object("response");
        let inside = answer.as_ref().map(|answer| self.inside(answer));
        let frame = inside.as_ref().unwrap_or(self);
        let model = frame.model(context);
        Some(match usage::ai_sdk(self.object, &usage, model.as_deref()) {
            Ok(counts) => Found::Item(Item::Usage(Box::new(frame.usage(counts, model, context)))),
            Err(refused) => refused.into(),
        })
    }

    /// A message of `LangChain`: what the provider said of it, or else what is made of that.
    fn of_langchain(&self, context: &Context<'_>) -> Option<Found> {
        let metadata = self.object.object("response_metadata");
        let inside = metadata.as_ref().map(|metadata| self.inside(metadata));
        let said = metadata
            .as_ref()
            .and_then(|metadata| metadata.object("usage"));
        let said = said.filter(|usage| usage.get("output_tokens").is_some());
        let usage = said.or_else(|| {
            let own = self.object.object("usage_metadata")?;
            own.get("output_tokens").is_some().then_some(own)
        })?;
        Some(inside.as_ref().unwrap_or(self).respond(&usage, context))
    }
}
