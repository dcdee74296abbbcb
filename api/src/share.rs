//! Shares as people write them: `70%`, `2.5%`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A part of a whole between `0%` and `100%`; kept exactly, in hundredths of a percent.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Share(u16);

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(10_000);

    /// A whole number of percent, at most 100.
    pub const fn percent(percent: u16) -> Self {
        assert!(percent <= 100);
        Self(percent * 100)
    }

    /// Between 0.0 and 1.0.
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

/// A text that is no share.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a share: write a percentage between 0% and 100%, such as 70%")]
pub struct ShareError(String);

impl FromStr for Share {
    type Err = ShareError;
    fn from_str(given: &str) -> Result<Self, ShareError> {
        let wrong = || ShareError(given.into());
        let number = given.strip_suffix('%').ok_or_else(wrong)?;
        if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(wrong());
        }
        let percent: f64 = number.parse().map_err(|_| wrong())?;
        if percent > 100.0 {
            return Err(wrong());
        }
        Ok(Self((percent * 100.0).round() as u16))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}%", f64::from(self.0) / 100.0))
    }
}

impl TryFrom<String> for Share {
    type Error = ShareError;
    fn try_from(given: String) -> Result<Self, ShareError> {
        given.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> String {
        share.to_string()
    }
}

impl schemars::JsonSchema for Share {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Share".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?%$", "examples": ["70%"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_read_as_they_are_written() {
        for text in ["0%", "70%", "2.5%", "100%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        for bad in ["", "70", "101%", "-1%", "0.7", "NaN%", "%"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }
}
