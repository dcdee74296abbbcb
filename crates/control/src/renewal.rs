//! Keeps a certificate fresh: asks for the next one in time, keeps asking with growing pauses, and never gives up.

use identity::{CertificateDer, Credentials, KeyPair, LiveCredentials, UnixTime, renew_at, retry_after};
use std::path::Path;
use std::time::Duration;
use tracing::{debug, warn};

/// Longest sleep at once, so that a clock that jumps (or a machine that slept) is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(600);

/// Renews `live` until the end of time. `issue` gets a CSR and answers a chain.
pub async fn keep_fresh<F, E>(live: LiveCredentials, directory: &Path, issue: impl Fn(Vec<u8>) -> F)
where
    F: Future<Output = Result<Vec<CertificateDer<'static>>, E>>,
    E: std::fmt::Display,
{
    loop {
        let present = live.current();
        let at = renew_at(present.not_before(), present.not_after(), jitter());
        wait_until(at).await;
        let mut attempt = 0;
        loop {
            match renew(&issue, directory).await {
                Ok(fresh) => {
                    debug!(id = %fresh.id(), "certificate renewed");
                    live.replace(fresh);
                    break;
                }
                Err(error) => {
                    warn!(id = %present.id(), error, attempt, "certificate not renewed yet");
                    tokio::time::sleep(retry_after(attempt, jitter())).await;
                    attempt += 1;
                }
            }
        }
    }
}

async fn renew<F, E>(issue: &impl Fn(Vec<u8>) -> F, directory: &Path) -> Result<Credentials, String>
where
    F: Future<Output = Result<Vec<CertificateDer<'static>>, E>>,
    E: std::fmt::Display,
{
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let csr = key.csr().map_err(|error| error.to_string())?;
    let chain = issue(csr).await.map_err(|error| error.to_string())?;
    let fresh = Credentials::new(chain, key).map_err(|error| error.to_string())?;
    fresh.save(directory).map_err(|error| error.to_string())?;
    Ok(fresh)
}

async fn wait_until(at: UnixTime) {
    loop {
        let left = at.as_secs().saturating_sub(UnixTime::now().as_secs());
        if left == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_secs(left).min(SLEEP_MAX)).await;
    }
}

/// Evenly between 0 and 1.
fn jitter() -> f64 {
    f64::from(u32::from_be_bytes(crate::auth::random::<4>())) / f64::from(u32::MAX)
}
