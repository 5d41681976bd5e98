//! The laboratory of `replay`: sweeps, labelled incidents, what alerts save, suggestions, failing on alerts.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Call, Loss, TWO_O_CLOCK, Textbook, program, steady_call};
use serde_json::{Value, json};

struct Log {
    home: tempfile::TempDir,
    path: PathBuf,
}

impl Log {
    fn of(lines: &[String]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("app.log");
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        Self { home, path }
    }

    fn replay(&self, args: &[&str]) -> (Vec<Value>, i32) {
        let output = program(self.home.path())
            .args(["replay", "--json", "--config", "-"])
            .args(args)
            .arg(&self.path)
            .output()
            .unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let objects = stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        (objects.collect(), output.status.code().unwrap())
    }

    fn beside(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

fn event<'a>(objects: &'a [Value], name: &str) -> Vec<&'a Value> {
    let of = |object: &&Value| object["event"] == name;
    objects.iter().filter(of).collect()
}

/// Hours at 100 requests an hour of 50,000 tokens, the cache lost at two o'clock.
fn textbook(before: i64, after: i64) -> Vec<String> {
    let call = |n: i64| steady_call(n, n < 0);
    (-before * 100..after * 100).map(call).collect()
}

/// What the alerts of a replay come to: episodes, notices, dollars exposed, those that several rules exposed at once counted once.
fn sums_of_alerts(objects: &[Value]) -> (usize, usize, f64) {
    let alerts = event(objects, "alert");
    let last: BTreeMap<String, &Value> = alerts
        .iter()
        .map(|alert| (alert["episode"].to_string(), *alert))
        .collect();
    let text = |alert: &Value, key: &str| alert[key].as_str().unwrap().to_owned();
    let until = |alert: &Value| match alert["reason"].as_str() {
        Some("resolved") => text(alert, "at"),
        _ => "9999".to_owned(),
    };
    let usd = |alert: &Value| alert["exposed_usd"].as_f64().unwrap_or(0.0);
    let meet = |one: &Value, other: &Value| {
        text(one, "since") <= until(other) && text(other, "since") <= until(one)
    };
    let mut left: Vec<&Value> = last
        .values()
        .copied()
        .filter(|one| usd(one) > 0.0)
        .collect();
    let mut exposed = 0.0;
    while let Some(first) = left.first() {
        // All that were on together with it, or with one that was.
        let mut group = vec![*first];
        while let Some(one) = left
            .iter()
            .find(|one| !group.contains(one) && group.iter().any(|known| meet(known, one)))
        {
            group.push(one);
        }
        let of = |rule: &str| {
            group
                .iter()
                .filter(|one| one["rule"] == rule)
                .map(|one| usd(one))
                .sum::<f64>()
        };
        let rules = group.iter().map(|one| text(one, "rule"));
        let most = rules.max_by(|a, b| of(a).total_cmp(&of(b))).unwrap();
        exposed += of(&most);
        let counted: Vec<&Value> = group
            .into_iter()
            .filter(|one| one["rule"] == *most)
            .collect();
        left.retain(|one| !counted.iter().any(|known| meet(known, one)));
    }
    let notices = alerts.iter().filter(|alert| alert["reason"] != "stopped");
    (last.len(), notices.count(), exposed)
}

#[test]
fn a_night_before_the_cache_broke_is_not_in_the_pace() {
    let nights = [-100..0, 1000..1010];
    let call = |n: i64| steady_call(n, n < 0);
    let log = Log::of(&nights.into_iter().flatten().map(call).collect::<Vec<_>>());
    let (objects, _) = log.replay(&[]);
    let alert = event(&objects, "alert")[0];
    assert_eq!(
        (&alert["rule"], &alert["reason"]),
        (&json!("cache-break"), &json!("first"))
    );
    // A hundred requests an hour of 50,000 tokens, at $4.50 a million more than from the cache.
    assert_eq!(alert["pace_usd_per_hour"].as_f64(), Some(22.5), "{alert}");
}

#[test]
fn a_burst_of_seconds_is_not_blown_up_to_an_hour() {
    let missed = |n: i64| {
        let burst = Call {
            at: TWO_O_CLOCK + n * 200,
            id: format!("msg_burst{n}"),
            input: 50_000,
            ..Call::default()
        };
        burst.line()
    };
    let served = (-100..0).map(|n| steady_call(n, true));
    let log = Log::of(&served.chain((0..8).map(missed)).collect::<Vec<_>>());
    let (objects, _) = log.replay(&[]);
    let alert = event(&objects, "alert")[0];
    let [exposed, pace] = ["exposed_usd", "pace_usd_per_hour"].map(|key| alert[key].as_f64());
    // Of the minute that it has not lasted.
    assert_eq!(
        pace,
        exposed.map(|usd| (usd * 60.0 * 100.0).round() / 100.0),
        "{alert}"
    );
}

/// What a shell puts in the place of `<(…)` can be read once only.
#[cfg(unix)]
#[test]
fn a_configuration_that_comes_through_a_pipe_holds_for_all_settings() {
    let log = Log::of(&textbook(2, 1));
    let rows = |config: &str, text: &str| {
        let (from, mut to) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut to, text.as_bytes()).unwrap();
        drop(to);
        let output = program(log.home.path())
            .args(["replay", "--json", "--config", config])
            .args(["--sweep", "cache-break.min_waste=1,2"])
            .arg(&log.path)
            .stdin(from)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let text = "[[rule]]\nname = \"cost-rate\"\nabove = 0.1\n";
    let file = log.beside("c.toml", text);
    let with_file = rows(&file, "");
    assert!(with_file.contains(r#""rule":"cost-rate""#), "{with_file}");
    assert_eq!(rows("/dev/stdin", text), with_file);
}

/// Law 11.
#[test]
fn a_sweep_of_many_settings_is_as_many_single_replays() {
    for seed in 1..=3 {
        let book = Textbook {
            per_hour: 900.0,
            history_ms: 3 * 3_600_000,
            loss: if seed % 2 == 0 {
                Loss::Dropped
            } else {
                Loss::Rewritten
            },
            incident_ms: 1_200_000,
            after_ms: 3_600_000,
            seed,
        };
        let log = Log::of(&book.lines().0);
        let rates = ["0.2", "0.5", "1"];
        let windows = ["60s", "5m"];
        let spikes = ["1.5", "3"];
        let (swept, _) = log.replay(&[
            "--sweep",
            "cost-rate.above=0.2,0.5,1",
            "--sweep",
            "cost-rate.window=60s,5m",
            "--sweep",
            "token-spike.times_usual=1.5,3",
            "--since",
            "2026-11-23T01:00:00Z",
        ]);
        let swept = event(&swept, "sweep");
        let mut singles = Vec::new();
        for rate in rates {
            for window in windows {
                for spike in spikes {
                    singles.push((rate, window, spike));
                }
            }
        }
        assert_eq!(swept.len(), singles.len());
        let mut different = std::collections::BTreeSet::new();
        for (object, (rate, window, spike)) in swept.iter().zip(singles) {
            let set = json!({
                "cost-rate.above": rate, "cost-rate.window": window, "token-spike.times_usual": spike,
            });
            assert_eq!(object["set"], set);
            let (rate, window, spike) = (
                format!("cost-rate.above={rate}"),
                format!("cost-rate.window={window}"),
                format!("token-spike.times_usual={spike}"),
            );
            let (single, _) = log.replay(&[
                "--set",
                &rate,
                "--set",
                &window,
                "--set",
                &spike,
                "--since",
                "2026-11-23T01:00:00Z",
            ]);
            let (alerts, notices, exposed) = sums_of_alerts(&single);
            assert_eq!(object["alerts"], alerts, "{set}");
            assert_eq!(object["notices"], notices, "{set}");
            let swept_usd = object["exposed_usd"].as_f64().unwrap();
            assert!(
                (swept_usd - exposed).abs() < 1e-4,
                "{set}: {swept_usd} against {exposed}"
            );
            different.insert(format!("{alerts} {notices} {exposed:.2}"));
        }
        assert!(
            different.len() > 1,
            "all settings came to the same, which shows nothing"
        );
    }
}

/// What a run reports beyond what was counted of it is spent in each setting of a sweep too: its budgets tell when they tell alone.
#[test]
fn what_runs_report_is_spent_in_all_settings() {
    let call = |n: i64| {
        let call = Call {
            at: TWO_O_CLOCK + n * 36_000,
            id: format!("msg_{n}"),
            session: Some("s-7"),
            input: 50_000,
            output: 200,
            ..Call::default()
        };
        call.line()
    };
    let report = |n: i64, tokens: i64| {
        let usage = json!({"claude-opus-4-7": {"inputTokens": tokens, "outputTokens": 200 * n}});
        let id = format!("report-{n}");
        json!({"type": "result", "num_turns": 1, "session_id": "s-7", "uuid": id, "modelUsage": usage}).to_string()
    };
    let mut lines: Vec<String> = (0..90).map(call).collect();
    // Each says more than was counted until then; what is counted later comes out of that first.
    lines.insert(60, report(60, 6_000_000));
    lines.insert(31, report(30, 2_000_000));
    let log = Log::of(&lines);
    let budget = ["--budget", "120/day"];
    let (swept, _) = log.replay(&[&budget[..], &["--sweep", "cost-rate.above=0.1,0.4,9"]].concat());
    let told = |objects: &[Value]| {
        let alerts = event(objects, "alert");
        let of_budgets = alerts.iter().filter(|alert| alert["rule"] == "budget");
        of_budgets
            .map(|alert| alert["at"].to_string())
            .collect::<Vec<_>>()
    };
    let rows = event(&swept, "sweep");
    assert_eq!(rows.len(), 3);
    for (object, above) in rows.iter().zip(["0.1", "0.4", "9"]) {
        let set = format!("cost-rate.above={above}");
        let (single, _) = log.replay(&[&budget[..], &["--set", &set]].concat());
        let (alerts, notices, _) = sums_of_alerts(&single);
        assert_eq!(object["alerts"], alerts, "{set}");
        assert_eq!(object["notices"], notices, "{set}");
        assert_eq!(told(&single), told(&swept));
    }
    let without: Vec<String> = lines
        .into_iter()
        .filter(|line| !line.contains("report"))
        .collect();
    let (without, _) = Log::of(&without).replay(&budget);
    assert_ne!(told(&without), told(&swept), "the reports changed nothing");
}

#[test]
fn nine_hours_without_an_alert_cost_225_dollars_and_an_answer_in_ten_minutes_saves_98_percent() {
    let log = Log::of(&textbook(2, 10));
    let (objects, code) = log.replay(&["--without", "9h", "--response", "10m"]);
    assert_eq!(code, 0);
    let impact = event(&objects, "impact")[0];
    assert_eq!(impact["billed_usd"], json!(225.0));
    assert_eq!(impact["wasted_usd"], json!(202.5));
    assert_eq!(impact["exposed_without_usd"], json!(202.5));
    // Told at the second affected request, 36 s after the first; then ten minutes of one request each 36 s.
    assert_eq!(impact["exposed_with_usd"], json!(18.0 * 0.225));
    assert_eq!(impact["is_lower_bound"], json!(false));
    let output = program(log.home.path())
        .args([
            "replay",
            "--config",
            "-",
            "--without",
            "9h",
            "--response",
            "10m",
        ])
        .arg(&log.path)
        .output()
        .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    for words in [
        "$225.00 billed for prompt that had been cached, $202.50 more than from the cache",
        "$202.50 lost if nobody notices for 9h; $4.05 if the alert is answered within 10m: $198.45 saved (98.0 %)",
    ] {
        assert!(report.contains(words), "{report}");
    }
}

#[test]
fn a_log_that_ends_before_that_says_that_it_may_have_been_more() {
    let log = Log::of(&textbook(2, 1));
    let (objects, _) = log.replay(&["--without", "9h"]);
    assert_eq!(event(&objects, "impact")[0]["is_lower_bound"], json!(true));
}

#[test]
fn labelled_incidents_are_found_or_missed_and_alarms_outside_are_false() {
    let log = Log::of(&textbook(3, 2));
    let labels = log.beside(
        "labels.jsonl",
        r#"{"id":"lost","start":"2026-11-23T02:00:00Z","end":"2026-11-23T03:00:00Z","rule":"cache-break"}
{"id":"nothing","start":"2026-11-22T23:30:00Z","end":"2026-11-23T00:30:00Z","note":"nobody could have seen it"}
{"id":"elsewhere","start":"2026-11-20T00:00:00Z","end":"2026-11-20T01:00:00Z"}
"#,
    );
    let (objects, _) = log.replay(&["--labels", &labels]);
    let score = event(&objects, "incidents")[0];
    assert_eq!(
        (&score["incidents"], &score["found"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(
        (&score["true_alarms"], &score["false_alarms"]),
        (&json!(1), &json!(0))
    );
    let [lost, nothing, elsewhere] = &score["each"].as_array().unwrap()[..] else {
        panic!("{score}");
    };
    assert_eq!(
        (&lost["found_by"], &lost["seconds_to_detect"]),
        (&json!("cache-break"), &json!(36.0))
    );
    assert_eq!(lost["exposed_usd"], json!(0.45));
    assert_eq!(nothing["found_by"], json!(null));
    assert_eq!(nothing["saved_usd"], json!(0.0));
    assert_eq!(elsewhere["first_affected"], json!(null));
    // Only that session counts.
    let other = log.beside(
        "other.jsonl",
        r#"{"id":"lost","start":"2026-11-23T02:00:00Z","end":"2026-11-23T03:00:00Z","key":"another"}"#,
    );
    let (objects, _) = log.replay(&["--labels", &other]);
    assert_eq!(
        event(&objects, "incidents")[0]["each"][0]["first_affected"],
        json!(null)
    );
}

#[test]
fn a_file_of_incidents_with_a_mistake_is_refused_with_its_line_and_the_way_out() {
    let log = Log::of(&textbook(1, 1));
    let good = r#"{"id":"a","start":"2026-11-23T02:00:00Z","end":"2026-11-23T03:00:00Z"}"#;
    for (text, expected) in [
        (String::new(), "holds no incident"),
        (
            format!("{good}\nnot json"),
            "labels.jsonl:2: it is no JSON object; write {\"id\"",
        ),
        (good.replace("\"id\"", "\"name\""), "unknown field `name`"),
        (good.replace("T03", "T01"), "it ends before it starts"),
        (
            good.replace("2026-11-23T02:00:00Z", "soon"),
            "start: \"soon\" is not a time",
        ),
        (
            good.replace('}', ",\"rule\":\"cost\"}"),
            "there is no rule \"cost\"; there are cost-rate",
        ),
    ] {
        let labels = log.beside("labels.jsonl", &text);
        let output = program(log.home.path())
            .args(["replay", "--config", "-", "--labels", &labels])
            .arg(&log.path)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn an_alert_fails_the_run_only_if_it_is_as_severe_as_asked() {
    let broken = Log::of(&textbook(2, 1));
    assert_eq!(broken.replay(&[]).1, 0);
    assert_eq!(broken.replay(&["--fail-on", "critical"]).1, 1);
    assert_eq!(broken.replay(&["--fail-on", "info"]).1, 1);
    let lenient = ["--set", "cache-break.severity=warning", "--fail-on"];
    assert_eq!(broken.replay(&[&lenient[..], &["critical"]].concat()).1, 0);
    assert_eq!(broken.replay(&[&lenient[..], &["warning"]].concat()).1, 1);
    let healthy = Log::of(&textbook(2, 0));
    assert_eq!(healthy.replay(&["--fail-on", "info"]).1, 0);
    let empty = Log::of(&[]);
    assert_eq!(
        empty.replay(&["--fail-on", "info"]).1,
        5,
        "no data is not that nothing fired"
    );
}

#[test]
fn a_suggestion_is_a_configuration_that_costs_no_more_on_what_it_was_chosen_on() {
    let book = |seed| Textbook {
        per_hour: 300.0,
        history_ms: 12 * 3_600_000,
        loss: Loss::Rewritten,
        incident_ms: 3_600_000,
        after_ms: 6 * 3_600_000,
        seed,
    };
    for seed in 1..=3 {
        let log = Log::of(&book(seed).lines().0);
        let (objects, code) = log.replay(&["--suggest", "--page-cost", "0.10"]);
        assert_eq!(code, 0);
        let suggestion = event(&objects, "suggestion")[0];
        let part = &suggestion["parts"][0];
        let cost = |rules: &str| part[rules]["cost_usd"].as_f64().unwrap();
        assert!(cost("suggested") <= cost("present"), "{suggestion}");
        let toml = log.beside("suggested.toml", suggestion["toml"].as_str().unwrap());
        // It is a configuration, and it comes to what was promised.
        let output = program(log.home.path())
            .args(["replay", "--json", "--config", &toml])
            .arg(&log.path)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        let stdout = String::from_utf8(output.stdout).unwrap();
        let objects: Vec<Value> = stdout
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(
            part["suggested"]["alerts"],
            sums_of_alerts(&objects).0,
            "{suggestion}"
        );
    }
}

#[test]
fn what_cannot_be_tried_is_refused_with_the_way_out() {
    let home = tempfile::tempdir().unwrap();
    for (args, expected) in [
        (&["--sweep", "cost-rate"][..], "write RULE.FIELD=0.5..5:0.5"),
        (
            &["--sweep", "cost-rat.above=1,2"],
            "did you mean \"cost-rate\"",
        ),
        (&["--sweep", "cost-rate.abov=1,2"], "did you mean \"above\""),
        (
            &["--sweep", "cost-rate.window=61s,60s"],
            "the nearest is 60 s",
        ),
        (
            &["--sweep", "cost-rate.above=0..100:0.001"],
            "take a larger step",
        ),
        (
            &[
                "--sweep",
                "cost-rate.above=1",
                "--sweep",
                "cost-rate.above=2",
            ],
            "such as cost-rate.above=1,2,4",
        ),
        (
            &[
                "--set",
                "errors.enabled=false",
                "--sweep",
                "errors.above=0.1,0.2",
            ],
            "add --set errors.enabled=true",
        ),
        (&["--suggest", "-"], "name the file"),
        (&["--page-cost", "5"], "add --suggest"),
        (&["--response", "5m"], "add --without 9h"),
        (&["--labels", "nowhere.jsonl"], "cannot read nowhere.jsonl"),
    ] {
        refuses(home.path(), args, expected);
    }
}

fn refuses(home: &Path, args: &[&str], expected: &str) {
    fs::write(home.join("app.log"), "").unwrap();
    let output = program(home)
        .current_dir(home)
        .args(["replay", "--config", "-"])
        .args(args)
        .args((!args.contains(&"-")).then_some("app.log"))
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(stderr.contains(expected), "{args:?}: {stderr}");
}
