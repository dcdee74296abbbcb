//! Writing a file so that a reader, or a crash, sees the old content or the new and nothing between.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Ending of files that are being written; what a crash leaves behind is recognised by it.
pub(crate) const UNFINISHED: &str = ".unfinished";

/// A file that could not be written. What was there before is still there.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// No room.
    #[error("the disk is full: {path} was not written and keeps its old content; free space there")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Anything else the kernel says.
    #[error("cannot write {path}: {source}; is its folder there, and writable by this user?")]
    Other {
        /// The file.
        path: PathBuf,
        /// The kernel's words.
        #[source]
        source: io::Error,
    },
}

/// Replaces `path` by `bytes` with permissions `mode` (such as 0o600), durably: when this returns, a crash of the
/// machine does not undo it. Blocks for the disk.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), WriteError> {
    let unfinished = beside(path);
    let written = write_and_rename(&unfinished, path, bytes, mode);
    written.map_err(|source| {
        // Best effort: the data folder clears leftovers when it is opened.
        let _ = fs::remove_file(&unfinished);
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => WriteError::Full { path },
            _ => WriteError::Other { path, source },
        }
    })
}

fn write_and_rename(unfinished: &Path, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(unfinished, path)?;
    // The rename itself is durable once the folder is.
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Unique within the machine as long as the process lives, so that two writers of one file do not share a draft.
fn beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    folder(path).join(format!(".{name}.{}-{number}{UNFINISHED}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_whole_with_the_mode_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_atomic(&path, b"first, and longer", 0o644).unwrap();
        write_atomic(&path, b"second", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft stays behind");
    }

    #[test]
    fn a_missing_folder_is_said_with_the_path() {
        let said = write_atomic(Path::new("/nowhere/weft/key"), b"", 0o600).unwrap_err().to_string();
        assert!(said.starts_with("cannot write /nowhere/weft/key: "), "{said}");
    }
}
