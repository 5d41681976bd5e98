//! `--mute FILE`: what people know of already and need not hear again until a time.
//!
//! A line is `WHAT … until TIME`: the name of a rule, a key such as `session=7f3a`, the id of an episode, or several of these,
//! which must all fit. The file may change at any time.
//!
//! Knows notices and times. Does not know what else keeps quiet.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::SystemTime;

use super::json::episode;
use super::text::clean;
use crate::monitor::{LABELS, Notice, Time};
use crate::parse::{Zone, moment};

/// A file of mutes.
#[derive(Debug, Clone)]
pub struct MuteFile {
    path: PathBuf,
    zone: Zone,
    /// It was looked for.
    is_known: bool,
    /// Of the version that was read; none if it was not there.
    modified: Option<SystemTime>,
    mutes: Vec<Mute>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mute {
    what: Vec<What>,
    until: Time,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Rule(String),
    Key(String, String),
    Episode(String),
}

impl MuteFile {
    /// A file whose times without a zone are of `zone`. It is read when it is first asked.
    pub fn new(path: PathBuf, zone: Zone) -> Self {
        Self {
            path,
            zone,
            is_known: false,
            modified: None,
            mutes: Vec::new(),
        }
    }

    /// Reads the file if it has changed; gives what is wrong with it, or that it is not there.
    pub(super) fn refresh(&mut self) -> Vec<String> {
        let modified = fs::metadata(&self.path)
            .and_then(|meta| meta.modified())
            .ok();
        if self.is_known && modified == self.modified {
            return Vec::new();
        }
        (self.is_known, self.modified) = (true, modified);
        let path = self.path.display();
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(e) => {
                self.mutes.clear();
                return vec![if e.kind() == ErrorKind::NotFound {
                    format!("{path} is not there, so nothing is muted until it is")
                } else {
                    format!("cannot read {path}, so nothing is muted: {}", e.kind())
                }];
            }
        };
        let (mutes, mistakes) = parse(&text, self.zone);
        self.mutes = mutes;
        let name = |(line, text): (usize, String)| format!("{path}:{line}: {text}");
        mistakes.into_iter().map(name).collect()
    }

    /// Whether a notice is muted at a moment.
    pub(super) fn mutes(&self, notice: &Notice, now: Time) -> bool {
        self.mutes
            .iter()
            .any(|mute| mute.until > now && mute.fits(notice))
    }
}

impl Mute {
    fn fits(&self, notice: &Notice) -> bool {
        self.what.iter().all(|what| match what {
            What::Rule(name) => *notice.rule.name == **name,
            What::Episode(id) => episode(notice) == *id,
            What::Key(label, value) => {
                let mut key = notice.key.iter();
                key.any(|(known, is)| known.name() == label && is == value)
            }
        })
    }
}

/// The lines that can be meant, and what is wrong with the others, by number.
fn parse(text: &str, zone: Zone) -> (Vec<Mute>, Vec<(usize, String)>) {
    let (mut mutes, mut mistakes) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        match parse_line(line, zone) {
            Ok(mute) => mutes.push(mute),
            Err(text) => mistakes.push((number + 1, text)),
        }
    }
    (mutes, mistakes)
}

fn parse_line(line: &str, zone: Zone) -> Result<Mute, String> {
    let way_out = "write it as RULE, LABEL=VALUE or EPISODE, then: until 2026-11-26 18:00";
    let (what, until) = line
        .split_once(" until ")
        .ok_or_else(|| format!("\"{}\" has no end; {way_out}", clean(line)))?;
    let what: Vec<What> = what
        .split_whitespace()
        .map(|word| match word.split_once('=') {
            Some((label, value)) if is_label(label) => {
                Ok(What::Key(label.to_owned(), value.to_owned()))
            }
            Some((label, _)) => Err(format!("no key has a label \"{}\"", clean(label))),
            None if word.len() == 16 && word.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Ok(What::Episode(word.to_ascii_lowercase()))
            }
            None => Ok(What::Rule(word.to_owned())),
        })
        .collect::<Result<_, _>>()?;
    if what.is_empty() {
        return Err(format!("it names nothing to mute; {way_out}"));
    }
    let until = moment(until.trim(), zone)
        .ok_or_else(|| format!("\"{}\" is no time; {way_out}", clean(until.trim())))?;
    Ok(Mute { what, until })
}

/// What keys are made of: a label of its own name, or a place in the line.
fn is_label(name: &str) -> bool {
    name.starts_with('/') || LABELS.iter().any(|known| known.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_mistakes_named() {
        let zone: Zone = "+02:00".parse().expect("a zone");
        let text = "# known\ncache-break until 2026-11-26 18:00\nsession-cost session=7f3a until 2026-11-26T18:00:00Z # mine\n5F1A37885fd22237 until 2026-11-27\n/tenant=acme until 2026-11-27\ncache-break\nuser=x until 2026-11-27\ncost-rate until tomorrow\n";
        let (mutes, mistakes) = parse(text, zone);
        let at = |n: usize| mutes[n].until.0;
        assert_eq!(at(0), 1_795_708_800_000);
        assert_eq!(at(1) - at(0), 2 * 3_600_000);
        assert_eq!(mutes[1].what.len(), 2);
        assert_eq!(
            mutes[2].what,
            [What::Episode("5f1a37885fd22237".to_owned())]
        );
        let tenant = What::Key("/tenant".to_owned(), "acme".to_owned());
        assert_eq!(mutes[3].what, [tenant]);
        let lines: Vec<usize> = mistakes.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [6, 7, 8], "{mistakes:?}");
    }

    #[test]
    fn a_file_that_is_not_there_is_said_once_and_read_when_it_comes() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mute");
        let mut file = MuteFile::new(path.clone(), Zone::UTC);
        let said = file.refresh();
        assert!(
            said.len() == 1 && said[0].ends_with("is not there, so nothing is muted until it is"),
            "{said:?}"
        );
        assert!(file.refresh().is_empty());
        fs::write(&path, "cost-rate until 2099-01-01\n").unwrap();
        assert!(file.refresh().is_empty());
        assert_eq!(file.mutes.len(), 1);
        fs::remove_file(&path).unwrap();
        assert_eq!(file.refresh().len(), 1);
        assert!(file.mutes.is_empty());
    }
}
