//! How many may come in at once, and how often: a reconnect storm becomes a queue that the clients keep.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a service admits.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// Sessions that are opening, which is until their followers are in step.
    pub max_concurrent_opens: usize,
    /// Sessions that may open per second, and as many at once after a quiet second.
    pub per_second: u32,
}

impl Default for Admission {
    /// A thousand proxies are back within five seconds, and at most 64 of them compare hashes at a time.
    fn default() -> Self {
        Self { max_concurrent_opens: 64, per_second: 200 }
    }
}

/// The same, at work.
#[derive(Debug)]
pub(crate) struct Gate {
    opening: Arc<Semaphore>,
    bucket: Mutex<Bucket>,
}

impl Gate {
    pub(crate) fn new(Admission { max_concurrent_opens, per_second }: Admission) -> Self {
        let rate = f64::from(per_second.max(1));
        Self {
            opening: Arc::new(Semaphore::new(max_concurrent_opens.max(1))),
            bucket: Mutex::new(Bucket { rate, tokens: rate, promised: 0.0, at: None }),
        }
    }

    /// Lets one in, or says when to come back. The permit is given back when its session is in step.
    pub(crate) fn enter(&self, now: Instant) -> Result<OwnedSemaphorePermit, Duration> {
        let mut bucket = self.bucket.lock().expect("no thread panics while it counts tokens");
        let Ok(permit) = self.opening.clone().try_acquire_owned() else {
            return Err(Duration::from_secs_f64(1.0 / bucket.rate).max(FULL_RETRY));
        };
        bucket.take(now)?;
        Ok(permit)
    }
}

/// When all places are taken: about what one comparison of a large view takes.
const FULL_RETRY: Duration = Duration::from_millis(250);

/// Turns that are promised ahead, in seconds: a storm that gives up leaves no long shadow.
const PROMISED_SECONDS_MAX: f64 = 5.0;

#[derive(Debug)]
struct Bucket {
    rate: f64,
    tokens: f64,
    /// Those who were sent away and told when to come: they come at the rate of the bucket, not all with its next token.
    promised: f64,
    at: Option<Instant>,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at)).as_secs_f64();
        self.at = Some(now);
        self.tokens = (self.tokens + passed * self.rate).min(self.rate);
        self.promised = (self.promised - passed * self.rate).max(0.0);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let after = (1.0 - self.tokens + self.promised) / self.rate;
        self.promised = (self.promised + 1.0).min(PROMISED_SECONDS_MAX * self.rate);
        Err(Duration::from_secs_f64(after))
    }
}

#[cfg(test)]
mod tests {
    use super::{Admission, Gate};
    use std::time::{Duration, Instant};

    #[test]
    fn the_rate_is_kept_and_the_refused_are_spread() {
        let gate = Gate::new(Admission { max_concurrent_opens: 1000, per_second: 10 });
        let start = Instant::now();
        let waits: Vec<_> = (0..20).map(|_| gate.enter(start).err()).collect();
        assert!(waits[..10].iter().all(Option::is_none));
        assert_eq!(waits[10], Some(Duration::from_millis(100)));
        assert_eq!(waits[19], Some(Duration::from_secs(1)));
        assert!(gate.enter(start + Duration::from_millis(1200)).is_ok());
    }

    #[test]
    fn places_come_back_when_their_sessions_are_in_step() {
        let gate = Gate::new(Admission { max_concurrent_opens: 1, per_second: 10 });
        let now = Instant::now();
        let permit = gate.enter(now).unwrap();
        assert!(gate.enter(now).is_err());
        drop(permit);
        assert!(gate.enter(now).is_ok());
    }
}
