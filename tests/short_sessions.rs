//! Sessions of a request or two that begin with the same prompt: what breaks it breaks all of them, and is one incident.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use claude_tokmon::monitor::{Label, Notice, Reason};
use claude_tokmon::price::PicoUsd;
use common::{Call, Random, TWO_O_CLOCK, is_cache_alert, pipeline, story, told};

const HOUR: i64 = 3_600_000;

/// What all sessions begin with.
const SHARED: u64 = 50_000;

/// A hundred requests an hour, so many in a session, with the cache up to `broken_at`; after it each writes what it should read, or
/// if it `drops` the cache sends it as if there were none.
fn requests(per_session: i64, hours: i64, broken_at: i64, drops: bool) -> Vec<String> {
    let mut random = Random(u64::try_from(per_session).unwrap());
    let mut at = TWO_O_CLOCK - 24 * HOUR;
    let end = at + hours * HOUR;
    let mut lines = Vec::new();
    let mut n = 0;
    while at < end {
        at += random.pause_ms(100.0).clamp(1, 250_000);
        let (read, write_5m, sent) = if at < broken_at {
            (SHARED, 0, 0)
        } else if drops {
            (0, 0, SHARED)
        } else {
            (0, SHARED, 0)
        };
        let session = format!("s-{}", n / per_session);
        let call = Call {
            at,
            id: format!("msg_{n}"),
            session: Some(&session),
            input: sent + 200 + random.below(700),
            output: 100 + random.below(500),
            read,
            write_5m,
            ..Call::default()
        };
        lines.push(call.line());
        n += 1;
    }
    lines
}

fn of_cache(notices: &[Notice]) -> Vec<&Notice> {
    notices.iter().filter(|n| is_cache_alert(n)).collect()
}

#[test]
fn a_shared_prompt_that_breaks_is_told_at_once_with_all_its_dollars() {
    let broken_at = TWO_O_CLOCK;
    let ways = [1, 2, 3, 6].map(|n| [(n, false), (n, true)]);
    for (per_session, drops) in ways.into_iter().flatten() {
        let lines = requests(per_session, 33, broken_at, drops);
        let mut pipeline = pipeline(&[]);
        let mut notices = told(&mut pipeline, &lines);
        pipeline.evaluator.stop();
        notices.extend(pipeline.take_notices());
        let cache = of_cache(&notices);
        let affected = lines
            .iter()
            .filter(|line| line.contains("\"cache_read_input_tokens\":0"));
        let affected = i128::try_from(affected.count()).unwrap();
        // 50,000 tokens for $6.25 a million instead of $0.50, or for $5.
        let each = if drops {
            225_000_000_000
        } else {
            287_500_000_000
        };
        let totals = pipeline.evaluator.totals();
        let unclaimed = affected - totals.waste().0 / each;
        assert_eq!(totals.waste().0 % each, 0);
        // If they drop the cache, sessions that began before this was known, and went on.
        let most = if drops { 5 } else { 1 };
        assert!(
            (0..=most).contains(&unclaimed),
            "{per_session}: {unclaimed}"
        );
        let first = cache.first().unwrap();
        // At the third session, with all that those before it sent without the cache; each of one that writes is judged by itself.
        let sent = if drops { 2 * per_session + 2 } else { 4 };
        let by = PicoUsd(i128::from(sent) * each);
        assert!(first.exposed.unwrap() <= by, "{per_session}: {first:?}");
        assert!(
            first.at.0 - broken_at < (4 + per_session) * 60_000,
            "{per_session}"
        );
        // What broke for all of them is told as that.
        let all = cache.last().unwrap();
        assert!(
            all.key.contains(&(Label::Session, "*".to_owned())),
            "{per_session}: {all:?}"
        );
        let firsts = cache.iter().filter(|n| n.reason == Reason::First);
        assert!(firsts.count() <= 2, "{per_session}: {:?}", story(&notices));
        // What ended and what is still on hold all of it, each dollar once.
        let last = |n: &&&Notice| matches!(n.reason, Reason::Resolved | Reason::Stopped);
        let told: i128 = cache
            .iter()
            .filter(last)
            .map(|n| n.exposed.unwrap().0)
            .sum();
        assert_eq!(
            told,
            totals.waste().0,
            "{per_session}: {:?}",
            story(&notices)
        );
    }
}

/// A cache entry: from when on it can be read, and until when.
#[derive(Default, Clone, Copy)]
struct Entry {
    from: i64,
    until: i64,
}

impl Entry {
    /// Whether a request reads it; it is written otherwise.
    fn read(&mut self, at: i64) -> bool {
        let reads = self.from <= at && at < self.until;
        if !reads && at >= self.until {
            // Others can read it once the answer begins.
            self.from = at + 2_000;
        }
        self.until = at + 300_000;
        reads
    }
}

/// Two kinds of requests with a prompt each, some with none, few at night, at times many at once; and each day another version of the
/// prompts.
#[test]
fn pauses_new_versions_and_many_at_once_are_no_broken_prompt() {
    for seed in 0..6 {
        let mut random = Random(seed);
        let (mut at, mut day) = (TWO_O_CLOCK - 6 * 24 * HOUR, 0);
        let mut entries = [Entry::default(); 2];
        let mut lines = Vec::new();
        while at < TWO_O_CLOCK {
            let is_night = (at / HOUR) % 24 < 8;
            at += random.pause_ms(if is_night { 8.0 } else { 180.0 }).max(1);
            if at / (24 * HOUR) != day {
                day = at / (24 * HOUR);
                entries = [Entry::default(); 2];
            }
            let at_once = if random.chance(0.002) { 20 } else { 1 };
            for n in 0..at_once {
                let at = at + n * 50;
                let kind = usize::try_from(random.below(21)).unwrap();
                let (shared, reads) = match entries.get_mut(kind / 10) {
                    Some(entry) => ([20_000, 12_000][kind / 10], entry.read(at)),
                    None => (0, false),
                };
                let own = 500 + random.below(8_000);
                let session = format!("s-{}", lines.len());
                let call = Call {
                    at,
                    id: format!("msg_{}", lines.len()),
                    session: Some(&session),
                    input: 9,
                    output: 300,
                    read: if reads { shared } else { 0 },
                    write_5m: if reads { own } else { shared + own },
                    ..Call::default()
                };
                lines.push((at, call.line()));
            }
        }
        lines.sort();
        let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
        let notices = told(&mut pipeline(&[]), &lines);
        let cache = of_cache(&notices);
        assert!(cache.is_empty(), "seed {seed}: {:?}", story(&notices));
    }
}

/// Many users without a session, whose prompts grow behind the one that they share. What is claimed is what they share, no more.
#[test]
fn what_many_users_share_is_judged_though_nobody_can_tell_them_apart() {
    for seed in 0..4 {
        let mut random = Random(seed);
        let mut at = TWO_O_CLOCK - 24 * HOUR;
        let (mut lines, mut affected) = (Vec::new(), 0);
        while at < TWO_O_CLOCK + HOUR {
            at += random.pause_ms(200.0).clamp(1, 250_000);
            let (own_read, own_write) = (random.below(30) * 1_000, 500 + random.below(5_000));
            let is_broken = at >= TWO_O_CLOCK;
            affected += i128::from(is_broken);
            let call = Call {
                at,
                id: format!("msg_{}", lines.len()),
                input: 9,
                output: 300,
                read: if is_broken { 0 } else { SHARED + own_read },
                write_5m: if is_broken {
                    SHARED + own_read + own_write
                } else {
                    own_write
                },
                ..Call::default()
            };
            lines.push(call.line());
        }
        let mut pipeline = pipeline(&[]);
        let notices = told(&mut pipeline, &lines);
        let cache = of_cache(&notices);
        let first = cache.first().unwrap();
        assert_eq!(first.rule.name.as_ref(), "cache-break", "seed {seed}");
        assert!(
            first.at.0 - TWO_O_CLOCK < 10 * 60_000,
            "seed {seed}: {first:?}"
        );
        let firsts = cache.iter().filter(|n| n.reason == Reason::First);
        assert_eq!(firsts.count(), 1, "seed {seed}: {:?}", story(&notices));
        // What the last sixteen requests all read is a little more than what is shared, as a rule.
        let (each, most) = (287_500_000_000, 287_500_000_000 * 54 / 50);
        let waste = pipeline.evaluator.totals().waste().0;
        let range = affected * each..=affected * most;
        assert!(
            range.contains(&waste),
            "seed {seed}: {waste} not in {range:?}"
        );
    }
}
