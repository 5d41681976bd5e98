//! What log shippers put around a line: prefixes of text, and lines that are split over several records.
//!
//! Knows nothing of responses. Docker splits a line longer than 16 KiB into records of which only the last ends with a line
//! feed; the log format of Kubernetes marks them with `P` and `F`.

use super::json::Object;

/// More than this is not put together: it is as long as a line may be.
const MAX_JOINED: usize = 16 << 20;

/// A line without the text that was put before its JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    /// What is left.
    pub(super) body: &'a str,
    /// The time that stood before it, innermost.
    pub(super) time: Option<&'a str>,
    /// Whether it is a part of a longer line.
    pub(super) part: Option<Part<'a>>,
    /// It is a line of a stream of events that holds no data.
    pub(super) is_event_field: bool,
}

/// A record of the Kubernetes log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// `stdout` or `stderr`.
    pub(super) stream: &'a str,
    /// It ends its line.
    pub(super) is_last: bool,
}

/// No prefix that names who wrote a line is longer.
const LONGEST_NAME: usize = 200;

/// How many prefixes may stand before each other.
const MAX_PREFIXES: usize = 4;

/// Takes off the prefixes that are known, up to a part of a line, whose text stays as it is.
pub(super) fn open(line: &str) -> Envelope<'_> {
    let mut envelope = plain(line.trim_start());
    for _ in 0..MAX_PREFIXES {
        let body = envelope.body;
        if body.is_empty() || body.starts_with('{') {
            break;
        }
        if let Some(data) = body.strip_prefix("data:") {
            envelope.body = data.trim_start();
        } else if is_event_field(body) {
            envelope.is_event_field = true;
            break;
        } else if let Some((time, part, rest)) = kubernetes(body) {
            envelope.time = Some(time);
            envelope.part = Some(part);
            envelope.body = rest;
            break;
        } else if let Some((time, rest)) = leading_time(body).filter(|(_, rest)| begins(rest, true))
        {
            envelope.time = Some(time);
            envelope.body = rest;
        } else if let Some(rest) =
            container_name(body).filter(|rest| begins(rest, envelope.time.is_some()))
        {
            envelope.body = rest;
        } else if let Some(rest) = syslog(body, envelope.time.is_some()) {
            envelope.body = rest;
        } else {
            break;
        }
    }
    envelope
}

/// An envelope with nothing taken off.
pub(super) fn plain(line: &str) -> Envelope<'_> {
    Envelope {
        body: line,
        time: None,
        part: None,
        is_event_field: false,
    }
}

/// What may follow a prefix: an object, an event, or another prefix. A time may have stood before it.
fn begins(rest: &str, has_time: bool) -> bool {
    rest.starts_with('{')
        || rest.starts_with("data:")
        || is_event_field(rest)
        || leading_time(rest).is_some()
        || syslog(rest, has_time).is_some()
}

/// The lines of an event stream besides `data:`.
fn is_event_field(body: &str) -> bool {
    let field = |name: &str| {
        body.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(':'))
    };
    field("event") || field("id") || field("retry") || body.starts_with(':')
}

/// `2026-11-23T10:00:00.123456789Z stdout F TEXT`.
fn kubernetes(body: &str) -> Option<(&str, Part<'_>, &str)> {
    let (time, rest) = leading_time(body)?;
    let (stream, rest) = rest.split_once(' ')?;
    // The tag may be followed by others, separated by colons.
    let (tag, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_last = match tag.split(':').next() {
        Some("F") => true,
        Some("P") => false,
        _ => return None,
    };
    matches!(stream, "stdout" | "stderr").then_some((time, Part { stream, is_last }, text))
}

/// A time such as `2026-11-23T10:00:00.000Z` or `2026-11-23 10:00:00,123` and what follows it.
fn leading_time(body: &str) -> Option<(&str, &str)> {
    let bytes = body.as_bytes();
    let looks = bytes.len() > 19
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && bytes[13] == b':'
        && matches!(bytes[10], b'T' | b' ')
        && bytes[..4].iter().all(u8::is_ascii_digit);
    if !looks || !body.is_char_boundary(11) {
        return None;
    }
    let end = 11 + body[11..].find([' ', '\t'])?;
    Some((&body[..end], body[end..].trim_start()))
}

/// The object behind `Nov 23 10:00:00 HOST NAME[PID]: ` of syslog and the journal, and behind what is left of it where the time was
/// written in full and has been taken off: `HOST NAME[PID]: `, or `NAME[PROCESS]: ` of a platform. The short time names no year,
/// so it is not taken for one.
fn syslog(body: &str, has_time: bool) -> Option<&str> {
    let (tag, object) = body
        .split_once(": ")
        .filter(|(tag, _)| tag.len() <= LONGEST_NAME)?;
    let object = object.trim_start();
    let of = |set: &'static str| {
        move |word: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || set.contains(c);
            !word.is_empty() && word.chars().all(allowed)
        }
    };
    let (host, name, process) = (of("-_.:"), of("-_./@"), of("-_."));
    let mut words = tag.split(' ').filter(|word| !word.is_empty());
    let last = words.next_back()?;
    let is_named = match last.strip_suffix(']').and_then(|last| last.split_once('[')) {
        Some((before, id)) => name(before) && process(id),
        // Behind a time that is written in full a program may write what it likes: a level, a name, a sentence.
        None => name(last) && !has_time,
    };
    let rest: Vec<&str> = words.collect();
    let is_placed = match rest[..] {
        [] => has_time,
        [on] => has_time && host(on),
        [month, day, time, on] => !has_time && is_short_time(month, day, time) && host(on),
        _ => false,
    };
    (is_named && is_placed && object.starts_with('{')).then_some(object)
}

/// `Nov 23 10:00:00`.
fn is_short_time(month: &str, day: &str, time: &str) -> bool {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let two = |digits: &str| (1..=2).contains(&digits.len()) && is_digits(digits);
    MONTHS.contains(&month) && two(day) && time.split(':').count() == 3 && time.split(':').all(two)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `api-1  | TEXT` of compose, `0|api  | TEXT` of pm2 and `[pod/api/main] TEXT` of kubectl.
fn container_name(body: &str) -> Option<&str> {
    if let Some(rest) = body.strip_prefix('[') {
        let (name, text) = rest.split_once("] ")?;
        return (name.len() <= LONGEST_NAME && name.contains('/')).then_some(text);
    }
    let (mut name, mut text) = body.split_once('|')?;
    if is_digits(name) {
        (name, text) = text.split_once('|')?;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | ' ');
    (name.len() <= LONGEST_NAME && name.chars().all(plain)).then(|| text.trim_start())
}

/// Parts of lines that have not ended yet, by the stream they came from.
#[derive(Debug, Default)]
pub(super) struct Fragments(Vec<(Box<str>, String)>);

/// What became of a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// It stands for itself.
    Whole,
    /// More is to come.
    Waiting,
    /// This is the whole line that it ends.
    Line(String),
    /// It could not be put together.
    Failed(&'static str),
}

impl Fragments {
    /// Adds a part of a line.
    pub(super) fn add(&mut self, stream: &str, text: &str, is_last: bool) -> Joined {
        let at = self.0.iter().position(|(name, _)| **name == *stream);
        match (at, is_last) {
            (None, true) => Joined::Whole,
            (Some(at), true) => {
                let (_, mut line) = self.0.swap_remove(at);
                line.push_str(text);
                if is_whole(text) && !is_whole(&line) {
                    // The line before was cut off and this one has nothing to do with it.
                    return Joined::Whole;
                }
                Joined::Line(line)
            }
            (None, false) => {
                self.0.push((stream.into(), text.to_owned()));
                Joined::Waiting
            }
            (Some(at), false) => {
                let line = &mut self.0[at].1;
                line.push_str(text);
                if line.len() > MAX_JOINED {
                    self.0.swap_remove(at);
                    return Joined::Failed("a line split over several records is over 16 MiB");
                }
                Joined::Waiting
            }
        }
    }

    /// Docker's record of a line, put together if it was split. Gives the record with the whole line in it.
    pub(super) fn docker(&mut self, record: &Object) -> Joined {
        let Some(log) = record.get("log") else {
            return Joined::Whole;
        };
        let Some(stream) = record.text("stream") else {
            return Joined::Whole;
        };
        let json = log.get();
        if !json.starts_with('"') {
            return Joined::Whole;
        }
        // Some shippers keep the tag of the Kubernetes format beside the text.
        let is_last = match record.text("logtag").as_deref() {
            Some("P") => false,
            Some(_) => true,
            None => json.ends_with("\\n\""),
        };
        if is_last && self.0.is_empty() {
            return Joined::Whole;
        }
        let Ok(text) = serde_json::from_str::<String>(json) else {
            return Joined::Whole;
        };
        if !is_last && !self.has(&stream) && is_whole(&text) {
            return Joined::Whole;
        }
        match self.add(&stream, &text, is_last) {
            Joined::Line(line) => with_log(record, &line).map_or(Joined::Whole, Joined::Line),
            other => other,
        }
    }

    fn has(&self, stream: &str) -> bool {
        self.0.iter().any(|(name, _)| **name == *stream)
    }

    /// Forgets all parts; gives how many lines were left without an end.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(&mut self.0).len()
    }
}

/// The record with another text in `log`.
fn with_log(record: &Object, text: &str) -> Option<String> {
    let mut json = String::with_capacity(text.len() + 256);
    for (key, value) in record.entries() {
        json.push(if json.is_empty() { '{' } else { ',' });
        json.push_str(&serde_json::to_string(key).ok()?);
        json.push(':');
        if key == "log" {
            json.push_str(&serde_json::to_string(text).ok()?);
        } else {
            json.push_str(value.get());
        }
    }
    json.push('}');
    Some(json)
}

/// Whether a text is one whole JSON object.
fn is_whole(text: &str) -> bool {
    let text = text.trim();
    text.starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(line: &str) -> (&str, Option<&str>) {
        let envelope = open(line);
        (envelope.body, envelope.time)
    }

    #[test]
    fn known_prefixes_are_taken_off_and_others_stay() {
        assert_eq!(body("{\"a\":1}"), ("{\"a\":1}", None));
        assert_eq!(body("data: {}"), ("{}", None));
        assert_eq!(body("api-1  | data:{}"), ("{}", None));
        assert_eq!(body("[pod/api-7/main] {}"), ("{}", None));
        let (time, space) = ("2026-11-23T10:00:00.000Z", "2026-11-23 10:00:00,123");
        assert_eq!(body(&format!("{time} {{}}")), ("{}", Some(time)));
        assert_eq!(
            open(&format!("{time} stdout F {{}}")).part,
            Some(Part {
                stream: "stdout",
                is_last: true
            })
        );
        assert_eq!(body(&format!("{space} {{}}")), ("{}", Some(space)));
        for tagged in [
            "Nov 23 10:00:00 web-3 api[4711]: {}",
            "Nov  3 10:00:00 web-3.local docker/api[1]: {}",
            "Nov 23 10:00:00 web-3 api: {}",
            "0|api  | {}",
            "api-1  | Nov 23 10:00:00 web-3 api[4711]: {}",
            "api.1.k2v@node-1    | {}",
        ] {
            assert_eq!(body(tagged), ("{}", None), "{tagged}");
        }
        for tagged in ["app[web.1]: {}", "web-3 api[4711]: {}"] {
            let line = format!("{time} {tagged}");
            assert_eq!(body(&line), ("{}", Some(time)), "{line}");
        }
        for other in [
            "hello {}",
            "api[4711]: {}",
            "web-3 api[4711]: {}",
            "Nov 23 10:00:00 api[4711]: {}",
            "Nov 23 10:00:00 web-3 api[4711]: done {}",
            "Now 23 10:00:00 web-3 api[4711]: {}",
            "2026-11-23T10:00:00Z prompt: {\"usage\":{}}",
            "2026-11-23T10:00:00Z the user asked: {\"usage\":{}}",
            "2026-11-23 10:00:00,123 INFO api: {\"usage\":{}}",
            "0|1|api | {}",
            "api-1  | api[4711]: {}",
            "prompt: {\"usage\":{}}",
            "2026-11-23T10:00:00Z INFO done",
            "a|b",
            "[x] {}",
        ] {
            assert_eq!(body(other), (other, None), "{other}");
        }
        assert!(open("event: message_start").is_event_field);
        assert!(open("event: x {").is_event_field);
    }

    #[test]
    fn parts_are_joined_by_their_stream() {
        let mut parts = Fragments::default();
        assert_eq!(parts.add("stdout", "{\"a\":", false), Joined::Waiting);
        assert_eq!(parts.add("stderr", "{}", true), Joined::Whole);
        assert_eq!(
            parts.add("stdout", "1}", true),
            Joined::Line("{\"a\":1}".to_owned())
        );
        assert_eq!(parts.add("stdout", "{\"cut", false), Joined::Waiting);
        assert_eq!(parts.add("stdout", "{}", true), Joined::Whole);
        assert_eq!(parts.clear(), 0);
    }

    #[test]
    fn a_line_that_docker_split_is_put_back_into_its_record() {
        let mut parts = Fragments::default();
        let mut add = |json: &str| parts.docker(&Object::parse(json).unwrap());
        assert_eq!(
            add(r#"{"log":"{\"a\":\"x","stream":"stdout","time":"1"}"#),
            Joined::Waiting
        );
        assert_eq!(
            add(r#"{"log":" y","stream":"stdout","time":"2"}"#),
            Joined::Waiting
        );
        assert_eq!(
            add(r#"{"log":"\"}\n","stream":"stdout","time":"3"}"#),
            Joined::Line(r#"{"log":"{\"a\":\"x y\"}\n","stream":"stdout","time":"3"}"#.to_owned())
        );
        assert_eq!(add(r#"{"log":"{}","stream":"stdout"}"#), Joined::Whole);
        assert_eq!(add(r#"{"log":"text\n","stream":"stdout"}"#), Joined::Whole);
    }
}
