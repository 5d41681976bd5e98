//! How wide a terminal is, and where lines break on it.
//!
//! A terminal breaks a line in the middle of a word and goes on below the times of other lines. Knows nothing of what lines say.

use std::borrow::Cow;

use rustix::termios::{Winsize, tcgetwinsize};
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

/// Narrower than this nothing is gained.
const NARROW: usize = 40;

/// A terminal that a stream goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// Behind standard output.
    Stdout,
    /// Behind standard error.
    Stderr,
}

impl Terminal {
    /// A line with breaks between words where the terminal, as wide as it is now, would break it in a word. What goes on below is
    /// set in by so many columns.
    pub fn wrap(self, line: &str, indent: usize) -> Cow<'_, str> {
        match self.columns() {
            Some(columns) => wrap(line, columns, indent),
            None => line.into(),
        }
    }

    /// Its width in columns, if it tells.
    fn columns(self) -> Option<usize> {
        let size: Winsize = match self {
            Self::Stdout => tcgetwinsize(std::io::stdout()),
            Self::Stderr => tcgetwinsize(std::io::stderr()),
        }
        .ok()?;
        Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
    }
}

/// A word that is longer than a line stays whole, so that a path can be copied.
fn wrap(line: &str, columns: usize, indent: usize) -> Cow<'_, str> {
    if columns < NARROW {
        return line.into();
    }
    let indent = " ".repeat(indent);
    let options = Options::new(columns)
        .subsequent_indent(&indent)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit)
        .break_words(false);
    textwrap::fill(line, options).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use owo_colors::OwoColorize;

    #[test]
    fn lines_break_between_words_and_go_on_set_in() {
        let line = "         cause: rewritten (150,000 tokens written anew that were in the cache)";
        let wrapped = "         cause: rewritten (150,000 tokens\n         written anew that were in the\n         cache)";
        assert_eq!(wrap(line, 42, 9), wrapped);
        assert_eq!(wrap(line, 100, 9), line);
        assert_eq!(wrap(line, 30, 9), line);
        let path = format!("look at: {}", "/a-folder".repeat(9));
        assert_eq!(wrap(&path, 42, 2), path.replace(": ", ":\n  "));
    }

    /// Colours take no room.
    #[test]
    fn colours_have_no_width() {
        let line = format!(
            "{} {} and so on",
            "02:00:33".dimmed(),
            "CRITICAL".red().bold()
        );
        assert_eq!(wrap(&line, 40, 2), line);
    }
}
