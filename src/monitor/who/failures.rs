//! Errors of late: whose they were, and of which kind. For what an alert about them says.
//!
//! Knows the last few of one key, and nothing of responses.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::weight::{add_to, shares};
use crate::monitor::alert::Share;
use crate::monitor::record::{ErrorRecord, Labels, NO_MODEL, Time};

/// So many are kept.
const KEPT: usize = 256;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Failure {
    at: Time,
    labels: Arc<Labels>,
    kind: Option<Arc<str>>,
}

/// The last errors.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::monitor) struct Failures(VecDeque<Failure>);

impl Failures {
    /// Takes one in.
    pub(in crate::monitor) fn note(&mut self, at: Time, error: &ErrorRecord) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Failure {
            at,
            labels: Arc::clone(&error.labels),
            kind: error.kind.clone(),
        });
    }

    /// Models, sessions and projects of the last since a moment, by share of them, and kinds of those that name theirs.
    pub(in crate::monitor) fn top(&self, since: Time) -> ([Vec<Share>; 3], Vec<Share>) {
        let mut names: [Vec<(Arc<str>, i128)>; 3] = Default::default();
        let mut kinds = Vec::new();
        for failure in self.0.iter().filter(|failure| failure.at >= since) {
            for (counts, name) in names.iter_mut().zip(failure.labels.names()) {
                if let Some(name) = name.filter(|name| ***name != *NO_MODEL) {
                    add_to(counts, name, 1);
                }
            }
            if let Some(kind) = &failure.kind {
                add_to(&mut kinds, kind, 1);
            }
        }
        (names.map(shares), shares(kinds))
    }

    /// The clock was wrong by so much.
    pub(in crate::monitor) fn shift(&mut self, ms: i64) {
        for failure in &mut self.0 {
            failure.at.shift(ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::record::Stamp;

    #[test]
    fn who_had_most_of_the_last_errors_is_told_and_of_which_kind() {
        let error = |project: &str, kind: Option<&str>| ErrorRecord {
            id: None,
            stamp: Stamp::Undated,
            labels: Arc::new(Labels {
                model: NO_MODEL.into(),
                project: Some(project.into()),
                ..Labels::default()
            }),
            kind: kind.map(Into::into),
            batch: false,
        };
        let mut failures = Failures::default();
        for n in 0..300 {
            let error = if n % 4 == 0 {
                error("web", None)
            } else {
                error("batch", Some("overloaded_error"))
            };
            failures.note(Time::from_secs(n), &error);
        }
        let ([models, _, projects], kinds) = failures.top(Time::from_secs(200));
        assert_eq!(models, []);
        assert_eq!(projects, [("batch".into(), 75), ("web".into(), 25)]);
        assert_eq!(kinds, [("overloaded_error".into(), 100)]);
        // Of those before no more are kept.
        assert_eq!(failures.0.len(), KEPT);
        failures.shift(-200_000);
        assert_eq!(failures.top(Time::from_secs(100)).1, []);
    }
}
