//! Where a report goes: a file that appears once it is whole.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

use crate::source::reason;

/// A page that is to be written.
pub(super) struct PageFile {
    path: PathBuf,
    /// What becomes the file; `None` where one writes into what is there, as into a pipe.
    new: Option<NamedTempFile>,
}

impl PageFile {
    /// Finds out at once whether a page can be written there: nobody wants to hear that after an hour of reading.
    ///
    /// # Errors
    /// If it cannot.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let name = path.display();
        let is_dir = path.is_dir();
        if is_dir {
            bail!("--report {name}: this is a folder; name a file in it, such as report.html");
        }
        let path = path.to_path_buf();
        if fs::metadata(&path).is_ok_and(|there| !there.is_file()) {
            return Ok(Self { path, new: None });
        }
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let mut builder = tempfile::Builder::new();
        builder
            .prefix(".report")
            .permissions(Permissions::from_mode(0o666));
        match builder.tempfile_in(parent.unwrap_or_else(|| Path::new("."))) {
            Ok(file) => Ok(Self {
                path,
                new: Some(file),
            }),
            Err(e) => bail!(
                "--report {}: cannot be written there: {}",
                path.display(),
                reason(&e)
            ),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// If the disk is full, or what was there is not any more.
    pub(super) fn write(self, html: &str) -> Result<()> {
        let context = || format!("--report {}: cannot be written", self.path.display());
        let Some(mut file) = self.new else {
            return fs::write(&self.path, html).with_context(context);
        };
        file.write_all(html.as_bytes()).with_context(context)?;
        file.persist(&self.path)
            .map_err(|e| e.error)
            .with_context(context)?;
        Ok(())
    }
}
