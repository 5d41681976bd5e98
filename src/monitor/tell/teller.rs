//! What is told, and by whom: notices that are due, that keep quiet because others speak, and that are told again.
//!
//! Tells of alerts that were judged elsewhere and changes none of them, so many tellers can tell of the same alerts. One rule may
//! be the teller's own: then it judges that rule itself, and nobody else does.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::habit::{Habits, Kind};
use super::hush::Hush;
use super::notice::{is_beyond_usual, is_explaining};
use super::told::{Reason, Told, UNTOLD};
use super::voices::{Voices, Weight, Withheld, is_about_spending};
use crate::monitor::alert::{Alert, Episode, Notice, Phase};
use crate::monitor::cache::is_of_several;
use crate::monitor::key::Key;
use crate::monitor::metric::{Metric, Value};
use crate::monitor::reading::is_explained;
use crate::monitor::record::{Labels, Time};
use crate::monitor::rule::{Rule, Severity};
use crate::monitor::scope::Scope;
use crate::monitor::settings::{Flow, NEVER, Own, OwnByKey, OwnRule, SpokenByOwn, Watch};
use crate::monitor::state::State;
use crate::monitor::usual::{Amount, Baseline};
use crate::monitor::variants::{Variants, decide};
use crate::price::PicoUsd;

/// Tells what is due.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::monitor) struct Teller {
    /// What was told of alerts that are not over for good: of the rule in this place of a scope for this key.
    told: FxHashMap<(usize, u64, usize), Told>,
    /// Keys of scopes with a notice that is withheld because others speak.
    withheld: BTreeSet<(usize, u64)>,
    pub(in crate::monitor) voices: Voices,
    pub(in crate::monitor) hush: Hush,
    pub(super) habits: Habits,
    /// What a minute of the whole stream costs while nothing is on.
    pub(in crate::monitor) ordinary: Baseline,
    #[serde(skip)]
    pub(in crate::monitor) notices: Vec<Notice>,
    /// At which event the last of them came, and how many were there before it.
    #[serde(skip)]
    last: (u64, usize),
    /// What ended in a silence in which it was watched before.
    #[serde(skip)]
    pub(in crate::monitor) ended_unheard: Vec<Notice>,
    /// The rule that it judges itself.
    #[serde(skip)]
    pub(in crate::monitor) own: Option<Own>,
    /// The same of one that it judges for each key.
    #[serde(skip)]
    pub(in crate::monitor) by_key: Option<Box<OwnByKey>>,
    /// What the rule that it judges itself has spoken for of others.
    #[serde(skip)]
    pub(in crate::monitor) spoken: SpokenByOwn,
}

/// What is due of an episode.
struct News<'a> {
    reason: Reason,
    episode: u64,
    /// What the episode has cost so far, and whether that has grown much since it was told last.
    exposed: PicoUsd,
    has_grown: bool,
    /// Of one that is told for the first time, or is back.
    weight: Option<Weight>,
    /// Of one that may be a habit.
    kind: Option<&'a Kind>,
    /// It stands for several conversations.
    of_several: bool,
}

/// An alert of a key, with its rule.
#[derive(Clone, Copy)]
pub(in crate::monitor) struct Place {
    /// Which scope.
    pub(in crate::monitor) index: usize,
    /// Which key.
    pub(in crate::monitor) id: u64,
    /// Which of the rules.
    pub(in crate::monitor) slot: usize,
}

impl From<Place> for (usize, u64, usize) {
    fn from(place: Place) -> Self {
        (place.index, place.id, place.slot)
    }
}

impl Teller {
    /// What was told of an episode.
    pub(super) fn told(&self, place: Place, episode: &Episode) -> &Told {
        let told = self.told.get(&place.into());
        told.filter(|told| told.episode == episode.id)
            .unwrap_or(&UNTOLD)
    }

    /// The same, to change.
    pub(super) fn told_mut(&mut self, place: Place, episode: u64, rule: &Rule) -> &mut Told {
        let told = self.told.entry(place.into());
        let told = told.or_default();
        if told.episode != episode {
            *told = Told::of(episode, rule);
        }
        told
    }

    /// The alert is on and was told so.
    pub(in crate::monitor) fn is_told_open(&self, place: Place, alert: &Alert) -> bool {
        let told = |episode| self.told(place, episode).is_open();
        alert.open().is_some_and(told)
    }

    /// An episode is over for good.
    pub(in crate::monitor) fn forget(&mut self, place: Place) {
        self.told.remove(&place.into());
        self.hush.end(place);
    }

    /// Its own rule has an episode.
    pub(in crate::monitor) fn is_within_own(&self) -> bool {
        let own = self.own.as_ref();
        own.is_some_and(|own| own.alert.episode.is_some())
    }

    /// The alert of a rule as it stands for this teller.
    #[inline]
    pub(in crate::monitor) fn alert<'a>(&'a self, key: &'a Key, place: Place) -> &'a Alert {
        let Place { index, id, slot } = place;
        if let Some(own) = self.own.as_ref().filter(|own| own.of.is_at(index, slot)) {
            return &own.alert;
        }
        match self.by_key.as_ref().filter(|own| own.of.is_at(index, slot)) {
            Some(own) => own.alert(id),
            None => &key.alerts[slot],
        }
    }

    /// The rule in this place, as it is in force for this teller.
    pub(super) fn rule<'a>(&'a self, scope: &'a Scope, index: usize, slot: usize) -> &'a Arc<Rule> {
        let own = self.own_rule().filter(|own| own.is_at(index, slot));
        own.map_or_else(|| &scope.rules[slot], |own| &own.rule)
    }

    /// The rule that it judges itself.
    pub(in crate::monitor) fn own_rule(&self) -> Option<&OwnRule> {
        let own = self.own.as_ref().map(|own| &own.of);
        own.or_else(|| self.by_key.as_ref().map(|own| &own.of))
    }

    /// The same, to change.
    pub(in crate::monitor) fn own_rule_mut(&mut self) -> Option<&mut OwnRule> {
        let own = self.own.as_mut().map(|own| &mut own.of);
        own.or_else(|| self.by_key.as_mut().map(|own| &mut own.of))
    }

    fn variants<'a>(&'a self, state: &'a State) -> Option<&'a Variants> {
        let own = self.own_rule().and_then(|own| own.variants.as_ref());
        own.or(state.variants.as_ref())
    }

    /// The last minute that was no ordinary one because of its own rule.
    fn disturbed(&self) -> i64 {
        self.own_rule().map_or(i64::MIN, |own| own.disturbed)
    }

    /// An alert that goes on as it is, whatever comes, and of which there is nothing to tell for now.
    pub(in crate::monitor) fn is_settled(
        &self,
        now: Time,
        place: Place,
        alert: &Alert,
        rule: &Rule,
    ) -> bool {
        if rule.metric.is_announcement() {
            let told = |episode| self.told(place, episode).is_open();
            return alert.phase == Phase::Firing && alert.episode.as_deref().is_some_and(told);
        }
        rule.only_rises() && self.is_known(now, place, alert, rule)
    }

    /// An alert that fires, and of which there is nothing to tell for now.
    pub(in crate::monitor) fn is_known(
        &self,
        now: Time,
        place: Place,
        alert: &Alert,
        rule: &Rule,
    ) -> bool {
        let Some(episode) = alert.episode.as_deref() else {
            return false;
        };
        let told = self.told(place, episode);
        alert.phase == Phase::Firing
            && (told.is_open() || self.is_resting(now, place, told))
            && !self.is_waiting(now, place, alert, rule, episode)
    }

    /// Its own rule was said to be over, and is not to be said to be back before its time.
    fn is_resting(&self, now: Time, place: Place, told: &Told) -> bool {
        let own = self.own.as_ref();
        told.is_resting(now) && own.is_some_and(|own| own.of.is_at(place.index, place.slot))
    }

    fn is_waiting(
        &self,
        now: Time,
        place: Place,
        alert: &Alert,
        rule: &Rule,
        episode: &Episode,
    ) -> bool {
        let told = self.told(place, episode);
        let exposed = self.exposed(rule, episode).0;
        !self.is_resting(now, place, told) && told.is_waiting(alert, now, exposed)
    }

    /// An alert that is to be looked at as often as anything changes for its key, because it depends on what others do: on who
    /// else speaks, or on which misses are ordinary.
    fn is_restless(&self, now: Time, place: Place, alert: &Alert, rule: &Rule) -> bool {
        let is_waiting = || {
            let episode = alert.open();
            episode.is_some_and(|episode| self.is_waiting(now, place, alert, rule, episode))
        };
        // What was told goes on whichever misses are ordinary, until enough of them has left its window.
        let is_of_sum = rule.metric == Metric::CacheWaste;
        let is_known = || is_of_sum && self.is_known(now, place, alert, rule);
        !alert.is_quiet()
            && !rule.metric.is_announcement()
            && (rule.metric.is_about_cache() && !is_known() || is_waiting())
    }

    /// The next second after now at which time alone may make something due for a key. Of that of its own rule it is known until
    /// then.
    pub(in crate::monitor) fn look_ahead(
        &mut self,
        state: &State,
        index: usize,
        scope: &Scope,
        id: u64,
    ) -> Option<i64> {
        let now = state.now.secs();
        let own = self.own.as_ref().filter(|own| own.of.index == index);
        if let Some(own) = own.filter(|own| own.next > now) {
            return (own.next < i64::MAX).then_some(own.next);
        }
        let mut next = self.next_change(state, index, scope, id);
        let own = self.own.as_mut().filter(|own| own.of.index == index);
        if let Some((own, key)) = own.zip(scope.keys.get(&id)) {
            next = next.into_iter().chain(own.next_change(key, now)).min();
            own.next = next.unwrap_or(i64::MAX);
        }
        next
    }

    /// Whether it has to look at its own rule, once it is known [when it does](Self::look_ahead) if nothing comes.
    pub(in crate::monitor) fn watch(&self, state: &State, scope: &Scope, id: u64) -> Watch {
        let (Some(own), Some(key)) = (&self.own, scope.keys.get(&id)) else {
            return Watch::open(i64::MAX);
        };
        let place = Place {
            index: own.of.index,
            id,
            slot: own.of.slot,
        };
        let (now, alert, rule) = (state.now, &own.alert, &own.of.rule);
        let episode = alert.open();
        let told = episode.map(|episode| self.told(place, episode));
        // However much it grows, before that it is not told again for it.
        let pause = told.and_then(|told| told.grown_at(alert));
        let pause = pause.filter(|until| now < *until);
        let more = |episode: &Episode| {
            let told = self.told(place, episode);
            if pause.is_some() || self.is_resting(now, place, told) {
                NEVER
            } else {
                told.grows_by(self.exposed(rule, episode).0)
            }
        };
        let known = episode.filter(|_| self.is_known(now, place, alert, rule));
        let again_at = told.and_then(|told| told.again_at(alert));
        let again_at = again_at.into_iter().chain(pause).min();
        own.watch(now, key, &state.watches.flow, known.map(more), again_at)
    }

    /// Brings the episode of its own rule up to what has come.
    pub(in crate::monitor) fn settle(&mut self, flow: &Flow) {
        if let Some(own) = &mut self.own {
            own.settle(flow);
        }
    }

    /// The next second after now at which time alone may make something due for a key.
    pub(in crate::monitor) fn next_change(
        &self,
        state: &State,
        index: usize,
        scope: &Scope,
        id: u64,
    ) -> Option<i64> {
        let key = scope.keys.get(&id)?;
        let now = state.now.secs();
        let mut next: Option<i64> = None;
        let mut at = |second: Option<i64>| {
            if let Some(second) = second.filter(|second| *second > now) {
                next = Some(next.map_or(second, |next| next.min(second)));
            }
        };
        let (mut is_restless, mut is_sampled) = (false, false);
        for slot in 0..scope.rules.len() {
            let place = Place { index, id, slot };
            let alert = self.alert(key, place);
            let Some(episode) = alert.episode.as_deref() else {
                continue;
            };
            let rule = self.rule(scope, index, slot);
            let told = self.told(place, episode);
            at(told.again_at(alert).map(Time::first_tick));
            at(told.grown_at(alert).map(Time::first_tick));
            is_restless |= self.is_restless(state.now, place, alert, rule);
            // What is usual changes what an episode has cost beyond it, and so whether it has grown.
            is_sampled |= is_beyond_usual(rule) && alert.phase == Phase::Firing && told.is_open();
        }
        if is_restless {
            at(key.next_expiry(now));
            at(key.retry);
        }
        // Minutes in which it fired are no part of that.
        if is_sampled && state.pace.has_ordinary_after(self.disturbed()) {
            at(Some(state.pace.next_sample_after(state.now)));
        }
        next
    }

    /// Gives the notices that are due for a key. `instead` replaces the reason of a first notice. False if nothing was due or waits to
    /// be told.
    pub(in crate::monitor) fn tell(
        &mut self,
        state: &mut State,
        index: usize,
        scope: &mut Scope,
        id: u64,
        arrived: Option<&Arc<Labels>>,
        instead: Option<Reason>,
    ) -> bool {
        self.settle(&state.watches.flow);
        if !state.live {
            return true;
        }
        let mut was_due = false;
        for slot in 0..scope.rules.len() {
            let Some(key) = scope.keys.get(&id) else {
                return true;
            };
            let place = Place { index, id, slot };
            let alert = self.alert(key, place);
            let Some(episode) = alert.episode.as_deref() else {
                continue;
            };
            let rule = self.rule(scope, index, slot);
            let told = self.told(place, episode);
            let is_told = told.is_told();
            // Where nothing can be seen, silence says nothing.
            let is_blind = rule.metric == Metric::Silence && state.blind.is_told();
            let exposed = self.exposed(rule, episode).0;
            let has_grown = told.has_grown(exposed);
            let due = told.due(alert, state.now, exposed);
            // What another alert explains is not told.
            let may_be_told = alert.phase == Phase::Firing && (due.is_some() || !is_told);
            let is_explained =
                may_be_told && !is_blind && self.is_explained(state, key, place, rule, episode);
            let is_inhibited = is_explained || (may_be_told && is_blind);
            was_due |= may_be_told || due.is_some() || told.is_waiting(alert, state.now, exposed);
            if !may_be_told && due.is_none() {
                self.hush.end(place);
                continue;
            }
            let due = due.filter(|_| !is_inhibited);
            let begins = matches!(due, Some(Reason::First | Reason::Reopened));
            let weight = begins.then(|| self.weight(state, key, rule, episode));
            let is_news = |reason: &Reason| *reason != Reason::Resolved;
            let kind = due.filter(is_news).and_then(|_| Kind::of(rule, episode));
            let of_several = is_of_several(&key.labels);
            let (episode_id, rule) = (episode.id, Arc::clone(rule));
            let since = episode.since;
            if is_explained && !is_told {
                let by = Withheld::ByCache;
                let is_new = self.hush.explain(place, &rule.name, by);
                self.list(&rule.name, by, is_new, state.event);
            }
            let Some(mut reason) = due else {
                continue;
            };
            let news = News {
                reason,
                episode: episode_id,
                exposed,
                has_grown,
                weight,
                // What is on when the watch begins is said, however often it was before.
                kind: kind.as_ref().filter(|_| instead.is_none()),
                of_several,
            };
            if let Some((by, until)) = self.held_back(&rule, &news, state.now) {
                if begins {
                    let is_new = self.hush.withhold(place, &rule.name, by);
                    self.list(&rule.name, by, is_new, state.event);
                }
                self.withheld.insert((index, id));
                if let (Some(key), Some(until)) = (scope.keys.get_mut(&id), until) {
                    key.look_again_at(state.now, until);
                }
                continue;
            }
            if rule.metric.is_announcement() && reason != Reason::First {
                continue;
            }
            if reason == Reason::First
                && let Some(instead) = instead
            {
                reason = instead;
            }
            let told = self.told_mut(place, episode_id, &rule);
            if let Some(labels) = arrived {
                told.labels = Some(Arc::clone(labels));
            }
            if !is_told {
                told.before = scope.before(id, &rule, since).map(Arc::new);
            }
            told.note(reason, state.now, exposed);
            if matches!(reason, Reason::First | Reason::StillFiring) {
                state.totals.count_alert(&rule.name);
            }
            self.hush.end(place);
            if let Some(kind) = kind {
                self.habits.note(kind, episode_id, exposed, state.now);
            }
            self.voices
                .note(&rule, episode_id, reason, state.now, exposed);
            state.note_release(&self.voices);
            if reason != Reason::Resolved {
                self.hush.follow(&self.voices);
            }
            let notice = self.notice(state, scope, place, reason);
            self.say(notice, state.event);
            // One that ends has listed what it explained until now.
            self.hush.follow(&self.voices);
        }
        was_due
    }

    /// Why something that is due is not told now, and until when, if time alone ends that. None if it is.
    fn held_back(
        &self,
        rule: &Rule,
        news: &News<'_>,
        now: Time,
    ) -> Option<(Withheld, Option<Time>)> {
        let withheld = news
            .weight
            .and_then(|weight| self.voices.withheld(rule, news.episode, weight, now));
        let again = match news.reason {
            Reason::Repeat | Reason::Reopened => {
                self.voices
                    .repeat_withheld(rule, news.episode, news.has_grown, now)
            }
            _ => None,
        };
        let daily = news.kind.and_then(|kind| {
            self.habits
                .withheld(kind, news.exposed, news.of_several, now)
        });
        if withheld.is_none() && again.is_none() && daily.is_none() {
            return None;
        }
        // Where enough is told again already, none of those tells of this.
        let (by, until) = withheld.unwrap_or((Withheld::ByItsLike, None));
        Some((by, until.max(again).max(daily)))
    }

    /// Alerts about the cache, or its own rule if it is about that, have spoken for it.
    fn is_explained(
        &self,
        state: &State,
        key: &Key,
        place: Place,
        rule: &Rule,
        episode: &Episode,
    ) -> bool {
        let (of, now) = ((place.index, place.id), state.now.secs());
        let told_by_own = |secs| self.spoken.in_window(of, secs, now);
        is_explained(self.variants(state), key, rule, episode, told_by_own)
    }

    /// How much there is to an episode that is to be told.
    fn weight(&self, state: &State, key: &Key, rule: &Rule, episode: &Episode) -> Weight {
        let variants = self.variants(state);
        let window_secs = rule.windows.get(episode.step).copied().unwrap_or(0);
        let is_more = rule.metric == Metric::Cost && {
            let told = self.voices.has_told(rule, window_secs, state.now);
            is_more(variants, key, rule, episode, told)
        };
        Weight {
            is_grave: is_grave(variants, key, rule, episode),
            of_several: is_of_several(&key.labels),
            window_secs,
            is_more,
        }
    }

    /// An episode has ended while nothing may be told. It is told afterwards: that what was told is over, or what nobody heard of.
    pub(in crate::monitor) fn note_unheard(
        &mut self,
        state: &mut State,
        scope: &Scope,
        place: Place,
    ) {
        let key = &scope.keys[&place.id];
        let alert = self.alert(key, place);
        let Some(episode) = alert.episode.as_deref() else {
            return;
        };
        let rule = Arc::clone(self.rule(scope, place.index, place.slot));
        let told = self.told(place, episode);
        let was_told = told.is_told();
        let is_news = if was_told {
            told.is_open()
        } else {
            !self.is_explained(state, key, place, &rule, episode)
        };
        if !is_news {
            return;
        }
        let notice = self.notice(state, scope, place, Reason::Resolved);
        self.ended_unheard
            .retain(|other| other.episode != notice.episode);
        if was_told {
            let exposed = notice.exposed.unwrap_or_default();
            let told = self.told_mut(place, notice.episode, &rule);
            told.note(Reason::Resolved, state.now, exposed);
            self.voices
                .note(&rule, notice.episode, Reason::Resolved, state.now, exposed);
            self.hush.follow(&self.voices);
            state.note_release(&self.voices);
        }
        self.ended_unheard.push(Notice {
            missed: !was_told,
            ..notice
        });
    }

    /// Gives what ended in a silence that is over. What has begun again since is told as that.
    pub(in crate::monitor) fn tell_unheard(&mut self, state: &mut State) {
        for notice in std::mem::take(&mut self.ended_unheard) {
            let again = self.notices.iter().any(|n| n.episode == notice.episode);
            if notice.missed && again {
                continue;
            }
            if notice.missed {
                state.totals.count_alert(&notice.rule.name);
            }
            self.notices.push(notice);
        }
    }

    /// Another run has told this episode, which is on.
    pub(in crate::monitor) fn note_told(
        &mut self,
        now: Time,
        place: Place,
        rule: &Rule,
        episode: &Episode,
    ) {
        let told = self.told_mut(place, episode.id, rule);
        told.note(Reason::StillFiring, now, episode.exposed);
        let exposed = episode.exposed;
        self.voices
            .note(rule, episode.id, Reason::StillFiring, now, exposed);
        self.hush.follow(&self.voices);
    }

    /// These notices reached nobody.
    pub(in crate::monitor) fn note_not_told(&mut self, notices: &[(u64, Reason)]) {
        for told in self.told.values_mut() {
            // The last of them first, so that what is left is as it was before the first.
            let episode = told.episode;
            for (_, reason) in notices.iter().rev().filter(|(other, _)| *other == episode) {
                told.take_back(*reason);
            }
        }
        for (episode, _) in notices {
            self.habits.unhear(*episode);
        }
        if !notices.is_empty() {
            // What is told next finds out anew who speaks.
            self.voices.clear();
            self.hush.follow(&self.voices);
        }
    }

    /// What was worked out ahead no longer holds.
    pub(in crate::monitor) fn forget_next(&mut self) {
        if let Some(own) = &mut self.own {
            own.forget_next();
        }
        if let Some(own) = &mut self.by_key {
            own.forget_next();
        }
    }

    /// The same for some keys of scopes.
    pub(in crate::monitor) fn forget_next_of(
        &mut self,
        keys: impl IntoIterator<Item = (usize, u64)>,
    ) {
        if let Some(own) = &mut self.own {
            own.forget_next();
        }
        if let Some(own) = &mut self.by_key {
            for (index, id) in keys {
                if index == own.of.index {
                    own.forget_next_of(id);
                }
            }
        }
    }

    /// A minute of the whole stream in which nothing shared was on. False if its own rule was.
    pub(in crate::monitor) fn sample(&mut self, minute: i64, cost: i128, flow: &Flow) -> bool {
        self.settle(flow);
        let is_ordinary = minute > self.disturbed();
        if is_ordinary {
            self.ordinary.add(minute, cost);
        }
        is_ordinary
    }

    /// Those with a notice that was withheld, to be looked at.
    pub(in crate::monitor) fn release(&mut self) -> BTreeSet<(usize, u64)> {
        self.voices.note_look();
        std::mem::take(&mut self.withheld)
    }

    /// The clock was wrong by so much.
    pub(in crate::monitor) fn shift(&mut self, ms: i64) {
        for told in self.told.values_mut() {
            told.shift(ms);
        }
        self.voices.shift(ms);
        self.habits.shift(ms);
    }

    /// What it has said, and spoken for, belongs to no event that is still to come, by whoever counts these.
    pub(in crate::monitor) fn end_event(&mut self) {
        self.last.0 = 0;
        self.spoken.end_event();
    }

    /// Gives a notice.
    fn say(&mut self, notice: Notice, event: u64) {
        if self.last.0 != event {
            self.last = (event, self.notices.len());
        }
        self.notices.push(notice);
    }

    /// Lists a rule that has begun to keep quiet in the notices of this event that speak for it; those to come are made with it.
    fn list(&mut self, rule: &Arc<str>, by: Withheld, is_new: bool, event: u64) {
        let speaks = match by {
            Withheld::ByCache => is_explaining,
            Withheld::BySpending => is_about_spending,
            Withheld::ByItsLike => return,
        };
        let (of, from) = self.last;
        let of_event = self
            .notices
            .get_mut(from..)
            .filter(|_| is_new && of == event);
        let others = of_event.into_iter().flatten();
        let speaking = others.filter(|n| n.rule.name != *rule && speaks(&n.rule));
        for notice in speaking.filter(|n| !n.explains.contains(rule)) {
            notice.explains.push(Arc::clone(rule));
        }
    }

    /// What an episode has cost beyond what is usual, and whether nothing usual is known to take off.
    pub(super) fn exposed(&self, rule: &Rule, episode: &Episode) -> (PicoUsd, bool) {
        if rule.metric.is_about_cache() {
            return (episode.exposed, false);
        }
        if !rule.metric.has_dollars() {
            return (PicoUsd::ZERO, false);
        }
        if let Some(usual) = usual_cost(rule, episode) {
            return ((episode.exposed - usual).max(PicoUsd::ZERO), false);
        }
        let usual = self.ordinary.usual();
        if !usual.is_learned() || !is_beyond_usual(rule) {
            return (episode.exposed, true);
        }
        let ordinary = PicoUsd(usual.usual * i128::from(episode.minutes));
        ((episode.exposed - ordinary).max(PicoUsd::ZERO), false)
    }
}

/// What would have been spent in an episode of a rule that knows what a response usually costs, or a window of some minutes: a window
/// of that at least. Minutes with traffic, and nothing between them, would each be as dear as those of a burst.
fn usual_cost(rule: &Rule, episode: &Episode) -> Option<PicoUsd> {
    let usual = episode.usual.filter(|_| is_beyond_usual(rule))?.usual;
    let secs = rule.windows.get(episode.step).copied()?;
    match rule.metric {
        Metric::CostPerRequest => Some(PicoUsd(usual * i128::from(episode.requests))),
        Metric::Cost if secs > 60 => {
            let window = usual * i128::from(secs) / i128::from(rule.per_secs.unwrap_or(secs));
            let last = Time::from_secs(episode.last_minute * 60);
            let lasted = last.millis_since(episode.since) / 1000;
            let cost = window * i128::from(lasted.max(secs)) / i128::from(secs);
            Some(PicoUsd(cost))
        }
        _ => None,
    }
}

/// What is critical and several times over its limit waits for nothing.
fn is_grave(variants: Option<&Variants>, key: &Key, rule: &Rule, episode: &Episode) -> bool {
    const TIMES: i128 = 3;
    let is_above = |value: Value, limit| value.is_above(TIMES * limit);
    rule.severity == Severity::Critical && is_so(variants, key, rule, episode, is_above)
}

/// Without so much of what its window holds it would be above its limit too.
fn is_more(
    variants: Option<&Variants>,
    key: &Key,
    rule: &Rule,
    episode: &Episode,
    without: PicoUsd,
) -> bool {
    let window_secs = rule.windows.get(episode.step).copied().unwrap_or(1);
    let without = Value::of_sum(without.0, window_secs, rule.per_secs).amount();
    let is_above = |value: Value, limit| value.is_above(limit + without);
    is_so(variants, key, rule, episode, is_above)
}

/// Whether it is so of the value of an episode, and the limit that it is held against.
fn is_so(
    variants: Option<&Variants>,
    key: &Key,
    rule: &Rule,
    episode: &Episode,
    ask: impl Fn(Value, Amount) -> bool,
) -> bool {
    let (_, value) = key.value(rule, Some(episode.step));
    let limit_of = |rule: &Rule| match variants {
        Some(_) => rule.limit_on(episode.basis).unwrap_or(episode.limit),
        None => episode.limit,
    };
    value.is_some_and(|value| decide(variants, rule, |rule| ask(value, limit_of(rule))))
}
