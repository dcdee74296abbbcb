//! A folder that belongs to one process of one program, in a format that program understands.

use crate::file::{UNFINISHED, WriteError, write_atomic};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Held with flock(2) while a process lives; says who, for the error of the next one.
const LOCK_FILE: &str = "lock";
/// Program and format number that wrote the folder.
const FORMAT_FILE: &str = "format";
/// Folders hold private keys.
const FOLDER_MODE: u32 = 0o700;
/// Nobody nests data deeper; leftovers below are not looked for.
const DEPTH_MAX: usize = 3;

/// A data folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be created, read or written.
    #[error(
        "cannot use data folder {path}: {source}; make it writable for this user or choose another with --data-dir"
    )]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// The kernel's words.
        #[source]
        source: io::Error,
    },
    /// Another process holds it.
    #[error("data folder {path} is in use by another {holder}; stop it or choose another with --data-dir")]
    InUse {
        /// The folder.
        path: PathBuf,
        /// `weft-zone-cp (pid 42)`.
        holder: String,
    },
    /// It belongs to another program.
    #[error("data folder {path} belongs to {owner}, not to {program}; choose another with --data-dir")]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Who wrote it.
        owner: String,
        /// Who wants it.
        program: &'static str,
    },
    /// It was written by a newer version.
    #[error(
        "data folder {path} was written by a newer version of {program} (format {found}, this one knows up to {known}); \
         install that version again, or restore a backup into an empty folder with --data-dir"
    )]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Who wants it.
        program: &'static str,
        /// Format of the folder.
        found: u32,
        /// Newest format this program knows.
        known: u32,
    },
    /// Its format file is not ours.
    #[error(
        "data folder {path} is damaged: its file `{FORMAT_FILE}` says `{found}`; \
         restore a backup, or choose an empty folder with --data-dir"
    )]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What stands there.
        found: String,
    },
    /// The format file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// An open data folder. It stays locked until the last clone is dropped, or the process dies in whatever way; handed to
/// another process, until both have let it go.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
    program: &'static str,
    format: u32,
    lock: Arc<File>,
}

impl DataDir {
    /// Creates the folder (mode 0700) or opens it, locks it, refuses what another program or a newer version wrote, and
    /// clears drafts a crash left. `format_version` is the newest format the program knows; a new folder gets it.
    pub fn open(path: &Path, program: &'static str, format_version: u32) -> Result<Self, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path).map_err(unusable)?;
        let mode = fs::metadata(path).map_err(unusable)?.permissions().mode() & 0o777;
        if mode & !FOLDER_MODE != 0 {
            tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "others may look into the data folder, which holds private keys; chmod 700 it");
        }
        let lock = lock(path, program)?;
        let format = match fs::read_to_string(path.join(FORMAT_FILE)) {
            Ok(text) => check_format(path, program, format_version, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_format(path, program, format_version)?;
                format_version
            }
            Err(error) => return Err(unusable(error)),
        };
        clear_unfinished(path, DEPTH_MAX);
        Ok(Self { path: path.to_owned(), program, format, lock: Arc::new(lock) })
    }

    /// Opens a folder that another process still has, with the lock it handed over. Nothing is changed in it.
    pub fn inherit(
        path: &Path,
        program: &'static str,
        format_version: u32,
        lock: OwnedFd,
    ) -> Result<Self, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        let text = fs::read_to_string(path.join(FORMAT_FILE)).map_err(unusable)?;
        let format = check_format(path, program, format_version, &text)?;
        Ok(Self { path: path.to_owned(), program, format, lock: Arc::new(File::from(lock)) })
    }

    /// The lock, to hand over: it is held while anybody has a copy of it.
    pub fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Says in the lock that this process has the folder now.
    pub fn announce(&self) {
        // A courtesy for whoever is refused; see `lock`.
        let _ = write_holder(&mut &*self.lock, self.program);
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Format it was in when opened: the present one, or an older one the program converts before [`Self::converted`].
    pub fn format(&self) -> u32 {
        self.format
    }

    /// Says that the content now has format `version`.
    pub fn converted(&mut self, version: u32) -> Result<(), DataDirError> {
        write_format(&self.path, self.program, version)?;
        self.format = version;
        Ok(())
    }

    /// Replaces a file of the folder; see [`write_atomic`].
    pub fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), WriteError> {
        write_atomic(&self.join(name), bytes, mode)
    }
}

fn lock(path: &Path, program: &str) -> Result<File, DataDirError> {
    let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path.join(LOCK_FILE));
    let mut file = file.map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {
            write_holder(&mut &file, program).map_err(unusable)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The holder's name is a courtesy; without it the error still says what is wrong.
            let _ = file.rewind().and_then(|()| file.read_to_string(&mut holder));
            let holder = if holder.trim().is_empty() { "process".into() } else { holder.trim().to_owned() };
            Err(DataDirError::InUse { path: path.to_owned(), holder })
        }
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

fn write_holder(file: &mut &File, program: &str) -> io::Result<()> {
    let content = format!("{program} (pid {})\n", std::process::id());
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(content.as_bytes())
}

fn check_format(path: &Path, program: &'static str, known: u32, text: &str) -> Result<u32, DataDirError> {
    let damaged = || DataDirError::Damaged { path: path.to_owned(), found: text.trim().to_owned() };
    let (owner, number) = text.trim().split_once(' ').ok_or_else(damaged)?;
    let found: u32 = number.parse().map_err(|_| damaged())?;
    if owner != program {
        return Err(DataDirError::Foreign { path: path.to_owned(), owner: owner.to_owned(), program });
    }
    if found > known {
        return Err(DataDirError::Newer { path: path.to_owned(), program, found, known });
    }
    Ok(found)
}

fn write_format(path: &Path, program: &str, version: u32) -> Result<(), WriteError> {
    write_atomic(&path.join(FORMAT_FILE), format!("{program} {version}\n").as_bytes(), 0o600)
}

/// Removes drafts of [`write_atomic`] that a crash left. Failing to is harmless.
fn clear_unfinished(folder: &Path, depth: usize) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && depth > 0 {
            clear_unfinished(&entry.path(), depth - 1);
        } else if !is_folder && entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(result: Result<DataDir, DataDirError>) -> String {
        result.expect_err("refused").to_string()
    }

    #[test]
    fn two_processes_never_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("west");
        let first = DataDir::open(&path, "weft-zone-cp", 1).unwrap();
        let refused = said(DataDir::open(&path, "weft-zone-cp", 1));
        let pid = std::process::id();
        assert_eq!(
            refused,
            format!(
                "data folder {} is in use by another weft-zone-cp (pid {pid}); stop it or choose another with --data-dir",
                path.display()
            )
        );
        drop(first);
        DataDir::open(&path, "weft-zone-cp", 1).unwrap();
    }

    #[test]
    fn a_handed_lock_is_held_until_both_have_let_it_go() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path(), "weft-gateway", 1).unwrap();
        let copy = first.lock().try_clone_to_owned().unwrap();
        let next = DataDir::inherit(dir.path(), "weft-gateway", 1, copy).unwrap();
        drop(first);
        next.announce();
        assert!(said(DataDir::open(dir.path(), "weft-gateway", 1)).contains("is in use by another weft-gateway (pid "));
        drop(next);
        DataDir::open(dir.path(), "weft-gateway", 1).unwrap();
    }

    #[test]
    fn a_new_folder_is_private_and_leftovers_are_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        drop(DataDir::open(&path, "weft-gateway", 1).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir(path.join("keys")).unwrap();
        let draft = path.join("keys/.key.1-1.unfinished");
        fs::write(&draft, "half").unwrap();
        DataDir::open(&path, "weft-gateway", 1).unwrap();
        assert!(!draft.exists());
    }

    #[test]
    fn a_newer_format_another_program_and_damage_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), "weft-zone-cp", 3).unwrap());
        let newer = said(DataDir::open(dir.path(), "weft-zone-cp", 2));
        assert!(
            newer.contains("newer version") && newer.contains("format 3") && newer.contains("--data-dir"),
            "{newer}"
        );
        let foreign = said(DataDir::open(dir.path(), "weft-global-cp", 3));
        assert!(foreign.contains("belongs to weft-zone-cp"), "{foreign}");
        fs::write(dir.path().join(FORMAT_FILE), "?").unwrap();
        assert!(said(DataDir::open(dir.path(), "weft-zone-cp", 3)).contains("damaged"));
    }

    #[test]
    fn an_older_format_opens_and_can_be_converted() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), "weft-zone-cp", 1).unwrap());
        let mut data = DataDir::open(dir.path(), "weft-zone-cp", 2).unwrap();
        assert_eq!(data.format(), 1);
        data.converted(2).unwrap();
        drop(data);
        assert_eq!(DataDir::open(dir.path(), "weft-zone-cp", 2).unwrap().format(), 2);
    }

    #[test]
    fn an_unwritable_folder_is_said_with_what_to_do() {
        let refused = said(DataDir::open(Path::new("/sys/weft"), "weft-zone-cp", 1));
        assert!(refused.starts_with("cannot use data folder /sys/weft: "), "{refused}");
        assert!(refused.ends_with("choose another with --data-dir"), "{refused}");
    }
}
