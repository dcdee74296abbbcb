//! Runs commands and says what is being run.

use anyhow::{Context as _, Result, bail};
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// A command to run.
pub struct Step {
    command: Command,
    words: String,
}

/// What a command printed.
pub struct Output {
    /// It ended well.
    pub ok: bool,
    /// As printed.
    pub stdout: String,
    /// As printed.
    pub stderr: String,
}

/// A command by program and arguments.
pub fn step(program: &str, args: &[&str]) -> Step {
    let mut command = Command::new(program);
    command.args(args);
    let name = program.rsplit('/').next().unwrap_or(program);
    Step { command, words: format!("{name} {}", args.join(" ")) }
}

impl Step {
    /// In this folder.
    pub fn within(mut self, folder: impl AsRef<std::path::Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// With one more variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs with our own output; an error if it fails.
    pub fn run(self) -> Result<()> {
        let words = self.words.clone();
        if !self.succeeds()? {
            bail!("`{words}` failed");
        }
        Ok(())
    }

    /// Runs with our own output; whether it ended well.
    pub fn succeeds(mut self) -> Result<bool> {
        eprintln!("$ {}", self.words);
        let status = self.command.status().with_context(|| format!("`{}` did not start", self.words))?;
        Ok(status.success())
    }

    /// Runs silently and keeps what is printed.
    pub fn capture(mut self) -> Result<Output> {
        let out = self.command.output().with_context(|| format!("`{}` did not start", self.words))?;
        Ok(Output {
            ok: out.status.success(),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        })
    }

    /// Runs, shows standard output line by line, and hands each line to `look`; whether it ended well.
    pub fn watch(mut self, mut look: impl FnMut(&str)) -> Result<bool> {
        eprintln!("$ {}", self.words);
        let mut child =
            self.command.stdout(Stdio::piped()).spawn().with_context(|| format!("`{}` did not start", self.words))?;
        let lines = BufReader::new(child.stdout.take().expect("asked for above")).lines();
        for line in lines {
            let line = line?;
            println!("{line}");
            look(&line);
        }
        Ok(child.wait()?.success())
    }
}
