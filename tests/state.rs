//! A state file that was written once is read as what it was: whoever changes the shape of anything in it has to raise its version.
//!
//! The numbers of a state stand in it without their names. Those of another shape may be read without an error, and be others.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use claude_tokmon::monitor::{Remembered, Time};
use claude_tokmon::parse::Reader;
use claude_tokmon::source::{FollowerState, Loaded, StateFile};
use common::pipeline;
use serde_json::{Value, json};

/// The fingerprint of what it is of, and the episodes that were told; then where it was with its files, what it knew of their lines, and
/// all sums and alerts.
type State = (
    (u64, Vec<u64>),
    (
        FollowerState,
        Vec<(String, Option<Time>, Reader)>,
        Remembered,
    ),
);

const ADVICE: &str = "raise VERSION in src/source/snapshot.rs if it is not raised yet, then make tests/state anew: see make.py there";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/state")
}

/// What stands there in hexadecimal digits.
fn bytes_of(digits: &str) -> Vec<u8> {
    let digits = digits.chars().filter_map(|c| c.to_digit(16));
    let digits: Vec<u32> = digits.collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| u8::try_from(16 * pair[0] + pair[1]).unwrap())
        .collect()
}

#[test]
fn a_state_that_was_written_is_read_as_what_it_was() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state");
    let digits = fs::read_to_string(folder().join("state.hex")).unwrap();
    fs::write(&path, bytes_of(&digits)).unwrap();
    let Loaded::Snapshot(body) = StateFile::open(&path).unwrap().load() else {
        panic!("it is of another version; {ADVICE}");
    };
    let (state, rest) = postcard::take_from_bytes::<State>(&body)
        .unwrap_or_else(|e| panic!("it has another shape: {e}; {ADVICE}"));
    assert_eq!(rest.len(), 0, "it has another shape; {ADVICE}");
    let (preface, (files, readers, evaluator)) = state;
    let mut pipeline = pipeline(&[]);
    let fits = pipeline.evaluator.restore(evaluator);
    assert!(fits, "it is of other rules; {ADVICE}");
    let (_, told) = &preface;
    let again: BTreeSet<u64> = pipeline.evaluator.told_episodes().into_iter().collect();
    assert_eq!(again, told.iter().copied().collect(), "{ADVICE}");
    assert_eq!(told.len(), 2, "a model without a price, a broken cache");
    let totals = pipeline.evaluator.totals();
    let found = json!({
        "records": totals.records,
        "cost_pusd": totals.cost.0.to_string(),
        "api_errors": totals.errors,
        "unpriced": totals.unpriced,
    });
    let expected = fs::read(folder().join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    assert_eq!(found, expected, "{ADVICE}");
    // Written again it takes as many bytes, in whichever order.
    let memory = pipeline.evaluator.memory();
    let written = postcard::to_stdvec(&(preface, (files, readers, memory))).unwrap();
    assert_eq!(written.len(), body.len(), "{ADVICE}");
}
