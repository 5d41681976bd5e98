//! The logs that a replay is given: opened, or named in an error.
//!
//! Knows no rules and no records.

use anyhow::{Result, bail};

use crate::sink::Outlet;
use crate::source::{Decode, HistoryFile, Input, Names, discover, merge, reason};

/// Opens what the inputs name, and says of which it could not. A name that leads nowhere ends the run; one bad file among many
/// does not.
pub(super) fn open_all(inputs: &[Input]) -> Result<(Vec<HistoryFile>, Vec<String>)> {
    let mut files = Vec::new();
    let (found, _, mut errors) = discover(inputs, Names::Compressed);
    for input in inputs {
        match input {
            Input::Stdin => files.push(HistoryFile::stdin()),
            Input::Pipe(path) => files.push(HistoryFile::pipe(path)?),
            Input::File(path) if !path.exists() => {
                bail!(Missing(format!(
                    "cannot read {}: there is no such file",
                    path.display()
                )));
            }
            Input::Glob { pattern, .. } => {
                let any = found.iter().any(|file| pattern.matches_path(&file.path));
                if !any {
                    bail!(Missing(format!("no file matches \"{}\"", pattern.text())));
                }
            }
            Input::File(_) | Input::Dir(_) => {}
        }
    }
    for file in &found {
        match HistoryFile::whole(file) {
            Ok(file) => files.push(file),
            Err(e) => errors.push((file.path.clone(), e)),
        }
    }
    let errors: Vec<String> = errors
        .iter()
        .map(|(path, error)| format!("cannot read {}: {}", path.display(), reason(error)))
        .collect();
    if files.is_empty() && !errors.is_empty() {
        bail!(Missing(errors.join("; ")));
    }
    Ok((files, errors))
}

/// Reads all that the inputs name, and says of which it could not; gives how many.
pub(super) fn read_all(inputs: &[Input], decoder: &mut impl Decode, err: &Outlet) -> Result<usize> {
    let (files, errors) = open_all(inputs)?;
    let mut unreadable = errors.len();
    for error in errors {
        err.write(&format!("{error}\n"))?;
    }
    for file in merge(files, decoder, |_| {}) {
        if let Some(error) = file.error {
            unreadable += 1;
            let name = &file.info.name;
            let reason = reason(&error);
            err.write(&format!("cannot read {name} to its end: {reason}\n"))?;
        }
    }
    Ok(unreadable)
}

/// An input that is not there or cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Missing(String);
