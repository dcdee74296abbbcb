//! How much of its memory a process uses.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where the kernel keeps control groups (cgroups(7), version 2).
const GROUPS: &str = "/sys/fs/cgroup";

/// A number of bytes, as people write it: `512M`, `2G`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MemorySize(pub u64);

/// A text that is no size.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a size; write one such as 256M or 2G, at least 16M")]
pub struct MemorySizeError(String);

/// Less than an idle proxy with a small mesh needs.
const SIZE_MIN: u64 = 16 * 1024 * 1024;

impl FromStr for MemorySize {
    type Err = MemorySizeError;
    fn from_str(given: &str) -> Result<Self, MemorySizeError> {
        let wrong = || MemorySizeError(given.into());
        let (digits, factor) = match given.strip_suffix('M') {
            Some(digits) => (digits, 1024 * 1024),
            None => (given.strip_suffix('G').ok_or_else(wrong)?, 1024 * 1024 * 1024),
        };
        let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)?;
        if bytes < SIZE_MIN { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

/// A bound of memory, and how to find out what is used of it.
#[derive(Clone, Debug)]
pub struct Memory {
    bytes_max: u64,
    of: Of,
}

#[derive(Clone, Debug)]
enum Of {
    /// What is resident of this process.
    Process,
    /// What the group uses, without files the kernel can let go of.
    Group(PathBuf),
}

impl Memory {
    /// The bound given, else that of the control group; `None`: there is none.
    pub fn bounded(given: Option<MemorySize>) -> Option<Self> {
        match given {
            Some(MemorySize(bytes_max)) => Some(Self { bytes_max, of: Of::Process }),
            None => group(Path::new(GROUPS), &std::fs::read_to_string("/proc/self/cgroup").ok()?),
        }
    }

    /// Thousandths of the bound in use. What cannot be read counts as nothing: it must not refuse anybody.
    pub fn used(&self) -> u32 {
        let used = match &self.of {
            Of::Process => resident(),
            Of::Group(folder) => working_set(folder),
        };
        let permille = used.unwrap_or(0).saturating_mul(1_000) / self.bytes_max.max(1);
        u32::try_from(permille).unwrap_or(u32::MAX)
    }

    /// The bound.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }
}

/// The innermost group with a bound; `own` is what /proc/self/cgroup says.
fn group(root: &Path, own: &str) -> Option<Memory> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = root.join(path);
    own.ancestors().take_while(|folder| folder.starts_with(root)).find_map(|folder| {
        let bytes_max = number(&folder.join("memory.max"))?;
        Some(Memory { bytes_max, of: Of::Group(folder.to_owned()) })
    })
}

fn working_set(folder: &Path) -> Option<u64> {
    let current = number(&folder.join("memory.current"))?;
    let stat = std::fs::read_to_string(folder.join("memory.stat")).ok()?;
    let inactive = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse().ok()).unwrap_or(0);
    Some(current.saturating_sub(inactive))
}

fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// `None` for `max` as well.
fn number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_strictly() {
        assert_eq!("256M".parse(), Ok(MemorySize(256 << 20)));
        assert_eq!("2G".parse(), Ok(MemorySize(2 << 30)));
        for bad in ["", "256", "1M", "-1G", "2T", "99999999999999G", "M"] {
            assert!(bad.parse::<MemorySize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_innermost_group_with_a_bound_counts_without_what_the_kernel_can_let_go() {
        let root = tempfile::tempdir().unwrap();
        let (outer, inner) = (root.path().join("a"), root.path().join("a/b"));
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("memory.max"), "max\n").unwrap();
        std::fs::write(outer.join("memory.max"), "1000\n").unwrap();
        std::fs::write(outer.join("memory.current"), "950\n").unwrap();
        std::fs::write(outer.join("memory.stat"), "anon 5\ninactive_file 450\n").unwrap();
        let memory = group(root.path(), "0::/a/b\n").unwrap();
        assert_eq!((memory.bytes_max(), memory.used()), (1_000, 500));
        assert!(group(root.path(), "1:name=systemd:/a\n").is_none(), "version 1 of groups");
        std::fs::write(outer.join("memory.max"), "max\n").unwrap();
        assert!(group(root.path(), "0::/a/b\n").is_none());
    }

    #[test]
    fn a_process_is_resident() {
        let memory = Memory::bounded(Some(MemorySize(1 << 40))).unwrap();
        assert_eq!(memory.used(), 0);
        assert!(resident().unwrap() > 1 << 20);
    }
}
