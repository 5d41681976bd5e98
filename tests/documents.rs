//! The guides in `docs` name all that there is to know: each rule, metric and field of rules, each field of the objects for programs; and
//! what they link to is there.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use claude_tokmon::monitor::METRICS;
use common::program;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The words that stand in a document as code.
fn code_words(document: &str) -> BTreeSet<&str> {
    let spans = document.split('`').skip(1).step_by(2);
    let words =
        spans.flat_map(|span| span.split(|c: char| !c.is_alphanumeric() && !"_-".contains(c)));
    words.collect()
}

/// What a run prints, to whichever stream.
fn printed(args: &[&str]) -> (String, String) {
    let home = tempfile::tempdir().unwrap();
    let output = program(home.path())
        .current_dir(root())
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn all_of_rules_is_explained() {
    let document = document("docs/rules.md");
    let words = code_words(&document);
    let (rules, _) = printed(&["rules", "--config", "-"]);
    let names = rules
        .lines()
        .filter_map(|line| line.strip_prefix("name = "));
    let names: Vec<&str> = names.map(|name| name.trim_matches('"')).collect();
    assert!(names.len() > 15, "{names:?}");
    let metrics = METRICS.map(claude_tokmon::monitor::Metric::name);
    // What is refused says what there is.
    let (_, refused) = printed(&["rules", "--config", "-", "--set", "cost-rate.qqqqqqqqqq=1"]);
    let (_, fields) = refused.trim_end().rsplit_once("there are ").unwrap();
    let fields: Vec<&str> = fields.split(", ").collect();
    assert!(fields.len() > 20, "{fields:?}");
    for word in names.into_iter().chain(metrics).chain(fields) {
        assert!(
            words.contains(word),
            "docs/rules.md does not explain {word}"
        );
    }
}

/// Objects that have names of the log as keys.
const BY_NAME: [&str; 7] = [
    "key",
    "set",
    "by_model",
    "other_ttl",
    "by_group",
    "cost_by_cause",
    "alerts_by_rule",
];

fn fields<'a>(value: &'a Value, of: &'a str, to: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields_of) => {
            for (name, value) in fields_of {
                if !BY_NAME.contains(&of) {
                    to.insert(name);
                }
                fields(value, name, to);
            }
        }
        Value::Array(each) => each.iter().for_each(|value| fields(value, of, to)),
        _ => {}
    }
}

#[test]
fn all_fields_for_programs_are_explained() {
    let document = document("docs/json.md");
    let words = code_words(&document);
    let log = "fixtures/cache-break.jsonl";
    let labels = "fixtures/cache-break.incidents.jsonl";
    let tries: [&[&str]; 3] = [
        &[
            "--labels",
            labels,
            "--without",
            "9h",
            "--by",
            "model",
            "--sweep",
            "cache-break.min_waste=1",
            log,
        ],
        &["--suggest", log],
        &[
            "--set",
            "cost-rate.above=0.2",
            "fixtures/formats/otlp.jsonl",
            log,
        ],
    ];
    let mut events = BTreeSet::new();
    for args in tries {
        let replay = ["replay", "--json", "--config", "-", "--timezone", "UTC"];
        let (out, _) = printed(&[&replay[..], args].concat());
        for line in out.lines() {
            let object: Value = serde_json::from_str(line).unwrap();
            events.insert(object["event"].as_str().unwrap().to_owned());
            let mut names = BTreeSet::new();
            fields(&object, "", &mut names);
            for name in names {
                assert!(
                    words.contains(name),
                    "docs/json.md does not explain {name}: {line}"
                );
            }
        }
    }
    let known = [
        "alert",
        "impact",
        "incidents",
        "suggestion",
        "summary",
        "sweep",
    ];
    assert!(events.iter().eq(known), "{events:?}");
    assert!(known.iter().all(|event| words.contains(event)));
}

/// How a heading is linked to.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars()
        .filter(|c| c.is_alphanumeric() || "_-".contains(*c))
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let guides = fs::read_dir(root().join("docs")).unwrap();
    let guides = guides.map(|entry| Path::new("docs").join(entry.unwrap().file_name()));
    let mut links = 0;
    for name in guides.chain([PathBuf::from("README.md")]) {
        let text = document(name.to_str().unwrap());
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if link.starts_with("http") {
                continue;
            }
            links += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() {
                name.clone()
            } else {
                name.parent().unwrap().join(file)
            };
            let file = root().join(file);
            assert!(file.exists(), "{name:?} links to {link}");
            if heading.is_empty() {
                continue;
            }
            let linked = fs::read_to_string(file).unwrap();
            let mut headings = linked.lines().filter(|line| line.starts_with('#'));
            let leads = headings.any(|line| anchor(line.trim_start_matches('#').trim()) == heading);
            assert!(leads, "{name:?} links to {link}");
        }
    }
    assert!(links > 20, "{links}");
}
