//! Waiting for conditions: soon enough on an idle machine, patient on a busy one.

use std::fmt::Display;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long something that should be quick may take on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(30);
/// Between two looks at a condition that cannot be watched.
const LOOK: Duration = Duration::from_millis(20);

/// Asks until `holds` says yes, and how long that took. After [`SOON`] it is a panic that tells what it last said.
pub async fn until<W: Display>(what: &str, mut holds: impl AsyncFnMut() -> Result<(), W>) -> Duration {
    let since = Instant::now();
    loop {
        match holds().await {
            Ok(()) => return since.elapsed(),
            Err(why) if since.elapsed() >= SOON => panic!("after {} s still not: {what} ({why})", SOON.as_secs()),
            Err(_) => sleep(LOOK).await,
        }
    }
}
