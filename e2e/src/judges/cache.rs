//! Where judges are kept: one folder for each name and version, outside the tree, made once and then only read.

use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names another folder than the user's cache.
const FOLDER: &str = "WEFT_JUDGES";
/// Written last: a folder without it was left half way.
const COMPLETE: &str = "complete";

/// A judge that cannot be obtained here.
#[derive(Clone, Debug)]
pub struct Missing {
    /// Why not.
    pub why: String,
    /// What would change that.
    pub enable: String,
}

/// The folder of all judges.
pub struct Cache(PathBuf);

impl Cache {
    /// `$WEFT_JUDGES`, or `weft-judges` in the user's cache.
    pub fn open() -> Self {
        let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || named("HOME").unwrap_or_else(|| "/tmp".into()).join(".cache");
        let user = || named("XDG_CACHE_HOME").unwrap_or_else(home).join("weft-judges");
        Self(named(FOLDER).unwrap_or_else(user))
    }

    /// The folder of one judge, made by `make` unless it is there. `content` is what it is made from: when that changes, it is
    /// made again.
    pub fn folder(
        &self,
        name: &str,
        version: &str,
        content: &str,
        make: impl FnOnce(&Path) -> Result<(), Missing>,
    ) -> Result<PathBuf, Missing> {
        let folder = self.0.join(name).join(version);
        if std::fs::read_to_string(folder.join(COMPLETE)).is_ok_and(|made_from| made_from == content) {
            return Ok(folder);
        }
        let failed = |error: std::io::Error| Missing {
            why: format!("cannot write {}: {error}", folder.display()),
            enable: format!("{FOLDER}=DIR names another folder"),
        };
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(failed)?;
        }
        std::fs::create_dir_all(&folder).map_err(failed)?;
        make(&folder)?;
        std::fs::write(folder.join(COMPLETE), content).map_err(failed)?;
        Ok(folder)
    }

    /// Programs built from a module of Go that requires everything at pinned versions; the folder they are in.
    pub fn go(&self, module: &GoModule) -> Result<PathBuf, Missing> {
        let GoModule { name, version, module, sums, packages } = *module;
        self.folder(name, version, sums, |folder| {
            let go = program("go", &["/usr/local/go/bin"]).ok_or_else(|| Missing {
                why: "Go is not here".into(),
                enable: format!("install Go 1.26 or newer, then `cargo xtask judges install {name}`"),
            })?;
            for (file, text) in [("go.mod", module), ("go.sum", sums)] {
                write(&folder.join(file), text)?;
            }
            let mut build = Command::new(go);
            build.current_dir(folder).args(["build", "-mod=readonly", "-o", "./"]).args(packages);
            finish(build, name)
        })
    }
}

/// A wrapper module: `go.mod` and `go.sum` of a judge, and which of its packages are programs.
#[derive(Clone, Copy)]
pub struct GoModule {
    /// Of the judge.
    pub name: &'static str,
    /// Of the judge.
    pub version: &'static str,
    /// Text of `go.mod`.
    pub module: &'static str,
    /// Text of `go.sum`.
    pub sums: &'static str,
    /// Import paths.
    pub packages: &'static [&'static str],
}

/// A program in `PATH` or one of these folders.
pub fn program(name: &str, more: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(more.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Runs a step of making a judge; what it says goes to standard error.
pub fn finish(mut command: Command, name: &str) -> Result<(), Missing> {
    eprintln!("$ {command:?}");
    let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let failed = |why: String| Missing { why, enable: format!("cargo xtask judges install {name}") };
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(format!("making it ended with {status}"))),
        Err(error) => Err(failed(format!("{}: {error}", command.get_program().display()))),
    }
}

/// Writes a file of a judge's folder.
pub fn write(file: &Path, text: &str) -> Result<(), Missing> {
    let written = std::fs::write(file, text).with_context(|| format!("writing {}", file.display()));
    written.map_err(|error| Missing { why: format!("{error:#}"), enable: format!("{FOLDER}=DIR names another folder") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_left_half_way_or_made_from_something_else_is_made_again() {
        let temporary = tempfile::tempdir().unwrap();
        let cache = Cache(temporary.path().into());
        let nothing = || Missing { why: "no".into(), enable: "nothing".into() };
        assert!(cache.folder("judge", "1", "a", |_| Err(nothing())).is_err());
        let mut made = 0;
        for content in ["a", "a", "b"] {
            let make = |folder: &Path| {
                made += 1;
                write(&folder.join("program"), content)
            };
            let folder = cache.folder("judge", "1", content, make).unwrap();
            assert_eq!(std::fs::read_to_string(folder.join("program")).unwrap(), content);
        }
        assert_eq!(made, 2);
    }
}
