//! Where a report goes: a file that appears once it is whole. Knows a place and a text, not what a report is.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

use crate::source::reason;

/// A page that is to be written.
pub(super) struct PageFile {
    path: PathBuf,
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
        if path == Path::new("-") {
            bail!("--report -: the tables go to standard output; name a file, such as report.html");
        }
        let page = Self {
            path: path.to_path_buf(),
        };
        // It is gone again at once: whoever interrupts the reading leaves nothing behind.
        match page.unfinished() {
            Ok(_) => Ok(page),
            Err(e) => bail!("--report {name}: cannot be written there: {}", reason(&e)),
        }
    }

    /// A file beside it that may become it; `None` where one writes into what is there, as into a pipe.
    fn unfinished(&self) -> io::Result<Option<NamedTempFile>> {
        if fs::metadata(&self.path).is_ok_and(|there| !there.is_file()) {
            return Ok(None);
        }
        let parent = self.path.parent();
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
        let mut builder = tempfile::Builder::new();
        builder
            .prefix(".report")
            .permissions(Permissions::from_mode(0o666));
        let file = builder.tempfile_in(parent.unwrap_or_else(|| Path::new(".")))?;
        Ok(Some(file))
    }

    /// Says that there will be none: what stands there is older.
    pub(super) fn not_written(&self) -> String {
        format!(
            "--report {}: not written, there is nothing to show",
            self.path.display()
        )
    }

    /// Writes it.
    ///
    /// # Errors
    /// If the disk is full, or what was there is not any more.
    pub(super) fn write(self, html: &str) -> Result<()> {
        let context = || format!("--report {}: cannot be written", self.path.display());
        let Some(mut file) = self.unfinished().with_context(context)? else {
            return fs::write(&self.path, html).with_context(context);
        };
        file.write_all(html.as_bytes()).with_context(context)?;
        file.persist(&self.path)
            .map_err(|e| e.error)
            .with_context(context)?;
        Ok(())
    }
}
