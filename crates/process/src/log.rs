//! Logs: events with fields on stderr, as text for people or JSON for collectors.

use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;

/// What is shown when RUST_LOG is not set: ours from `info`, the libraries below only when something is odd.
const FILTER_DEFAULT: &str = "info,hyper=warn,h2=warn,rustls=warn,tonic=warn,tower=warn,axum=warn";

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// How events are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line per event, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Options about logs. What is logged is chosen by RUST_LOG.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct LogOptions {
    /// How log events are written to stderr; RUST_LOG chooses which.
    #[arg(long, value_enum, default_value_t, env = "WEFT_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// Begins a program: logs, the one cryptography provider, and panics as events. Later calls in the same process (tests)
/// change nothing.
pub fn start(name: &'static str, options: &LogOptions) -> anyhow::Result<()> {
    // An error means somebody installed it before us: the same one, as nothing else is linked.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let _ = FORMAT.set(options.log_format);
    let filter = filter(std::env::var("RUST_LOG").ok().as_deref())?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let installed = match options.log_format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    if installed.is_ok() {
        std::panic::set_hook(Box::new(move |panic| panicked(name, panic)));
    }
    Ok(())
}

/// How this program writes events; for those who write many of one kind by themselves.
pub fn log_format() -> LogFormat {
    FORMAT.get().copied().unwrap_or_default()
}

fn filter(wanted: Option<&str>) -> anyhow::Result<EnvFilter> {
    let wanted = wanted.filter(|text| !text.is_empty()).unwrap_or(FILTER_DEFAULT);
    // A line for each request is written only where somebody asks for it by name.
    let all = if wanted.contains("access") { wanted.to_owned() } else { format!("{wanted},access=off") };
    EnvFilter::try_new(all).map_err(|error| {
        anyhow::anyhow!("RUST_LOG `{wanted}` is not a log filter: {error}; write it like `info,proxy=debug`")
    })
}

fn panicked(program: &str, panic: &PanicHookInfo<'_>) {
    let words = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    tracing::error!(program, thread, place, words, "a thread panicked; this is a bug in Weft");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_is_refused_with_an_example() {
        let said = filter(Some("proxy=loudly")).unwrap_err().to_string();
        assert!(said.contains("proxy=loudly") && said.contains("proxy=debug"), "{said}");
        assert!(filter(None).is_ok() && filter(Some("")).is_ok() && filter(Some("proxy=debug")).is_ok());
    }
}
