//! Patterns with wildcards, as people write them for names and for paths.
//!
//! `*` and `?`, `[a-z]` and `[!a-z]`, `{this,that}`, and a backslash before what is meant literally. Knows nothing of what
//! the names are of.

use std::borrow::Cow;
use std::path::Path;

/// What stands in the place of slashes where they are like any other character. It is in no name.
const NO_SLASH: u8 = 0;

/// A pattern, and what wildcards stand for in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// The same, as the library takes it.
    glob: Vec<u8>,
    kind: Kind,
    /// It is that of any text at all but none.
    is_any: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Name,
    Path,
}

impl Pattern {
    /// A pattern for names: wildcards stand for any characters.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn of_names(text: &str) -> Result<Self, String> {
        Self::of(text, Kind::Name)
    }

    /// A pattern for paths: wildcards stand for any characters but slashes, `**` for any number of directories.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn of_paths(text: &str) -> Result<Self, String> {
        Self::of(text, Kind::Path)
    }

    fn of(text: &str, kind: Kind) -> Result<Self, String> {
        fast_glob::validate(text).map_err(|e| e.to_string())?;
        // The library would take it for a "not".
        let glob = if text.starts_with('!') {
            format!("\\{text}")
        } else {
            text.to_owned()
        };
        Ok(Self {
            text: text.to_owned(),
            glob: kind.seen(glob.as_bytes()).into_owned(),
            kind,
            is_any: text == "?*",
        })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether any name fits it.
    pub const fn is_any(&self) -> bool {
        self.is_any
    }

    /// Whether all of a name fits it.
    pub fn matches(&self, name: &str) -> bool {
        if self.is_any {
            // Asked of each response, and no work for a pattern.
            !name.is_empty()
        } else {
            self.fits(name.as_bytes())
        }
    }

    /// Whether all of a path fits it, with or without the `./` that it may begin with. Its bytes need not be text.
    pub fn matches_path(&self, path: &Path) -> bool {
        let plain = path.strip_prefix("./").unwrap_or(path);
        [path, plain]
            .iter()
            .any(|path| self.fits(path.as_os_str().as_encoded_bytes()))
    }

    fn fits(&self, name: &[u8]) -> bool {
        fast_glob::glob_match(&self.glob, self.kind.seen(name))
    }
}

impl Kind {
    /// What the library is to see of a pattern or a name.
    fn seen(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        if self == Self::Path || !bytes.contains(&b'/') {
            return Cow::Borrowed(bytes);
        }
        let seen = bytes.iter().map(|b| if *b == b'/' { NO_SLASH } else { *b });
        Cow::Owned(seen.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    /// Each of these patterns, with what fits it and what does not.
    fn check(of: fn(&str) -> Result<Pattern, String>, cases: &[(&str, &str, &str)]) {
        for (pattern, fits, differs) in cases {
            let pattern = of(pattern).unwrap();
            assert!(pattern.matches(fits), "{pattern:?} {fits}");
            assert!(!pattern.matches(differs), "{pattern:?} {differs}");
        }
    }

    #[test]
    fn wildcards_in_names_stand_for_slashes_too() {
        check(
            Pattern::of_names,
            &[
                ("claude-opus-*", "claude-opus-4-7", "claude-sonnet-4-5"),
                ("*opus*", "anthropic/claude-opus-4-7", "anthropic/claude"),
                ("/srv/*/app", "/srv/a/b/app", "/srv/a/app2"),
                ("?*", "ü", ""),
                ("[a-c]?ü", "b-ü", "d-ü"),
                ("[!a-c]/**", "d/e/f", "a/e/f"),
                ("{app,web{1,2}}-*", "web2-live", "web3-live"),
                ("!a*", "!ab", "b"),
                (r"\*", "*", "a"),
                ("a**b", "a/x/b", "a/x/c"),
                ("", "", "a"),
            ],
        );
    }

    #[test]
    fn wildcards_in_paths_end_at_slashes() {
        check(
            Pattern::of_paths,
            &[
                ("/var/log/*/a.log", "/var/log/x/a.log", "/var/log/x/y/a.log"),
                ("/var/**/a.log", "/var/x/y/a.log", "/var/x/y/b.log"),
                ("/var/**/a.log", "/var/a.log", "/var/xa.log"),
                ("/var/?.log", "/var/a.log", "/var//.log"),
                ("logs/{a,b}[0-9].jsonl", "logs/b7.jsonl", "logs/c7.jsonl"),
                ("!a/*", "!a/b", "b/c"),
            ],
        );
        let path = Path::new(OsStr::from_bytes(b"./\xff.log"));
        for (pattern, fits) in [("*.log", true), ("./*.log", true), ("./?/*.log", false)] {
            let pattern = Pattern::of_paths(pattern).unwrap();
            assert_eq!(pattern.matches_path(path), fits, "{pattern:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told_with_its_place() {
        for (pattern, reason) in [
            ("app-[", "character class at byte 4"),
            ("app-{a,b", "brace expansion at byte 4"),
            ("app\\", "trailing backslash at byte 3"),
        ] {
            let error = Pattern::of_names(pattern).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
