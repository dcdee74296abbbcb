//! Sizes as people write them: `64KiB`, `1MiB`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A number of bytes, written with its unit. Zero is allowed; what it means is said where it is used.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

/// A text that is no size.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a size: write a number and its unit, such as 512B, 64KiB, 1MiB or 2GiB")]
pub struct SizeError(String);

/// Largest first, so that a size is written in the largest unit that is exact.
const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// A tebibyte. More is a typing mistake.
const BYTES_MAX: f64 = (1_u64 << 40) as f64;

impl FromStr for Size {
    type Err = SizeError;
    fn from_str(given: &str) -> Result<Self, SizeError> {
        let wrong = || SizeError(given.into());
        let split = given.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, unit) = given.split_at(split);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let bytes = number.parse::<f64>().map_err(|_| wrong())? * *factor as f64;
        if bytes > BYTES_MAX {
            return Err(wrong());
        }
        Ok(Self(bytes.round() as u64))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) =
            UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor)).unwrap_or(&UNITS[3]);
        f.pad(&format!("{}{unit}", self.0 / factor))
    }
}

impl TryFrom<String> for Size {
    type Error = SizeError;
    fn try_from(given: String) -> Result<Self, SizeError> {
        given.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> String {
        size.to_string()
    }
}

impl schemars::JsonSchema for Size {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": r"^[0-9.]+(B|KiB|MiB|GiB)$", "examples": ["64KiB", "1MiB"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_they_are_written() {
        for text in ["0B", "512B", "64KiB", "1MiB", "3GiB", "1025B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert_eq!("1.5MiB".parse::<Size>().unwrap(), Size(3 << 19));
        for bad in ["", "5", "KiB", "5 KiB", "-1B", "1.2.3B", "5KB", "5mib", "2048GiB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
