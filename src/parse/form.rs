//! Lines that are written alike: what was found out about one of them tells what the next one says.
//!
//! A program writes most of its lines with the same keys in the same order. A form is learned from a line that was read in full:
//! which of its values the reading looked at, and what each of these became. A line that fits, byte for byte but for values nobody
//! looked at and values of a plain kind, says the same with other numbers and names. Whatever does not fit is read in full.

use std::ops::Range;

use super::item::{Item, Usage};
use super::json::Raw;
use super::notes::{Notes, Role};
use super::places::{Context, REFUSAL, SYNTHETIC, find};
use super::scan::{Scanner, only_object};
use super::time::Clock;
use super::usage::Named;
use super::{Found, ParseOptions};
use crate::monitor::Stamp;

/// So many forms are remembered.
const MAX_FORMS: usize = 8;

/// After so many responses in a row that fit none, learning pauses …
const TRIES: u32 = 32;

/// … but for one in so many.
const PAUSE: u32 = 256;

/// A response takes no more than so many texts from a line: each role but those of counts is there once.
const MAX_TEXTS: usize = 8;

/// So many bytes may be looked at in vain before lines are left to be read in full for a while: as long as it takes that all that was
/// in vain is no more than one byte in so many.
const MAX_VAIN: usize = 1 << 16;
const VAIN: usize = 16;

/// A value that may be another one in each line, and what stands before it in all of them.
#[derive(Debug)]
struct Piece {
    before: Box<[u8]>,
    /// None for a value that nobody has looked at. Of steps it is one of their numbers.
    role: Option<Role>,
}

/// How some lines are written.
#[derive(Debug)]
struct Form {
    pieces: Vec<Piece>,
    end: Box<[u8]>,
    /// The response of the line that was read last: what is the same in all of them, and the rest, which is written over.
    item: Item,
}

/// The forms of the last lines.
#[derive(Debug, Default)]
pub(super) struct Forms {
    /// What fits often moves to the front.
    known: Vec<Form>,
    misfits: u32,
    /// Bytes that were looked at in vain, less those that were not.
    vain: usize,
}

impl Forms {
    /// The response in a line, if it is written like one that was read in full. Gives the same as reading it in full would.
    pub(super) fn read(
        &mut self,
        text: &[u8],
        options: &ParseOptions,
        clock: Clock<'_>,
    ) -> Option<&Item> {
        if self.known.is_empty() || !looks_everywhere(options) {
            return None;
        }
        if self.vain > MAX_VAIN {
            self.vain = self.vain.saturating_sub(text.len() / VAIN);
            return None;
        }
        let mut fits = None;
        for (at, form) in self.known.iter_mut().enumerate() {
            let mut scanner = Scanner::new(text);
            if form.read(&mut scanner, clock).is_some() {
                fits = Some(at);
                break;
            }
            self.vain += scanner.position();
        }
        let at = fits?;
        self.misfits = 0;
        self.vain = self.vain.saturating_sub(text.len());
        let front = at.saturating_sub(1);
        self.known.swap(at, front);
        Some(&self.known.get(front)?.item)
    }

    /// Learns from a line with a response that fits none of them, unless none has fitted for long.
    pub(super) fn learn(&mut self, text: &str, context: &Context<'_>) {
        self.misfits = self.misfits.saturating_add(1);
        let is_worth_it = self.misfits <= TRIES || self.misfits.is_multiple_of(PAUSE);
        if is_worth_it
            && looks_everywhere(context.options)
            && let Some(form) = Form::of(text, context)
        {
            self.known.truncate(MAX_FORMS - 1);
            self.known.push(form);
        }
    }
}

/// The user names no places where things stand.
fn looks_everywhere(options: &ParseOptions) -> bool {
    let named = [
        &options.usage_field,
        &options.model_field,
        &options.time_field,
        &options.id_field,
        &options.session_field,
    ];
    named.iter().all(|pointer| pointer.is_none()) && options.label_fields.is_empty()
}

impl Form {
    fn of(text: &str, context: &Context<'_>) -> Option<Self> {
        let object = only_object(text)?;
        // What docker has split is told by the lines before.
        if object.get("log").is_some() {
            return None;
        }
        let notes = Notes::default();
        let context = Context {
            notes: Some(&notes),
            ..*context
        };
        let Found::Item(Item::Usage(usage)) = find(&object, &context) else {
            return None;
        };
        // What the start of a request and the content of a refusal say is not in the roles.
        if usage.started.is_some() || usage.not_billed {
            return None;
        }
        let mut roles = notes.taken()?;
        let mut pieces = Vec::new();
        let mut begin = 0;
        for (value, is_fixed) in object.leaves()? {
            let at = value.bytes().as_ptr().addr();
            let role = roles
                .iter()
                .position(|(taken, _)| *taken == at)
                .map(|n| roles.swap_remove(n).1);
            if is_fixed && role.is_none() {
                continue;
            }
            let from = at.checked_sub(text.as_ptr().addr())?;
            let whole = 0..value.bytes().len();
            let parts = match role {
                Some(Role::Steps) => numbers_in(value.bytes()),
                _ => std::iter::once(whole).collect(),
            };
            for part in parts {
                pieces.push(Piece {
                    before: text.get(begin..from + part.start)?.as_bytes().into(),
                    role,
                });
                begin = from + part.end;
            }
        }
        // What stands in a string of the line will not be the same again as a whole.
        if !roles.is_empty() {
            return None;
        }
        let form = Self {
            pieces,
            end: text.get(begin..)?.as_bytes().into(),
            item: Item::Usage(usage),
        };
        Some(form)
    }

    /// Reads a line, if it fits.
    fn read(&mut self, scanner: &mut Scanner<'_>, clock: Clock<'_>) -> Option<()> {
        let mut named = Named::default();
        let mut texts = [None; MAX_TEXTS];
        let mut n = 0;
        for piece in &self.pieces {
            scanner.literal(&piece.before)?;
            let Some(role) = piece.role else {
                scanner.value()?;
                continue;
            };
            match role {
                Role::Count(count) => *named.get_mut(count) = Some(scanner.digits_only()?),
                Role::Steps => drop(scanner.digits_only()?),
                _ => {
                    *texts.get_mut(n)? = Some((role, scanner.plain_text_or_number()?));
                    n += 1;
                }
            }
        }
        scanner.literal(&self.end)?;
        if !scanner.is_at_end() {
            return None;
        }
        let Item::Usage(usage) = &mut self.item else {
            return None;
        };
        for (role, value) in texts.into_iter().flatten() {
            if role == Role::Time {
                match clock.read(Raw::of(value, None))? {
                    stamp @ Stamp::At(_) => usage.stamp = stamp,
                    Stamp::Undated | Stamp::Impossible(_) => return None,
                }
                continue;
            }
            let text = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
            // What is empty is not taken, and some names change what the rest means.
            if text.is_empty() || is_odd(role, text) {
                return None;
            }
            if let Some(name) = name_in(usage, role) {
                let name = name.get_or_insert_default();
                // Most are the same in line after line.
                if name.as_bytes() != text {
                    name.clear();
                    name.push_str(std::str::from_utf8(text).ok()?);
                }
            }
        }
        let web_search = usage.tokens.web_search;
        (usage.tokens, usage.assumed_5m) = named.tokens();
        usage.tokens.web_search = web_search;
        Some(())
    }
}

/// Where digits stand in a text.
fn numbers_in(text: &[u8]) -> Vec<Range<usize>> {
    let runs = text.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
    let mut end = 0;
    let runs = runs.map(|run| {
        end += run.len();
        (run[0].is_ascii_digit(), end - run.len()..end)
    });
    runs.filter(|(is_number, _)| *is_number)
        .map(|(_, run)| run)
        .collect()
}

/// A name that changes what the rest of a line means.
fn is_odd(role: Role, text: &[u8]) -> bool {
    match role {
        Role::Model => text == SYNTHETIC.as_bytes(),
        Role::StopReason => text == REFUSAL.as_bytes(),
        _ => false,
    }
}

/// Where a response keeps what a value is taken for, if it is a name.
fn name_in(usage: &mut Usage, role: Role) -> Option<&mut Option<String>> {
    match role {
        Role::Id => Some(&mut usage.id),
        Role::Request => Some(&mut usage.request_id),
        Role::Session => Some(&mut usage.names.session),
        Role::Agent => Some(&mut usage.names.agent),
        Role::Project => Some(&mut usage.names.project),
        Role::Model => Some(&mut usage.model),
        Role::Time | Role::StopReason | Role::Steps | Role::Count(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Clock, Item, ParseOptions, Reader, Spare, Verdict, parse_alone};
    use super::MAX_VAIN;
    use crate::monitor::Time;
    use proptest::prelude::*;

    const NOW: Time = Time(1_795_428_000_000); // 2026-11-23T10:00:00Z

    /// A line as it is read without those before it, or in order where that leaves it open: a form may tell of a line with an odd
    /// key nobody looks at what else only reading in order tells.
    fn read(line: &str, spare: &mut Spare) -> (Verdict, Vec<Item>) {
        read_bytes(line.as_bytes(), spare)
    }

    fn read_bytes(line: &[u8], spare: &mut Spare) -> (Verdict, Vec<Item>) {
        let mut items = Vec::new();
        let options = ParseOptions::default();
        let mut emit = |item: &Item| items.push(item.clone());
        let alone = parse_alone(line, &options, NOW, spare, &mut emit);
        if let Some(verdict) = alone {
            return (verdict, items);
        }
        let clock = Clock {
            now: NOW,
            previous: None,
            ambiguous: None,
            zone: options.zone,
        };
        let mut emit = |item: &Item| items.push(item.clone());
        let verdict = Reader::default().line(line, &options, clock, spare, &mut emit);
        (verdict, items)
    }

    /// How lines are written; each `$` is a value.
    const LAYOUTS: [&str; 17] = [
        r#"{"ts":$,"id":$,"model":$,"usage":{"input_tokens":$,"output_tokens":$,"cache_read_input_tokens":$,"cache_creation_input_tokens":$}}"#,
        r#"{"timestamp":$,"level":$,"trace":$,"session_id":$,"message":{"id":$,"type":"message","role":$,"model":$,"content":$,"stop_reason":$,"usage":{"input_tokens":$,"cache_creation":{"ephemeral_5m_input_tokens":$,"ephemeral_1h_input_tokens":$},"output_tokens":$,"service_tier":$}},"duration_ms":$}"#,
        r#"{"ts":$,"model":$,"usage":{"input_tokens":$,"output_tokens":$,"iterations":$}}"#,
        r#"{"type":$,"requestId":$,"cwd":$,"agentId":$,"isSidechain":$,"message":{"model":$,"id":$,"usage":{"input_tokens":$,"output_tokens":$,"server_tool_use":{"web_search_requests":$}}},"uuid":$,"timestamp":$}"#,
        r#"{"startTime":$,"model":$,"message":$,"usage":{"input_tokens":$}}"#,
        r#"{ "time": $, "usageDetails": {"input_tokens": $, "output_tokens": $, "cost": $}, "model": $, "response_cost": $ }"#,
        r#"{"ts":$,"usage":{"input_tokens":$,"prompt_tokens":$,"cache_read_input_tokens":$},"model":$,"id":$,"id":$}"#,
        r#"{"ts":$,"usage":{"output_tokens":$,"input_tokens":$,"input_tokens_details":{"cached_tokens":$}},"model":$}"#,
        r#"{"ts":$,"modelId":$,"gen_ai.request.model":$,"event.name":$,"status":$,"call_type":$,"usage":{"output_tokens":$}}"#,
        r#"{"ts":$,"model":$,"usage":{"input_tokens":$,"output_tokens":$,"iterations":[{"input_tokens":$,"cache_creation":{"ephemeral_5m_input_tokens":$},"type":"message","output_tokens":$}],"speed":$}}"#,
        r#"{"ts":$,"model":$,"usage":{"input_tokens":$,"output_tokens":$,"iterations":[{"type":"message","input_tokens":$,"model":$}]},"id":$}"#,
        r#"{"ts":$,"id":$,"usage":{"output_tokens":$,"server_tool_use":{"web_search_requests":$},"iterations":$}}"#,
        r#"{"ts":$,"id":$,"response_metadata":{"id":$,"model":$,"usage":{"input_tokens":$,"output_tokens":$}},"usage_metadata":{"input_tokens":$,"output_tokens":$,"input_token_details":{"cache_read":$}}}"#,
        r#"{"ts":$,"model_name":$,"usage":{"input_tokens":$,"output_tokens":$,"cache_read_tokens":$,"details":$,"requests":$}}"#,
        r#"{"usage":{"inputTokens":$,"outputTokens":$,"raw":{"input_tokens":$,"output_tokens":$}},"providerMetadata":$,"response":{"id":$,"timestamp":$,"modelId":$}}"#,
        r#"{"record":{"extra":{"model":$,"usage":{"output_tokens":$,"server_tool_use":{"web_fetch_requests":$}}},"time":{"repr":$,"timestamp":$}}}"#,
        r#"{"log":$,"stream":$,"ts":$,"usage":{"output_tokens":$},"request":{"model":$},"diagnostics":{"cache_miss_reason":{"type":$}}}"#,
    ];

    const VALUES: [&str; 43] = [
        r#""2026-11-23T09:00:00Z""#,
        r#""2026-11-23T09:00:01.5Z""#,
        r#""2026-11-23 09:00:00""#,
        r#""2031-01-01T00:00:00Z""#,
        "1795424400",
        "1795424400.25",
        "12",
        "0",
        "7",
        "3500",
        "-1",
        "1.5",
        "12.0",
        "007",
        r#""12""#,
        "9999999999999999",
        "null",
        "true",
        "false",
        r#""""#,
        r#""msg_1""#,
        r#""msg_2""#,
        r#""us\u0065r""#,
        r#""claude-opus-4-7""#,
        r#""claude-sonnet-4-5""#,
        r#""<synthetic>""#,
        r#""refusal""#,
        r#""end_turn""#,
        r#""tool_use""#,
        r#""assistant""#,
        r#""user""#,
        r#""failure""#,
        r#""success""#,
        r#""batch""#,
        "[]",
        r#"[{"type":"text","text":"\"usage\":{\"input_tokens\":9}"}]"#,
        "{}",
        r#"{"input_tokens":3,"total":"0.25","cached_tokens":1}"#,
        r#"[{"type":"message","model":"claude-opus-4-7"}]"#,
        r#"[{"type":"message","input_tokens":3}]"#,
        r#"[{"type":"message","input_tokens":3},{"type":"message","input_tokens":4}]"#,
        r#"[{"type":"compaction","input_tokens":7}]"#,
        "\"tab\there\"",
    ];

    /// Lines of one layout, as a program writes them. In some a few values are others, or something is broken.
    fn lines() -> impl Strategy<Value = Vec<String>> {
        let changes = prop::collection::vec((0_usize..16, 0..VALUES.len()), 0..3);
        let broken = prop::option::weighted(0.1, (any::<prop::sample::Index>(), 0_usize..8));
        let lines = prop::collection::vec((changes, broken), 2..24);
        (0..LAYOUTS.len(), lines).prop_map(|(layout, lines)| {
            let lines = lines.into_iter().map(|(changes, broken)| {
                let line = write(LAYOUTS[layout], &changes);
                match broken.filter(|_| line.is_ascii()) {
                    Some((at, with)) => {
                        let at = at.index(line.len());
                        let with = ["", "\\", "\"", "{", "}", ",", "5", " "][with];
                        [&line[..at], with, &line[at + 1..]].concat()
                    }
                    None => line,
                }
            });
            lines.collect()
        })
    }

    /// A line of a layout with some of its values changed.
    fn write(layout: &str, changes: &[(usize, usize)]) -> String {
        let parts: Vec<&str> = layout.split('$').collect();
        let value = |place: usize| {
            let change = changes.iter().find(|(changed, _)| *changed == place);
            change.map_or_else(|| ordinary(parts[place]), |(_, value)| VALUES[*value])
        };
        let values = (0..parts.len() - 1).map(value).chain([""]);
        parts
            .iter()
            .zip(values)
            .flat_map(|(part, value)| [*part, value])
            .collect()
    }

    /// What stands behind this in most lines.
    fn ordinary(before: &str) -> &'static str {
        match before.rsplit('"').nth(1).unwrap_or_default() {
            "ts" | "time" | "timestamp" | "startTime" => r#""2026-11-23T09:00:00Z""#,
            "id" | "requestId" => r#""msg_1""#,
            "model" | "modelId" => r#""claude-opus-4-7""#,
            "content" => "[]",
            "role" | "type" => r#""assistant""#,
            "stop_reason" => r#""end_turn""#,
            "iterations" if before.starts_with("},") => r#"[{"type":"message","input_tokens":3}]"#,
            "iterations" => r#"[{"type":"message","model":"claude-opus-4-7"}]"#,
            key if key.contains("tokens") => "12",
            _ => "null",
        }
    }

    #[test]
    fn a_key_that_is_odd_and_that_nobody_looks_at_changes_nothing() {
        let line = |other: &str| {
            write(
                r#"{"ts":$,"id":$,"model":$,"usage":{"output_tokens":$},"other":$}"#,
                &[],
            )
            .replace("null", other)
        };
        let mut spare = Spare::default();
        read(&line("null"), &mut spare);
        for other in [r#"{"t\tal":1}"#, r#"{"\u0074otal":1}"#, r#"{"total":1}"#] {
            let fresh = read(&line(other), &mut Spare::default());
            assert_eq!(fresh.1.len(), 1, "{other}");
            assert_eq!(read(&line(other), &mut spare), fresh, "{other}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        /// What was learned from other lines changes nothing.
        #[test]
        fn a_line_says_the_same_whatever_came_before(lines in lines()) {
            let mut spare = Spare::default();
            for line in &lines {
                prop_assert_eq!(read(line, &mut spare), read(line, &mut Spare::default()), "{}", line);
            }
        }

        /// Bytes that are no text take nothing from the rest: a line says the same with a mark in their place.
        #[test]
        fn what_is_no_text_is_read_as_marked(
            lines in lines(),
            breaks in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..3), 1..4),
        ) {
            let mut spare = Spare::default();
            for line in &lines {
                read(line, &mut spare);
                let mut broken = line.clone().into_bytes();
                for (at, with) in &breaks {
                    let at = at.index(broken.len());
                    let with = [&b"\xff"[..], b"\xe2\x82", b"\xc3"][*with];
                    broken.splice(at..at, with.iter().copied());
                }
                let text = String::from_utf8_lossy(&broken);
                let marked = read(&text, &mut Spare::default());
                for spare in [&mut spare, &mut Spare::default()] {
                    let (verdict, items) = read_bytes(&broken, spare);
                    prop_assert_eq!(&items, &marked.1, "{}", text);
                    let is_bad = |verdict: &Verdict| matches!(verdict, Verdict::Bad { .. });
                    prop_assert!(verdict == marked.0 || is_bad(&verdict) && is_bad(&marked.0), "{}", text);
                }
            }
        }
    }

    /// A line as it is read in order, where local time is not that of Greenwich.
    fn read_in_order(line: &str, spare: &mut Spare) -> Vec<Item> {
        let zone = "+02:00".parse().unwrap();
        let clock = Clock {
            now: NOW,
            previous: None,
            ambiguous: None,
            zone,
        };
        let options = ParseOptions {
            zone,
            ..ParseOptions::default()
        };
        let mut items = Vec::new();
        let mut emit = |item: &Item| items.push(item.clone());
        Reader::default().line(line.as_bytes(), &options, clock, spare, &mut emit);
        items
    }

    #[test]
    fn what_changes_the_meaning_of_the_rest_is_not_learned() {
        for [first, second] in [
            // A refusal without content is not billed; the next answer is.
            [
                r#"{"ts":"2026-11-23T09:00:00Z","content":[],"stop_reason":"refusal","usage":{"output_tokens":1}}"#,
                r#"{"ts":"2026-11-23T09:00:00Z","content":[],"stop_reason":"end_turn","usage":{"output_tokens":1}}"#,
            ],
            // Observed usage has its times in UTC.
            [
                r#"{"time":"2026-11-23T09:00:00Z","usageDetails":{"input_tokens":1}}"#,
                r#"{"time":"2026-11-23 09:00:00","usageDetails":{"input_tokens":1}}"#,
            ],
            // What is left out needs no certain time.
            [
                r#"{"ts":"2026-11-23T09:00:00Z","model":"claude-opus-4-7","usage":{"output_tokens":1}}"#,
                r#"{"ts":"2026-11-23 09:00:00","model":"<synthetic>","usage":{"output_tokens":1}}"#,
            ],
        ] {
            let (mut spare, mut in_order) = (Spare::default(), Spare::default());
            read(first, &mut spare);
            let fresh = read(second, &mut Spare::default());
            assert_eq!(read(second, &mut spare), fresh, "{second}");
            read_in_order(first, &mut in_order);
            let fresh = read_in_order(second, &mut Spare::default());
            assert_eq!(read_in_order(second, &mut in_order), fresh, "{second}");
        }
    }

    #[test]
    fn a_place_that_came_to_nothing_leaves_no_trace() {
        let line = r#"{"ts":"2026-11-23T09:00:00Z","model":"claude-opus-4-7","usage":{"n":1},"message":{"usage":{"output_tokens":1}}}"#;
        let mut spare = Spare::default();
        for _ in 0..2 {
            assert_eq!(read(line, &mut spare).0, Verdict::Items(1));
        }
        assert_eq!((spare.forms.known.len(), spare.forms.misfits), (1, 0));
    }

    #[test]
    fn what_stands_in_a_string_is_no_form() {
        let line = r#"{"ts":"2026-11-23T09:00:00Z","message":"{\"id\":\"msg_1\",\"usage\":{\"output_tokens\":1}}"}"#;
        let mut spare = Spare::default();
        assert_eq!(read(line, &mut spare).0, Verdict::Items(1));
        assert!(spare.forms.known.is_empty());
    }

    #[test]
    fn looking_in_vain_at_long_lines_ends_soon() {
        let line = |text: &str, end: &str| {
            format!(r#"{{"ts":"2026-11-23T09:00:00Z","text":"{text}",{end}"#)
        };
        let mut spare = Spare::default();
        read(&line("a", r#""usage":{"output_tokens":1}}"#), &mut spare);
        let long = "a".repeat(10_000);
        for _ in 0..100 {
            read(&line(&long, r#""n":1}"#), &mut spare);
        }
        assert!(spare.forms.vain <= MAX_VAIN + 11_000);
        let full = read(&line(&long, r#""usage":{"output_tokens":1}}"#), &mut spare);
        assert_eq!(full.0, Verdict::Items(1));
        // As soon as it pays again it goes on.
        for _ in 0..2_000 {
            read(&line(&long, r#""usage":{"output_tokens":1}}"#), &mut spare);
        }
        assert_eq!((spare.forms.vain, spare.forms.misfits), (0, 0));
    }

    #[test]
    fn lines_that_are_written_alike_are_read_by_their_form() {
        let line = |n: u32, text: &str| {
            format!(
                r#"{{"timestamp":"2026-11-23T09:00:{n:02}Z","trace":"{n}","message":{{"id":"msg_{n}","model":"claude-opus-4-7","content":[{{"text":"{text}"}}],"stop_reason":"end_turn","usage":{{"input_tokens":{n},"output_tokens":2}}}}}}"#
            )
        };
        let mut spare = Spare::default();
        read(&line(1, "a"), &mut spare);
        assert_eq!(spare.forms.misfits, 1);
        for (n, text) in [(2, "b"), (33, r#"\n{\"usage\":{}}"#)] {
            let (_, items) = read(&line(n, text), &mut spare);
            let [Item::Usage(usage)] = &items[..] else {
                panic!("{items:?}")
            };
            assert_eq!(
                (usage.tokens.input, usage.id.as_deref()),
                (u64::from(n), Some(&*format!("msg_{n}")))
            );
            assert_eq!(spare.forms.misfits, 0);
        }
    }
}
