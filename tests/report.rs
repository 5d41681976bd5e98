//! `replay --report`: the page is whole by itself, says what the terminal says, and works in a browser.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Watch, follow::has, program, steady_call};

/// A textbook log with a session whose name would be markup, and the page made of it.
fn page(home: &Path, args: &[&str]) -> (PathBuf, String) {
    let mut lines: Vec<String> = (-600..600).map(|n| steady_call(n, n < 0)).collect();
    lines.push(steady_call(600, true).replace("claude-", "<script>alert(1)</script>&claude-"));
    let log = home.join("app.log");
    fs::write(&log, lines.join("\n") + "\n").unwrap();
    let page = home.join("report.html");
    let output = program(home)
        .args(["replay", "--config", "-", "--timezone", "UTC", "--report"])
        .arg(&page)
        .args(args)
        .arg(&log)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let html = fs::read_to_string(&page).unwrap();
    (page, html)
}

#[test]
fn a_page_says_what_the_terminal_says_and_loads_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (_, html) = page(
        home.path(),
        &[
            "--without",
            "9h",
            "--response",
            "10m",
            "--sweep",
            "cost-rate.above=0.3,2",
        ],
    );
    for part in [
        "1,201 responses in 1,201 lines of 1 file",
        "Cost a minute",
        "Share of prompt tokens read from the cache",
        "limit of cost-rate: $2.00 at the end",
        "limit of cache-miss: 50 % at the end",
        "cache-break, told 2026-11-23 02:00:36: 2 requests in a row missed the cache",
        "look at: the change that removed cache_control at 02:00",
        "$135.00 lost if nobody notices for 9h; $4.05 if the alert is answered within 10m",
        "Dollars exposed, by alerts",
        "<td>2026-11-22",
        "&lt;script&gt;alert(1)&lt;/script&gt;&amp;claude-",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let opened = html.matches("<script").count();
    assert_eq!(opened, 2, "the data and what shows it");
    for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
}

/// What a day may cost in all is a line far below what its minutes cost.
#[test]
fn the_limit_of_a_day_is_not_drawn_among_minutes() {
    let home = tempfile::tempdir().unwrap();
    let set = [
        "--set",
        "cost-day.above=500",
        "--set",
        "cost-spike.above=500",
    ];
    let (_, html) = page(home.path(), &set);
    assert!(html.contains("limit of cost-spike: $8.33 at the end"));
    assert!(!html.contains("limit of cost-day"));
}

#[test]
fn a_page_that_cannot_be_written_is_refused_before_anything_is_read() {
    let home = tempfile::tempdir().unwrap();
    for (place, why) in [
        ("none/report.html", "cannot be written there"),
        (".", "is a folder"),
        ("-", "name a file"),
    ] {
        let output = program(home.path())
            .args(["replay", "--config", "-", "--report", place, "-"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(why) && stderr.contains(place), "{stderr}");
    }
    // Without a response there is nothing to draw, and no file.
    let place = home.path().join("report.html");
    let output = program(home.path())
        .args(["replay", "--config", "-", "--report"])
        .arg(&place)
        .arg("-")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("report.html: not written"), "{stderr}");
    assert!(!place.exists());
    assert_eq!(
        fs::read_dir(home.path()).unwrap().count(),
        0,
        "nothing is left"
    );
}

#[test]
fn whoever_interrupts_the_reading_finds_no_half_of_a_page() {
    let home = tempfile::tempdir().unwrap();
    let mut command = program(home.path());
    command
        .args(["replay", "--config", "-", "--report", "report.html", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut watch = Watch::start(command);
    let mut pipe = watch.child.stdin.take().unwrap();
    for n in 0..2_i64 {
        let call = steady_call(n * 1200, false).replace("\"input_tokens\":", "\"input_tokens\":90");
        writeln!(pipe, "{call}").unwrap();
    }
    // It reads.
    watch.expect("CRITICAL cost-rate");
    watch.child.kill().unwrap();
    watch.child.wait().unwrap();
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// What a browser makes of a page: its document once scripts have run, and what it complained about.
fn browse(page: &Path) -> (String, Vec<String>) {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
        ])
        .args([
            "--virtual-time-budget=5000",
            "--window-size=1200,1000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", home.path().display()))
        .arg(format!("file://{}", page.display()))
        .env("HOME", home.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let complaints = stderr.lines().filter(|line| line.contains("CONSOLE"));
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        complaints.map(str::to_owned).collect(),
    )
}

#[test]
fn a_browser_shows_the_page_without_complaint_and_what_is_under_the_pointer() {
    if !has("chromium") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (path, html) = page(home.path(), &["--sweep", "cost-rate.above=0.3,2"]);
    let (document, complaints) = browse(&path);
    assert_eq!(complaints, Vec::<String>::new());
    assert!(document.contains("<figcaption>Cost a minute"));

    // A pointer over the middle of the first chart, where the cache has just been lost.
    let script = "<script>{const svg=document.querySelector('.panel svg'),box=svg.getBoundingClientRect();\
        svg.dispatchEvent(new PointerEvent('pointermove',{clientX:box.left+box.width*.75,clientY:box.top+20}))}</script>";
    let moved = home.path().join("moved.html");
    fs::write(&moved, format!("{html}{script}")).unwrap();
    let (document, complaints) = browse(&moved);
    assert_eq!(complaints, Vec::<String>::new());
    let (_, tip) = document.split_once("id=\"tip\"").unwrap();
    let (tip, _) = tip.split_once("</div>").unwrap();
    for part in [
        "2026-11-23 0",
        "cost a minute",
        "read from the cache</em>0 %",
        "responses",
    ] {
        assert!(tip.contains(part), "{part}: {tip}");
    }

    // It would be heard if something were wrong, and nothing can be loaded.
    let script = "<script>nothing.at.all</script><img src='https://example.com/a.png'>";
    fs::write(&moved, format!("{html}{script}")).unwrap();
    let (_, complaints) = browse(&moved);
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(
        complaints[1].contains("Content Security Policy")
            || complaints[0].contains("Content Security Policy")
    );
}
