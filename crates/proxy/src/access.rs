//! The access log: one line per request, gathered by each worker and written together.
//!
//! Off unless `RUST_LOG` names it (`access=info`). Lines look like any other event, as text or JSON; but formatting and
//! writing each by itself would cost more than the rest of its request's bookkeeping.

use crate::limits::{ACCESS_BYTES, ACCESS_WAIT};
use crate::record::Record;
use api::config::ServiceRef;
use process::LogFormat;
use serde::Serialize;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{Level, enabled};

/// Target of access log lines.
pub const ACCESS: &str = "access";

/// Lines of one worker.
#[derive(Debug, Default)]
pub struct AccessLog {
    lines: Mutex<Lines>,
    begun: Notify,
}

#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    /// Seconds since 1970, and how they are written; most lines share it.
    second: (u64, String),
}

/// Whether anybody wants lines.
pub fn wanted() -> bool {
    enabled!(target: ACCESS, Level::INFO)
}

/// What stands before each value of a line, and behind the last one.
struct Marks {
    begin: &'static str,
    direction: &'static str,
    service: &'static str,
    zone: &'static str,
    code: &'static str,
    reason: &'static str,
    us: &'static str,
    method: &'static str,
    path: &'static str,
    tries: &'static str,
    peer: &'static str,
    end: &'static str,
}

const TEXT: Marks = Marks {
    begin: "",
    direction: "Z  INFO access: request direction=\"",
    service: "\" service=\"",
    zone: "\" zone=\"",
    code: "\" code=",
    reason: " reason=",
    us: " us=",
    method: " method=",
    path: " path=",
    tries: " tries=",
    peer: " peer=",
    end: "\n",
};

const JSON: Marks = Marks {
    begin: r#"{"timestamp":""#,
    direction: r#"Z","level":"INFO","message":"request","direction":""#,
    service: r#"","service":""#,
    zone: r#"","zone":""#,
    code: r#"","code":"#,
    reason: r#","reason":""#,
    us: r#"","us":"#,
    method: r#","method":"#,
    path: r#","path":"#,
    tries: r#","tries":"#,
    peer: r#","peer":"#,
    end: ",\"target\":\"access\"}\n",
};

impl AccessLog {
    /// Adds a line, if lines are wanted.
    pub fn add(&self, record: &Record<'_>) {
        if !wanted() {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.bytes.is_empty() {
            self.begun.notify_one();
        }
        lines.add(record, now, process::log_format());
        if lines.bytes.len() >= ACCESS_BYTES {
            lines.write();
        }
    }

    /// Writes what gathers, for as long as the worker runs.
    pub async fn keep(&self) {
        loop {
            self.begun.notified().await;
            sleep(ACCESS_WAIT).await;
            self.write();
        }
    }

    /// Writes what was gathered.
    pub fn write(&self) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).write();
    }
}

impl Lines {
    fn add(&mut self, record: &Record<'_>, now: Duration, format: LogFormat) {
        let Record { direction, service, zone, code, reason, latency, method, path, tries, peer } = *record;
        let (second, micros) = (now.as_secs(), now.subsec_micros());
        if self.second.0 != second || self.second.1.is_empty() {
            self.second = (second, date_time(second));
        }
        let marks = match format {
            LogFormat::Text => &TEXT,
            LogFormat::Json => &JSON,
        };
        let mut line = Line(&mut self.bytes);
        line.text(marks.begin, &self.second.1);
        // Six digits: the first of seven is left out.
        line.text(".", &itoa::Buffer::new().format(1_000_000 + micros)[1..]);
        line.text(marks.direction, direction.as_str());
        line.text(marks.service, "");
        if let Some(ServiceRef { mesh, namespace, name }) = service {
            line.text("", mesh.as_str());
            line.text("/", namespace.as_str());
            line.text("/", name.as_str());
        }
        line.text(marks.zone, zone.map_or("", |zone| zone.as_str()));
        line.number(marks.code, code.into());
        line.text(marks.reason, reason.as_str());
        line.number(marks.us, u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        line.quoted(marks.method, method);
        line.quoted(marks.path, path);
        line.number(marks.tries, tries.into());
        line.quoted(marks.peer, peer);
        line.text(marks.end, "");
    }

    fn write(&mut self) {
        // There is nowhere to tell that telling failed.
        let _ = std::io::stderr().lock().write_all(&self.bytes);
        self.bytes.clear();
    }
}

/// A line that grows. `write!` takes several times as long.
struct Line<'a>(&'a mut Vec<u8>);

impl Line<'_> {
    fn text(&mut self, mark: &str, value: &str) {
        self.0.extend_from_slice(mark.as_bytes());
        self.0.extend_from_slice(value.as_bytes());
    }

    fn number(&mut self, mark: &str, value: u64) {
        self.text(mark, itoa::Buffer::new().format(value));
    }

    /// Text from outside, in quotes and with escapes.
    fn quoted(&mut self, mark: &str, value: &str) {
        self.text(mark, "");
        // Writing to memory cannot fail.
        let _ = value.serialize(&mut serde_json::Serializer::new(&mut *self.0));
    }
}

/// `2026-11-21T04:30:00`, from days by the civil calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn date_time(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Direction;
    use api::RouteReason;

    #[test]
    fn a_line_is_an_event_as_text_and_as_json() {
        let service: ServiceRef =
            serde_json::from_str(r#"{"mesh":"default","namespace":"shop","name":"cart"}"#).unwrap();
        let west = "west".parse().unwrap();
        let record = Record {
            direction: Direction::Outbound,
            service: Some(&service),
            zone: Some(&west),
            code: 200,
            reason: RouteReason::Local,
            latency: Duration::from_micros(1_234),
            method: "GET",
            path: "/a\"b",
            tries: 1,
            peer: "cart-1",
        };
        let line = |format| {
            let mut lines = Lines::default();
            lines.add(&record, Duration::new(1_709_210_096, 7_000), format);
            String::from_utf8(lines.bytes).unwrap()
        };
        assert_eq!(
            line(LogFormat::Text),
            "2024-02-29T12:34:56.000007Z  INFO access: request direction=\"outbound\" service=\"default/shop/cart\" \
             zone=\"west\" code=200 reason=LOCAL us=1234 method=\"GET\" path=\"/a\\\"b\" tries=1 peer=\"cart-1\"\n"
        );
        let json: serde_json::Value = serde_json::from_str(&line(LogFormat::Json)).unwrap();
        assert_eq!((&json["path"], &json["us"]), (&"/a\"b".into(), &1234.into()));
        assert!(line(LogFormat::Text).contains(&format!(" INFO {ACCESS}: ")) && json["target"] == ACCESS);
        assert_eq!((&json["target"], &json["timestamp"]), (&"access".into(), &"2024-02-29T12:34:56.000007Z".into()));
    }

    #[test]
    fn dates_follow_the_calendar() {
        for (seconds, expect) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (4_107_542_399, "2100-02-28T23:59:59"),
            (1_795_305_600, "2026-11-22T00:00:00"),
        ] {
            assert_eq!(date_time(seconds), expect);
        }
    }
}
