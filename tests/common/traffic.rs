//! Made-up traffic, as lines of a log. Knows no rule, and not what is made of it.

use super::{Call, Random, TWO_O_CLOCK};

/// Traffic with everything in it: sessions and none, pauses, bursts, lost caches, unknown models. Times grow.
pub fn traffic(seed: u64, n: usize) -> Vec<(i64, String)> {
    let mut random = Random(seed);
    let sessions = [None, Some("s-1"), Some("s-2")];
    let models = ["claude-opus-4-7", "claude-haiku-4-5", "claude-unheard-of"];
    let mut at = TWO_O_CLOCK;
    let mut lost = false;
    let mut lines = Vec::new();
    for i in 0..n {
        at += match random.below(20) {
            0 => 400_000 + i64::try_from(random.below(2_000_000)).unwrap(),
            1..=5 => 0,
            _ => random.pause_ms(1200.0),
        };
        lost ^= random.chance(0.05);
        let prompt = 6_000 + random.below(40_000);
        let (input, write_5m, write_1h, read) = match (lost, random.below(4)) {
            (true, 0..=1) => (prompt, 0, 0, 0),
            (true, _) => (10, prompt, 0, 0),
            (false, 0) => (10, 0, prompt / 20, prompt),
            (false, _) => (10, prompt / 20, 0, prompt),
        };
        let model = models[usize::try_from(random.below(12)).unwrap().saturating_sub(9)];
        let session = sessions[usize::try_from(random.below(3)).unwrap()];
        let output = random.below(3_000);
        let call = Call {
            at,
            id: format!("msg_{i}"),
            model,
            session,
            input,
            output,
            write_5m,
            write_1h,
            read,
        };
        lines.push((at, call.line()));
    }
    lines
}

/// Traffic that is dear for a while and cheap for a while, with pauses of less than so many seconds. It lasts for hours where they
/// are long: there is something to learn, and episodes are told again.
pub fn burning(seed: u64, pause_secs: u64) -> Vec<String> {
    let mut random = Random(seed);
    let mut at = TWO_O_CLOCK;
    let mut dear = 1;
    let mut call = |n: usize| {
        at += 1000 * i64::try_from(random.below(pause_secs)).unwrap();
        if random.chance(0.03) {
            dear = 1 + random.below(40);
        }
        let id = format!("msg_{n}");
        let input = dear * (1_000 + random.below(500));
        let output = random.below(200);
        let call = Call {
            at,
            id,
            input,
            output,
            ..Call::default()
        };
        call.line()
    };
    (0..600).map(&mut call).collect()
}

/// One conversation, for hours: what it asks becomes dear and cheap again, and its cache breaks and mends.
pub fn unsteady(seed: u64) -> Vec<String> {
    let mut random = Random(seed);
    let mut at = TWO_O_CLOCK;
    let (mut dear, mut lost) = (1, false);
    let mut call = |n: usize| {
        at += i64::try_from(random.below(40_000)).unwrap();
        if random.chance(0.03) {
            dear = 1 + random.below(20);
        }
        lost ^= random.chance(0.03);
        let prompt = dear * (4_000 + random.below(500));
        let (input, read) = if lost {
            (prompt, 0)
        } else {
            (prompt / 20, prompt)
        };
        Call {
            at,
            id: format!("msg_{n}"),
            session: Some("s-1"),
            input,
            read,
            output: random.below(200),
            ..Call::default()
        }
        .line()
    };
    (0..600).map(&mut call).collect()
}

/// Responses far enough apart that something leaves a window between two of them; some cost much more than others.
pub fn spread(seed: u64) -> Vec<String> {
    let mut random = Random(seed);
    let mut at = TWO_O_CLOCK;
    let mut call = |n: usize| {
        at += 1000 * i64::try_from(random.below(50)).unwrap();
        // A few are late, and leave before what came before them.
        let late = if random.chance(0.2) {
            1000 * i64::try_from(random.below(59)).unwrap()
        } else {
            0
        };
        let input = if random.chance(0.2) { 60_000 } else { 3_000 };
        Call {
            at: at - late,
            id: format!("msg_{n}"),
            input: input + random.below(9_000),
            ..Call::default()
        }
        .line()
    };
    (0..400).map(&mut call).collect()
}

/// The same of a few sessions whose prompts grow and shrink, and that lose what the cache has of them for a while, in part or whole.
pub fn leaky(seed: u64) -> Vec<String> {
    let mut random = Random(seed);
    let mut at = TWO_O_CLOCK;
    let mut lost = false;
    let sessions = 1 + random.below(4);
    let mut cached = [0; 4];
    let mut call = |n: usize| {
        let pause = if random.chance(0.01) { 400 } else { 40 };
        at += 1000 * i64::try_from(random.below(pause)).unwrap();
        lost ^= random.chance(if lost { 0.06 } else { 0.01 });
        let late = if random.chance(0.1) { 30_000 } else { 0 };
        let session = usize::try_from(random.below(sessions)).unwrap();
        let prompt = 8_000 + random.below(20_000);
        let there = prompt.min(cached[session]);
        let read = match random.below(4) {
            _ if !lost => there,
            0 => 0,
            part => there * part / 5,
        };
        cached[session] = prompt;
        Call {
            at: at - late,
            id: format!("msg_{n}"),
            session: Some(["s-1", "s-2", "s-3", "s-4"][session]),
            input: 40,
            write_5m: prompt - read,
            read,
            ..Call::default()
        }
        .line()
    };
    (0..400).map(&mut call).collect()
}

/// Conversations that miss the cache now and then, as chance has it, and somewhat more often for a while.
pub fn chancy(seed: u64) -> Vec<String> {
    let mut random = Random(seed);
    let mut at = TWO_O_CLOCK;
    let mut often = false;
    let mut call = |n: usize| {
        at += i64::try_from(random.below(30_000)).unwrap();
        often ^= random.chance(if often { 0.05 } else { 0.01 });
        let prompt = 10_000 + random.below(30_000);
        let is_missed = random.chance(if often { 0.25 } else { 0.04 });
        let (write_5m, read) = if is_missed { (prompt, 0) } else { (0, prompt) };
        Call {
            at,
            id: format!("msg_{n}"),
            session: Some(["s-1", "s-2", "s-3"][random.below(3) as usize]),
            input: 40,
            write_5m,
            read,
            ..Call::default()
        }
        .line()
    };
    (0..600).map(&mut call).collect()
}

/// One session that asks once a second, so that much comes between two looks at its rules; some of it late or without a price, and
/// sometimes without a cache.
pub fn dense(seed: u64) -> Vec<String> {
    let mut random = Random(seed);
    let (mut at, mut dear) = (TWO_O_CLOCK, 1);
    let uncached = if random.chance(0.3) {
        random.below(500)
    } else {
        0
    };
    let mut lost = uncached > 0;
    let mut call = |n: usize| {
        let pause = if random.chance(0.02) { 800_000 } else { 2_000 };
        at += i64::try_from(random.below(pause)).unwrap();
        if random.chance(0.02) {
            dear = 1 + random.below(8);
        }
        lost ^= random.chance(0.001) || n as u64 == uncached;
        let prompt = dear * (4_000 + random.below(500));
        let (input, read) = if lost {
            (prompt, 0)
        } else {
            (prompt / 20, prompt)
        };
        let is_priced = random.chance(0.99);
        let late = if random.chance(0.02) {
            random.below(90_000)
        } else {
            0
        };
        Call {
            at: at - i64::try_from(late).unwrap(),
            id: format!("msg_{n}"),
            model: if is_priced {
                "claude-opus-4-7"
            } else {
                "claude-unheard-of"
            },
            session: Some("s-1"),
            input,
            read,
            output: random.below(400),
            ..Call::default()
        }
        .line()
    };
    (0..700).map(&mut call).collect()
}

/// A few responses an hour for five days, and a job that runs for some minutes at about the same time of each: much of it, and dear.
pub fn nightly(seed: u64) -> Vec<String> {
    let mut random = Random(seed);
    let mut requests = Vec::new();
    for day in 0..5 {
        let begun = TWO_O_CLOCK + day * 86_400_000;
        let of_the_day = 60 + random.below(60);
        for _ in 0..of_the_day {
            let at = begun + i64::try_from(random.below(86_400_000)).unwrap();
            requests.push((at, 1_000 + random.below(4_000)));
        }
        let mut at = begun + 10_000_000 + i64::try_from(random.below(2_400_000)).unwrap();
        let dear = 4_000 * (1 + random.below(8));
        let of_the_night = random.below(60);
        for _ in 0..of_the_night {
            at += random.pause_ms(20.0);
            requests.push((at, dear + random.below(4_000)));
        }
    }
    requests.sort_unstable();
    let call = |(n, (at, input)): (usize, (i64, u64))| Call {
        at,
        id: format!("msg_{n}"),
        input,
        output: random.below(200),
        ..Call::default()
    };
    let calls = requests.into_iter().enumerate().map(call);
    calls.map(|call| call.line()).collect()
}

/// Two conversations: one goes on at its own pace and is dearer at some times than at others, the other has bursts and is silent
/// between them.
pub fn by_turns(seed: u64) -> Vec<String> {
    let mut random = Random(seed);
    let mut requests = Vec::new();
    let (mut at, mut dear) = (TWO_O_CLOCK, 1);
    while at < TWO_O_CLOCK + 5 * 3_600_000 {
        at += random.pause_ms(40.0);
        if random.chance(0.04) {
            dear = 1 + random.below(6);
        }
        requests.push((at, "s-1", dear * (1_000 + random.below(500))));
    }
    let mut at = TWO_O_CLOCK + 3_600_000;
    for _ in 0..6 {
        at += random.pause_ms(1_500.0);
        for _ in 0..random.below(40) {
            at += random.pause_ms(6.0);
            requests.push((at, "s-2", 2_000 * (1 + random.below(8))));
        }
    }
    requests.sort_unstable();
    let call = |(n, (at, session, input)): (usize, (i64, &'static str, u64))| Call {
        at,
        id: format!("msg_{n}"),
        session: Some(session),
        input,
        output: random.below(200),
        ..Call::default()
    };
    let calls = requests.into_iter().enumerate().map(call);
    calls.map(|call| call.line()).collect()
}

/// Sessions that come, go on, pause and come back, for a day or two: some are dear for a while, and two or three go on side by side.
pub fn sessions(seed: u64) -> Vec<String> {
    let mut random = Random(seed);
    let (mut at, mut newest) = (TWO_O_CLOCK, 0);
    let mut call = |n: u64| {
        let pause = match random.below(40) {
            0 => 1_000 * (1_200 + random.below(7_200)),
            1..8 => 1_000 * random.below(400),
            _ => 500 * random.below(60),
        };
        at += pause.cast_signed();
        newest += u64::from(random.chance(0.04));
        let back = if random.chance(0.05) { 12 } else { 3 };
        let session = newest.saturating_sub(random.below(back));
        // Each tenth of them is a dear one, and so is each of some hours.
        let is_dear = session % 10 == seed % 10 || at / 7_200_000 % 5 == 0;
        let output = 100 + random.below(if is_dear { 20_000 } else { 1_500 });
        let late = u64::from(random.chance(0.05)) * random.below(90_000);
        let call = Call {
            at: at - late.cast_signed(),
            id: format!("msg_{n}"),
            session: Some(&format!("s-{session}")),
            input: 10 + random.below(500),
            output,
            ..Call::default()
        };
        call.line()
    };
    (0..700).map(&mut call).collect()
}

/// The same of two dozen sessions at once, which are dear together for a while: more than one wants to hear of. Some of what they spend
/// comes in the same seconds.
pub fn crowd(seed: u64) -> Vec<String> {
    let mut random = Random(seed);
    let (mut at, mut is_dear, mut oldest) = (TWO_O_CLOCK, false, 0);
    let mut call = |n: u64| {
        if random.chance(0.02) {
            is_dear = !is_dear;
        }
        at += match random.below(60) {
            0 => 1_000 * random.below(3_000),
            1..30 => 1_000 * random.below(2),
            _ => 1_000 * random.below(30),
        }
        .cast_signed();
        oldest += u64::from(random.chance(0.03));
        let output = 200 + random.below(if is_dear { 9_000 } else { 900 });
        let call = Call {
            at,
            id: format!("msg_{n}"),
            session: Some(&format!("s-{}", oldest + random.below(24))),
            input: 10 + random.below(200),
            output,
            ..Call::default()
        };
        call.line()
    };
    (0..900).map(&mut call).collect()
}

/// The lines without their times.
pub fn lines_of(traffic: &[(i64, String)]) -> Vec<String> {
    traffic.iter().map(|(_, line)| line.clone()).collect()
}
