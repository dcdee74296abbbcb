//! Durations as people write them: `250ms`, `1.5s`, `2m`, `1h`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time, written with its unit. Zero is allowed; what it means is said where it is used.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl Span {
    /// Whole milliseconds.
    pub const fn millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// Whole seconds.
    pub const fn seconds(s: u64) -> Self {
        Self(Duration::from_secs(s))
    }
}

/// A text that is no duration.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a duration: write a number and its unit, such as 250ms, 1.5s, 2m or 1h")]
pub struct SpanError(String);

const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
/// A year. Longer is a typing mistake.
const SECONDS_MAX: f64 = 366.0 * 86_400.0;

impl FromStr for Span {
    type Err = SpanError;
    fn from_str(given: &str) -> Result<Self, SpanError> {
        let wrong = || SpanError(given.into());
        let split = given.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, unit) = given.split_at(split);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let seconds = number.parse::<f64>().map_err(|_| wrong())? * factor;
        if seconds > SECONDS_MAX {
            return Err(wrong());
        }
        Ok(Self(Duration::from_micros((seconds * 1e6).round() as u64)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        let text = match micros {
            0 => "0s".to_owned(),
            m if m % 3_600_000_000 == 0 => format!("{}h", m / 3_600_000_000),
            m if m % 60_000_000 == 0 => format!("{}m", m / 60_000_000),
            m if m % 1_000_000 == 0 => format!("{}s", m / 1_000_000),
            m if m % 1_000 == 0 => format!("{}ms", m / 1_000),
            m => format!("{}ms", m as f64 / 1000.0),
        };
        f.pad(&text)
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;
    fn try_from(given: String) -> Result<Self, SpanError> {
        given.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Duration {
        span.0
    }
}

impl schemars::JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": r"^[0-9.]+(ms|s|m|h)$", "examples": ["250ms", "2s"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_they_are_written() {
        for text in ["0s", "250ms", "2s", "5m", "24h", "1.5ms"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("1.5s".parse::<Span>().unwrap(), Span::millis(1500));
        for bad in ["", "5", "s", "5 s", "-1s", "1.2.3s", "5sec", "9999999h"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
