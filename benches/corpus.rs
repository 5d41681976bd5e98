//! Writes logs to measure with: `cargo bench --bench corpus -- KIND BYTES FILE [SEED]`.
//!
//! `a`: API responses in the wrapper of a service, some 2.7 KB each: code, escapes, text of many scripts, and words that look
//! like usage inside the text. `b`: counts alone, some 230 bytes each. `c`: transcripts of Claude Code, with lines of up to
//! 100 KB between the responses. `s`: counts of a service whose users have a session each, 300,000 a day with three responses,
//! 226 MB for a day. The same kind, size and seed give the same bytes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    reason = "a program for people who measure"
)]

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};

/// 2026-09-01T00:00:00Z: the first response. All lie before the day this was written.
const BEGIN_MS: u64 = 1_788_220_800_000;

/// How long the log is, however many responses are in it: fifty days.
const SPAN_MS: u64 = 50 * 86_400_000;

const MODELS: [&str; 4] = [
    "claude-opus-4-7",
    "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5-20251001",
    "claude-sonnet-4-6",
];

/// What responses are about: pieces of text as they stand inside a JSON string.
const PIECES: [&str; 12] = [
    r"The failure is in the reconciler: it compares the generation before the status is written, so the second pass sees a stale object and retries. ",
    r#"```rust\nfn total(rows: &[Row]) -> u64 {\n    rows.iter().map(|r| r.amount).sum()\n}\n\nassert_eq!(total(&[]), 0, \"an empty list is zero\");\n```\n"#,
    r"日本語のログも同じ経路を通ります。キャッシュの境界は変わりません。",
    r"Größe und Maße bleiben gleich; übrig ist nur die Prüfung, ob alle Äste geschlossen sind. ",
    r#"A response carries {\"usage\":{\"input_tokens\":999999,\"output_tokens\":999999}} and nothing else is billed. "#,
    r"\n\n1. Read the file.\n2. Compare the hashes.\n3. Write only what has changed.\n\n",
    r#"{\n  \"name\": \"example\",\n  \"usage\": {\"input_tokens\": 1}\n}\n"#,
    r"C:\\Users\\build\\out\\target\\release\\app.exe was locked by another process\r\n",
    r"🙂 done ✅ — see the diff below. \u00e9\u00fc\ud83d\ude00 ",
    r"SELECT model, SUM(cost) FROM responses WHERE ts >= now() - interval '1 hour' GROUP BY 1 ORDER BY 2 DESC; ",
    r"Nothing in the tests covers the path where the lock is held by a thread that has already finished, which is what happened here. ",
    r#"<result status=\"ok\"><item>\tindented\twith\ttabs</item></result> "#,
];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        let n = all.len() as u64;
        all[usize::try_from(self.below(n)).unwrap()]
    }

    fn text(&mut self, out: &mut String, bytes: usize) {
        let end = out.len() + bytes;
        while out.len() < end {
            out.push_str(self.pick(&PIECES));
        }
    }
}

fn time(ms: u64) -> String {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap();
    format!("{at:.3}")
}

/// Counts of a response: input, what was written to the cache and read from it, output.
struct Counts {
    input: u64,
    write: u64,
    read: u64,
    output: u64,
}

/// Those of a conversation whose prompt grows, most of it read from the cache.
fn counts(random: &mut Random, turn: u64) -> Counts {
    let prompt = 12_000 + turn * 900;
    let missed = random.below(200) == 0;
    let (read, write) = if turn == 0 || missed {
        (0, prompt)
    } else {
        (prompt - 900, 900)
    };
    Counts {
        input: random.below(40) + 3,
        write,
        read,
        output: random.below(900) + 20,
    }
}

impl Counts {
    fn tokens(&self) -> String {
        let Self {
            input,
            write,
            read,
            output,
        } = self;
        format!(
            r#""input_tokens":{input},"output_tokens":{output},"cache_read_input_tokens":{read},"cache_creation_input_tokens":{write}"#
        )
    }

    /// With the time to live of what was written, and `more` members.
    fn usage_with(&self, more: &str) -> String {
        format!(
            r#"{{{},"cache_creation":{{"ephemeral_5m_input_tokens":{},"ephemeral_1h_input_tokens":0}},"service_tier":"standard"{more}}}"#,
            self.tokens(),
            self.write
        )
    }

    /// As the API answers.
    fn usage(&self) -> String {
        self.usage_with("")
    }

    /// As Claude Code notes it down, with the only step of the response.
    fn transcript_usage(&self) -> String {
        self.usage_with(&format!(
            r#","server_tool_use":{{"web_search_requests":0,"web_fetch_requests":0}},"inference_geo":"not_available","iterations":[{{{},"type":"message"}}],"speed":"standard""#,
            self.tokens()
        ))
    }
}

fn api_response(random: &mut Random, n: u64, ms: u64, out: &mut String) {
    let model = random.pick(&MODELS);
    write!(out, r#"{{"timestamp":"{}","level":"info","logger":"api.client","trace_id":"{:016x}","session_id":"s-{}","message":{{"id":"msg_{n:024x}","type":"message","role":"assistant","model":"{model}","content":[{{"type":"text","text":""#, time(ms), random.next(), n / 40).unwrap();
    let length = 1_200 + random.below(2_000);
    random.text(out, usize::try_from(length).unwrap());
    write!(
        out,
        r#""}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{}}},"duration_ms":{}}}"#,
        counts(random, n % 40).usage(),
        random.below(9_000)
    )
    .unwrap();
    out.push('\n');
}

fn counts_alone(random: &mut Random, n: u64, ms: u64, out: &mut String) {
    let prompt = 4_000 + random.below(4_000);
    writeln!(
        out,
        r#"{{"ts":"{}","id":"msg_{n:024x}","model":"{}","usage":{{"input_tokens":{},"output_tokens":{},"cache_read_input_tokens":{prompt},"cache_creation_input_tokens":0}}}}"#,
        time(ms),
        MODELS[usize::try_from(n / 64 % 4).unwrap()],
        random.below(900) + 3,
        random.below(900) + 20,
    )
    .unwrap();
}

/// So many sessions are on at once.
const USERS: u64 = 420;

fn short_session(random: &mut Random, n: u64, ms: u64, out: &mut String) {
    let (round, user) = (n / USERS, n % USERS);
    let is_first = round % 3 == 0;
    writeln!(
        out,
        r#"{{"ts":"{}","session_id":"user-{:012x}","id":"msg_{n:024x}","model":"claude-haiku-4-5-20251001","usage":{{"input_tokens":{},"output_tokens":{},"cache_read_input_tokens":{},"cache_creation_input_tokens":0}}}}"#,
        time(ms),
        round / 3 * USERS + user,
        random.below(400) + 500,
        random.below(300) + 100,
        if is_first { 0 } else { 4_000 },
    )
    .unwrap();
}

fn transcript(random: &mut Random, n: u64, ms: u64, out: &mut String) {
    let session = format!("{:08x}-0000-4000-8000-{:012x}", n / 60, n / 60);
    let common = |uuid: u64| {
        format!(
            r#""isSidechain":false,"userType":"external","cwd":"/home/u/p{}","sessionId":"{session}","version":"2.1.0","gitBranch":"main","uuid":"{uuid:032x}""#,
            n / 60 % 7
        )
    };
    let question = common(random.next());
    write!(out, r#"{{"parentUuid":null,{question},"type":"user","message":{{"role":"user","content":[{{"tool_use_id":"toolu_{n:016x}","type":"tool_result","content":""#).unwrap();
    // Most answers of tools are short; a few are as long as a file.
    let length = match random.below(10) {
        0 => 20_000 + random.below(80_000),
        1..=3 => 4_000 + random.below(9_000),
        _ => 200 + random.below(1_500),
    };
    random.text(out, usize::try_from(length).unwrap());
    writeln!(out, r#""}}]}},"timestamp":"{}"}}"#, time(ms)).unwrap();
    let usage = counts(random, n % 60).transcript_usage();
    for block in 0..2 {
        let answer = common(random.next());
        write!(out, r#"{{"parentUuid":null,{answer},"type":"assistant","timestamp":"{}","requestId":"req_{n:020x}","message":{{"model":"claude-opus-4-7","id":"msg_{n:024x}","type":"message","role":"assistant","content":[{{"type":"{}","text":""#, time(ms + 2_000 + block * 10), if block == 0 { "thinking" } else { "text" }).unwrap();
        let length = 300 + random.below(1_200);
        random.text(out, usize::try_from(length).unwrap());
        writeln!(
            out,
            r#""}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{usage}}}}}"#
        )
        .unwrap();
    }
}

/// Writes the lines of one response.
type Writer = fn(&mut Random, u64, u64, &mut String);

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let [kind, bytes, path, rest @ ..] = &args[..] else {
        eprintln!("usage: cargo bench --bench corpus -- a|b|c|s BYTES FILE [SEED]");
        std::process::exit(2);
    };
    let bytes: u64 = bytes.parse().unwrap();
    let seed = rest.first().map_or(1, |seed| seed.parse().unwrap());
    let of_span = |mean: u64| SPAN_MS / (bytes / mean).max(1);
    let (line, step): (Writer, u64) = match kind.as_str() {
        "a" => (api_response, of_span(2_760)),
        "b" => (counts_alone, of_span(208)),
        "c" => (transcript, of_span(13_500)),
        // However long the log is, as many are on at once.
        "s" => (short_session, 96),
        other => panic!("no kind of log: {other}"),
    };
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut random = Random(seed);
    let (mut text, mut written, mut n) = (String::new(), 0, 0);
    let mut ms = BEGIN_MS;
    while written < bytes {
        text.clear();
        line(&mut random, n, ms, &mut text);
        ms += random.below(2 * step.max(1));
        out.write_all(text.as_bytes()).unwrap();
        written += text.len() as u64;
        n += 1;
    }
    out.flush().unwrap();
}
