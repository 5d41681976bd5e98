//! What conversations begin and go on with: the prompt that they share, and whether it broke or is not used any more.
//!
//! Judges first requests by those before them. Knows nothing of conversations, nor of what follows from a break.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::chance::History;
use super::miss::{Cause, Miss, api_cause, miss};
use crate::monitor::record::{Time, UsageRecord};

/// Conversations begin with a prompt that they share, as far as the last so many show.
const FIRSTS: usize = 16;

/// Those that begin within so much time after the cache was cold, or the prompt another one, may all be writing what none of them
/// could read yet.
const WARM_UP_MS: i64 = 20_000;

/// So many that miss in a row show that something broke: at one in a hundred that miss anyway, and a thousand an hour, chance shows
/// three once in six weeks; where more miss it takes one more.
const FIRSTS_IN_A_ROW: usize = 3;

/// So many do, however far apart they come.
const MANY_IN_A_ROW: usize = 8;

/// No more of them are kept.
const MAX_SUSPECTS: usize = 10_000;

/// A request that missed, though that may be chance.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Suspect {
    miss: Miss,
    /// It began a conversation. One that goes on with such a conversation shows nothing more.
    is_first: bool,
}

/// What the first requests of the conversations of a stream found in the cache: the prompt that they share, put there by others.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Firsts {
    /// What the last of them read, as far as they read anything.
    reads: VecDeque<u64>,
    /// What the last requests that went on with a conversation read of the prompt before them, which was so long.
    follows: VecDeque<(u64, u64)>,
    /// The most that any of many more of them read.
    most: Most,
    history: History,
    /// When one of them found nothing because of a pause.
    cold_at: Option<Time>,
    /// Those of the last ones that missed in a row, until there are enough to say so.
    suspects: VecDeque<Suspect>,
    /// It was said of the last ones.
    is_broken: bool,
    /// Nobody uses the cache any more: requests that should neither read nor wrote it, and none has since, whatever pauses there were.
    is_lost: bool,
}

impl Firsts {
    /// A conversation that goes on without the cache shows that nobody uses it.
    pub(super) fn note_lost(&mut self) {
        self.is_lost = true;
    }

    /// One came that shares nothing.
    pub(super) fn note_other(&mut self) {
        self.history.push(false);
    }

    /// Somebody does.
    pub(super) fn note_use(&mut self) {
        self.is_lost = false;
    }

    /// The last ones missed, if they are of conversations with a name. Each of them would have kept alive, or put back, what they
    /// share. Without a name they may be one conversation that never used the cache, until there are more than one has.
    pub(super) fn would_keep(&self, is_named: bool) -> bool {
        self.is_lost || is_named && !self.suspects.is_empty()
    }

    /// So much of a prompt they share, if anything.
    fn shared(&self) -> Option<u64> {
        self.reads.iter().min().copied()
    }

    fn note_read(&mut self, tokens: u64) {
        if tokens == 0 {
            return;
        }
        if self.reads.len() == FIRSTS {
            self.reads.pop_front();
        }
        self.reads.push_back(tokens);
    }

    /// A request that went on with a conversation, whose prompt was so long, was served with so much.
    pub(super) fn note_follow(&mut self, read: u64, last_prompt: u64) {
        if self.follows.len() == FIRSTS {
            self.follows.pop_front();
        }
        self.follows.push_back((read.min(last_prompt), last_prompt));
        self.most.note(read);
    }

    /// What one reads at least that goes on with a prompt of that length, as far as others have shown: all but so many tokens, and but
    /// for such a part; no more than any of them read.
    pub(super) fn follow(&self, last_prompt: u64) -> u64 {
        if self.follows.len() < FIRSTS {
            return 0;
        }
        let of = |(read, prompt): &(u64, u64)| {
            let share = u128::from(last_prompt) * u128::from(*read) / u128::from((*prompt).max(1));
            let all_but = last_prompt.saturating_sub(prompt - read);
            u64::try_from(share).unwrap_or(all_but).min(all_but)
        };
        let least = self.follows.iter().map(of).min();
        least.unwrap_or(0).min(self.most.get())
    }

    /// One of them, which is judged otherwise, read so much, and all that it could.
    pub(super) fn note_served(&mut self, tokens: u64) {
        self.note_read(tokens);
        self.note_hit();
    }

    fn note_hit(&mut self) {
        for suspect in std::mem::take(&mut self.suspects) {
            self.give_up(&suspect);
        }
        self.clear();
        self.history.push(true);
    }

    /// Judges the first request of a conversation by what others of its kind began with.
    pub(super) fn judge(&mut self, record: &UsageRecord, at: Time, given: &Given) -> First {
        let Given {
            gap_ms,
            ttl_secs,
            min_prompt,
            others_miss,
            begins,
            follows,
        } = *given;
        let tokens = &record.tokens;
        let shared = self.shared().unwrap_or(0);
        if begins {
            self.note_read(tokens.cache_read);
        }
        let expected = if shared < min_prompt { 0 } else { shared };
        let expected = expected.max(follows).min(tokens.prompt());
        if expected < min_prompt {
            return First::Unknown;
        }
        if gap_ms > ttl_secs * 1000 {
            self.cold_at = Some(at);
            self.clear();
            return First::Unknown;
        }
        let missed = expected.saturating_sub(tokens.cache_read);
        if missed * 20 <= expected {
            self.note_hit();
            return First::Served;
        }
        // What is shorter than what they share, of which a little more is known than they do share, begins with something else. If it
        // uses the cache, so may others.
        if begins && tokens.prompt() * 10 < shared * 9 {
            if tokens.cache_write() > 0 {
                self.history.push(false);
            }
            return First::Unknown;
        }
        let is_warming_up = |cold: Time| at.millis_since(cold) <= WARM_UP_MS;
        if self.cold_at.is_some_and(is_warming_up) && begins {
            return First::Unknown;
        }
        // One that goes on without the cache is not judged by what others began with.
        if begins && !self.history.is_one_conversation() {
            self.history.push(false);
            return First::Unknown;
        }
        let cause = match api_cause(record) {
            Some((cause, _)) => cause,
            None if tokens.cache_read > 0 => Cause::Partial,
            None if tokens.cache_write() > 0 => Cause::Rewritten,
            None => Cause::Dropped,
        };
        if !cause.is_waste() {
            return First::Unknown;
        }
        let miss = miss(record, at, cause, missed, gap_ms.max(0), ttl_secs);
        let is_dropped = miss.cause == Cause::Dropped;
        let is_named = record.names_conversation();
        if self.is_broken || self.is_lost && !begins {
            self.is_lost |= is_dropped && is_named;
            return First::Missed(miss, Vec::new());
        }
        let suspect = Suspect {
            miss,
            is_first: begins,
        };
        let suspects = self.suspect(suspect, is_named);
        let all = |suspects: VecDeque<Suspect>| suspects.into_iter().map(|s| s.miss).collect();
        let others_too = || others_miss.then(|| std::mem::take(&mut self.suspects));
        let sure: Option<Vec<Miss>> = suspects.or_else(others_too).map(all);
        let Some(mut before) = sure else {
            return First::Unknown;
        };
        self.is_broken = true;
        self.is_lost |= is_dropped && is_named;
        match before.pop() {
            Some(miss) => First::Missed(miss, before),
            None => First::Unknown,
        }
    }

    /// One more has missed. Gives all that have in a row, once that cannot be by chance, nor because a prompt is new. A few that begin
    /// conversations have to come within the time that an entry lives: where they are further apart, each may have found another one
    /// expired. Not so many, with none between them that was served, if they have a name: without one they may all be of one.
    fn suspect(&mut self, suspect: Suspect, is_named: bool) -> Option<VecDeque<Suspect>> {
        let at = suspect.miss.at;
        let is_gone = |known: &Suspect| at.millis_since(known.miss.at) > known.miss.ttl_secs * 1000;
        let may_count = |known: &Suspect| is_named || !is_gone(known);
        while let Some(oldest) = self.suspects.front()
            && (self.suspects.len() >= MAX_SUSPECTS || !may_count(oldest))
            && let Some(oldest) = self.suspects.pop_front()
        {
            self.give_up(&oldest);
        }
        self.suspects.push_back(suspect);
        let needed = FIRSTS_IN_A_ROW + usize::from(self.history.misses_often());
        let firsts = || self.suspects.iter().filter(|suspect| suspect.is_first);
        let is_long_ago = |known: &Suspect| at.millis_since(known.miss.at) > WARM_UP_MS;
        let alive = || firsts().skip_while(|known| is_gone(known));
        let few = alive().nth(needed - 1).is_some() && alive().next().is_some_and(is_long_ago);
        let many =
            firsts().nth(MANY_IN_A_ROW - 1).is_some() && firsts().next().is_some_and(is_long_ago);
        (few || is_named && many).then(|| std::mem::take(&mut self.suspects))
    }

    /// It missed, and that may have been chance.
    fn give_up(&mut self, suspect: &Suspect) {
        if suspect.is_first {
            self.history.push(false);
        }
    }

    /// The clock was wrong by so much.
    pub(super) fn shift(&mut self, ms: i64) {
        let suspects = self.suspects.iter_mut().map(|s| &mut s.miss.at);
        for time in suspects.chain(&mut self.cold_at) {
            time.shift(ms);
        }
    }

    /// What they share is there, or was not to be expected.
    fn clear(&mut self) {
        self.suspects.clear();
        self.is_broken = false;
    }
}

/// The largest of the last numbers: of a thousand at least, and two thousand at most.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Most {
    now: u64,
    before: u64,
    n: u32,
}

impl Most {
    fn note(&mut self, number: u64) {
        self.now = self.now.max(number);
        self.n += 1;
        if self.n == 1000 {
            *self = Self {
                before: self.now,
                ..Self::default()
            };
        }
    }

    fn get(&self) -> u64 {
        self.now.max(self.before)
    }
}

/// What is known of such a request besides.
pub(super) struct Given {
    /// The cache was used last so many milliseconds before.
    pub(super) gap_ms: i64,
    /// Its entries live for so many seconds.
    pub(super) ttl_secs: i64,
    /// What is shared says nothing where it is smaller.
    pub(super) min_prompt: u64,
    /// Several conversations miss already: that one more begins without the cache is no chance.
    pub(super) others_miss: bool,
    /// It is the first of its conversation, as far as anybody can tell.
    pub(super) begins: bool,
    /// If it is not, its conversation has had nothing in the cache so far; it would read so much of it.
    pub(super) follows: u64,
}

/// How the first request of a conversation fared.
pub(super) enum First {
    /// Nothing is known of what it could have read.
    Unknown,
    /// It read what others read.
    Served,
    /// It did not, and neither did these before it.
    Missed(Miss, Vec<Miss>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::record::Tokens;

    /// Conversations that begin every half minute, with so much that is not cached, read and written, and how each fared.
    fn judged(begin: impl Iterator<Item = [u64; 3]>) -> Vec<First> {
        let mut firsts = Firsts::default();
        let given = Given {
            gap_ms: 30_000,
            ttl_secs: 300,
            min_prompt: 5_000,
            others_miss: false,
            begins: true,
            follows: 0,
        };
        let judge = |(n, [input, cache_read, cache_write_5m]): (i64, [u64; 3])| {
            let record = UsageRecord {
                tokens: Tokens {
                    input,
                    cache_write_5m,
                    cache_read,
                    ..Tokens::default()
                },
                ..UsageRecord::blank()
            };
            firsts.judge(&record, Time::from_secs(30 * n), &given)
        };
        (0..).zip(begin).map(judge).collect()
    }

    fn misses(judged: &[First]) -> usize {
        let is_miss = |first: &&First| matches!(first, First::Missed(..));
        judged.iter().filter(is_miss).count()
    }

    const WARM: [u64; 3] = [10, 20_000, 500];
    const LOST: [u64; 3] = [10, 0, 20_500];

    #[test]
    fn a_few_that_miss_what_all_share_show_that_it_is_lost() {
        let begin = std::iter::repeat_n(WARM, 120).chain([LOST; 5]);
        assert_eq!(misses(&judged(begin)), 3);
    }

    /// Another prompt, which is written now and then, is no loss of the one that is shared; but then others may be too.
    #[test]
    fn a_shorter_prompt_that_is_written_shows_that_others_may_be() {
        let shorter = [10, 0, 12_000];
        let some = (0..240).map(|n| if n % 10 == 0 { shorter } else { WARM });
        assert_eq!(misses(&judged(some.clone())), 0);
        assert_eq!(misses(&judged(some.chain([LOST; 5]))), 0);
        // One that neither reads nor writes is of another program, and says nothing of these.
        let some = (0..240).map(|n| if n % 10 == 0 { [12_000, 0, 0] } else { WARM });
        assert_eq!(misses(&judged(some.chain([LOST; 5]))), 3);
    }
}
