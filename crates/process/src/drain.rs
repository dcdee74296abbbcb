//! The end of a process: finish work, take none. Begun by a signal, or by a fatal task.

use std::future::Future;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Exit code after a second signal: 128 + SIGINT, as shells count.
const EXIT_IMPATIENT: i32 = 130;

/// One drain per process; clones are the same drain.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    token: CancellationToken,
}

impl Drain {
    /// Not yet draining.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins draining at SIGTERM or SIGINT. A second signal ends the process at once: whoever sends it means it.
    /// Call within a runtime. Handlers are in place when this returns.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let drain = self.clone();
        tokio::spawn(async move {
            for first in [true, false] {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if first {
                    info!(signal = name, "draining: finishing what runs, taking nothing new");
                    drain.begin();
                } else {
                    warn!(signal = name, "second signal: stopping without finishing");
                    std::process::exit(EXIT_IMPATIENT);
                }
            }
        });
        Ok(())
    }

    /// Begins draining. Doing it twice changes nothing.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Resolves when draining begins.
    pub fn begun(&self) -> impl Future<Output = ()> + Send + 'static {
        self.token.clone().cancelled_owned()
    }

    /// Cancelled when draining begins. A child: cancelling it does not drain the process.
    pub fn token(&self) -> CancellationToken {
        self.token.child_token()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_can_end_without_the_whole_but_not_outlive_it() {
        let drain = Drain::new();
        let (one, other) = (drain.token(), drain.token());
        one.cancel();
        assert!(!drain.has_begun() && !other.is_cancelled());
        drain.begin();
        drain.begun().await;
        assert!(other.is_cancelled());
    }
}
