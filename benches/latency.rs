//! From the write of a line to the alert about it: `cargo bench --bench latency [-- N]`.
//!
//! Appends lines to a file that `tail` follows, each of which crosses a limit, and times until stderr tells it: with file
//! events, and by polling alone.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a program for people who measure"
)]

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;

fn main() {
    let n: usize = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(1000);
    measure("file events", &[], n);
    measure("polling", &["--poll"], n.div_ceil(5));
}

/// More notices than twenty in a minute are counted, not written; and the first of each round only shows that it follows.
const ROUND: usize = 16;

fn measure(how: &str, args: &[&str], n: usize) {
    let mut times = Vec::with_capacity(n);
    while times.len() < n {
        round(args, (n - times.len()).min(ROUND), &mut times);
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!(
        "write → alert on stderr, {how}, over {n} lines: p50 {:?} · p99 {:?} · max {:?}",
        at(50),
        at(99),
        at(100)
    );
}

fn round(args: &[&str], n: usize, times: &mut Vec<Duration>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .unwrap();
    // Each project is a key of its own, so each line is the first of an episode, for which no other speaks.
    let mut tail = Command::new(env!("CARGO_BIN_EXE_claude-tokmon"))
        .args(["tail", "--quiet", "--config", "-"])
        .args(["--set", "cost-rate.above=0"])
        .args(["--set", "cost-rate.by=['project']"])
        .args(["--set", "token-spike.enabled=false", "--json"])
        .args(args)
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(tail.stderr.take().unwrap());
    for i in 0..=n {
        let project = format!("p{i:06}");
        let now = format!("{:.3}", Timestamp::now());
        let line = format!(
            "{{\"time\":\"{now}\",\"id\":\"msg_{i}\",\"model\":\"claude-opus-4-7\",\"project\":\"{project}\",\"usage\":{{\"input_tokens\":1000,\"output_tokens\":10}}}}\n"
        );
        let written = Instant::now();
        log.write_all(line.as_bytes()).unwrap();
        let mut told = String::new();
        while !told.contains(&project) {
            told.clear();
            assert!(stderr.read_line(&mut told).unwrap() > 0, "tail has ended");
        }
        if i > 0 {
            times.push(written.elapsed());
        }
        // Writers do not come in step with our reader: between 1 and 20 ms apart.
        std::thread::sleep(Duration::from_millis(1 + (i as u64 * 7919) % 20));
    }
    tail.kill().unwrap();
    tail.wait().unwrap();
}
