//! The monitor that everybody would write in an afternoon, to be held against.
//!
//! Knows tokens and dollars as it reckons them, and no incident.

use std::collections::VecDeque;

use crate::{HOUR, MINUTE};

/// The monitor that anybody would write first.
#[derive(Default)]
pub(crate) struct Obvious {
    pub(crate) window: VecDeque<(i64, u64, u64, u64, f64)>,
    pub(crate) first: Option<i64>,
    pub(crate) first_hour: (u64, i64),
    pub(crate) alerts: Vec<i64>,
}

impl Obvious {
    pub(crate) fn observe(&mut self, at: i64, (input, output, read, cost): (u64, u64, u64, f64)) {
        let first = *self.first.get_or_insert(at);
        self.window.push_back((at, input, output, read, cost));
        while self
            .window
            .front()
            .is_some_and(|(when, ..)| at - when > MINUTE)
        {
            self.window.pop_front();
        }
        if at - first < HOUR {
            self.first_hour.0 += input + output;
            self.first_hour.1 = at - first;
            return;
        }
        if self.window.len() < 5 {
            return;
        }
        let dollars: f64 = self.window.iter().map(|e| e.4).sum();
        let tokens: u64 = self.window.iter().map(|e| e.1 + e.2).sum();
        let eligible = self.window.iter().filter(|e| e.1 > 5000);
        let (n, missed) = eligible.fold((0, 0), |(n, missed), e| {
            (n + 1, missed + u64::from(e.3 == 0))
        });
        let usual =
            self.first_hour.0 as f64 * MINUTE as f64 / (self.first_hour.1.max(MINUTE)) as f64;
        let spike = tokens as f64 > 3.0 * usual;
        if dollars > 2.0 || spike || (n >= 5 && missed * 2 > n) {
            self.alerts.push(at);
        }
    }
}
