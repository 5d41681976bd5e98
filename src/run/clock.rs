//! The clocks of the machine, and what they tell together: that it slept, or that its wall clock was put right.
//!
//! The wall clock is for people and records; it may be set at any moment. The monotonic clock stands still while the machine
//! sleeps. The one that counts from boot does neither, so the other two are held against it.
//!
//! Does not know what follows from a jump.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::monitor::Time;

/// The present.
pub fn wall_clock() -> Time {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let offset = offsets().wall_secs;
    Time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)).plus_secs(offset)
}

/// The file in which a test says by how many seconds the clocks have jumped: the wall clock, and the one that counts from boot.
const TEST_CLOCK: &str = "CLAUDE_TOKMON_TEST_CLOCK";

#[derive(Debug, Clone, Copy, Default)]
struct Offsets {
    wall_secs: i64,
    boot_secs: i64,
}

fn offsets() -> Offsets {
    static FILE: OnceLock<Option<std::ffi::OsString>> = OnceLock::new();
    let Some(file) = FILE.get_or_init(|| std::env::var_os(TEST_CLOCK)) else {
        return Offsets::default();
    };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
    Offsets {
        wall_secs: numbers.next().unwrap_or(0),
        boot_secs: numbers.next().unwrap_or(0),
    }
}

/// What the clocks show at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// The wall clock.
    pub(super) wall: Time,
    /// Time since boot, sleep included.
    pub(super) boot: Duration,
    /// Time since boot, without sleep.
    pub(super) awake: Instant,
}

impl Reading {
    /// All clocks now.
    pub(super) fn now() -> Self {
        let boot = since_boot() + Duration::from_secs(offsets().boot_secs.unsigned_abs());
        Self {
            wall: wall_clock(),
            boot,
            awake: Instant::now(),
        }
    }
}

/// The clock that goes on while the machine sleeps: on macOS the monotonic one does, unlike that of [`Instant`].
#[cfg(target_os = "linux")]
const EVER: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const EVER: ClockId = ClockId::Monotonic;

fn since_boot() -> Duration {
    let time = clock_gettime(EVER);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(secs, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What happened to the clocks between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Jump {
    /// The machine slept for so long.
    Slept(Duration),
    /// The wall clock was put forward by so many milliseconds, or back if negative.
    Set(i64),
}

/// Differences up to this are noise.
const TOLERANCE: Duration = Duration::from_secs(2);

/// Holds the clocks against each other.
#[derive(Debug)]
pub(super) struct Clocks {
    last: Reading,
}

impl Clocks {
    pub(super) fn new(now: Reading) -> Self {
        Self { last: now }
    }

    /// The wall clock at the last reading.
    pub(super) fn wall(&self) -> Time {
        self.last.wall
    }

    /// Takes another reading. Both may have happened at once: a machine wakes up and its clock is put right.
    pub(super) fn check(&mut self, now: Reading) -> [Option<Jump>; 2] {
        let last = std::mem::replace(&mut self.last, now);
        let passed = now.boot.saturating_sub(last.boot);
        let slept = passed.saturating_sub(now.awake.saturating_duration_since(last.awake));
        let expected = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        let set = now.wall.millis_since(last.wall) - expected;
        let tolerance = i64::try_from(TOLERANCE.as_millis()).unwrap_or(0);
        [
            (slept > TOLERANCE).then_some(Jump::Slept(slept)),
            (set.abs() > tolerance).then_some(Jump::Set(set)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the clocks jumped after `wall` milliseconds by the wall clock, `boot` since boot and `awake` awake.
    fn jumps(wall: i64, boot: u64, awake: u64) -> [Option<Jump>; 2] {
        let first = Reading {
            wall: Time(1_800_000_000_000),
            boot: Duration::from_secs(1000),
            awake: Instant::now(),
        };
        let second = Reading {
            wall: Time(first.wall.0 + wall),
            boot: first.boot + Duration::from_millis(boot),
            awake: first.awake + Duration::from_millis(awake),
        };
        Clocks::new(first).check(second)
    }

    #[test]
    fn a_sleep_and_a_clock_that_was_set_are_told_apart() {
        let hour = 3_600_000;
        let slept = Jump::Slept(Duration::from_hours(1));
        assert_eq!(jumps(1000, 1000, 1000), [None, None]);
        assert_eq!(jumps(2900, 1000, 1000), [None, None]);
        assert_eq!(
            jumps(1000 + hour, 1000, 1000),
            [None, Some(Jump::Set(hour))]
        );
        assert_eq!(
            jumps(1000 - hour, 1000, 1000),
            [None, Some(Jump::Set(-hour))]
        );
        assert_eq!(jumps(1000 + hour, 3_601_000, 1000), [Some(slept), None]);
        // It slept, and its clock stood still meanwhile.
        assert_eq!(
            jumps(1000, 3_601_000, 1000),
            [Some(slept), Some(Jump::Set(-hour))]
        );
        // We were merely stopped, or the machine was busy: no clock has jumped.
        assert_eq!(jumps(hour, 3_600_000, 3_600_000), [None, None]);
    }
}
