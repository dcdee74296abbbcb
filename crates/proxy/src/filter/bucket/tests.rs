//! What a bucket admits: exactly, in any window, whoever asks and when.

use super::*;
use std::sync::Arc;

fn meter(count: u64, per_ms: u64, burst: u64) -> Meter {
    Meter::new(&Rate { count, per_ms, burst })
}

/// Numbers that repeat (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most
    }
}

#[test]
fn a_burst_is_admitted_at_once_and_the_rest_one_by_one() {
    let (meter, bucket) = (meter(10, 1_000, 3), Bucket::default());
    let at = |now_us| meter.take(&bucket, 1, now_us, 0);
    for _ in 0..3 {
        assert_eq!(at(5_000_000), Ok(0));
    }
    assert_eq!(at(5_000_000), Err(Later { wait_us: 100_000 }));
    assert_eq!(at(5_099_999), Err(Later { wait_us: 1 }));
    assert_eq!(at(5_100_000), Ok(0));
    assert_eq!(at(5_100_000), Err(Later { wait_us: 100_000 }));
    // A long pause gives a burst, and no more.
    assert_eq!((0..10).filter(|_| at(900_000_000).is_ok()).count(), 3);
}

#[test]
fn a_rate_that_divides_no_second_is_exact_all_the_same() {
    for (count, per_ms) in [(3, 1_000), (7, 60_000), (999_983, 1_000), (1, 3_600_000)] {
        let (meter, bucket) = (meter(count, per_ms, 3), Bucket::default());
        // At each moment the bucket names as the next one, and at no other.
        let (mut now, year) = (0_u64, 366 * 86_400 * 1_000_000_u64);
        let mut taken = 0_u64;
        for _ in 0..20_000 {
            match meter.take(&bucket, 1, now, 0) {
                Ok(_) => taken += 1,
                Err(Later { wait_us }) => {
                    let exactly = 3 + u128::from(now) * u128::from(count) / (u128::from(per_ms) * 1_000);
                    assert_eq!(u128::from(taken), exactly, "{count} in {per_ms} ms, at {now} us");
                    now += wait_us;
                }
            }
        }
        // And the clock of a proxy that runs for long.
        let late = Bucket::default();
        assert_eq!(meter.take(&late, 3, year, 0), Ok(0));
        assert!(meter.take(&late, 1, year, 0).is_err());
    }
}

#[test]
fn no_window_admits_more_than_its_share_and_a_burst() {
    let mut random = Random(7);
    for round in 0..200 {
        let (count, per_ms) = (1 + random.below(2_000), [1, 10, 1_000, 60_000][random.below(4) as usize]);
        let burst = 1 + random.below(50);
        let (meter, bucket) = (meter(count, per_ms, burst), Bucket::default());
        let (mut now, mut admitted) = (random.below(1 << 40), Vec::new());
        for _ in 0..400 {
            now += random.below(2 * per_ms * 1_000 / count + 2);
            if meter.take(&bucket, 1, now, 0).is_ok() {
                admitted.push(now);
            }
        }
        for (i, from) in admitted.iter().enumerate() {
            for (j, to) in admitted.iter().enumerate().skip(i) {
                let most = burst + (to - from) * count / (per_ms * 1_000);
                assert!((j - i + 1) as u64 <= most, "round {round}: {} within {} us", j - i + 1, to - from);
            }
        }
    }
}

#[test]
fn it_agrees_with_a_bucket_of_whole_tokens() {
    // The textbook: tokens as exact fractions, count/per_us added every microsecond, at most a burst of them.
    let mut random = Random(11);
    for _ in 0..100 {
        let (count, per_ms, burst) = (1 + random.below(500), 1 + random.below(2_000), 1 + random.below(20));
        let (meter, bucket) = (meter(count, per_ms, burst), Bucket::default());
        let per_us = u128::from(per_ms) * 1_000;
        let (mut tokens, mut last) = (u128::from(burst) * per_us, 0);
        let mut now = 0;
        for _ in 0..500 {
            now += random.below(per_ms * 2_000 / count + 2);
            tokens = (tokens + u128::from(now - last) * u128::from(count)).min(u128::from(burst) * per_us);
            last = now;
            let units = 1 + random.below(3);
            let expect = tokens >= u128::from(units) * per_us;
            assert_eq!(meter.take(&bucket, units, now, 0).is_ok(), expect);
            if expect {
                tokens -= u128::from(units) * per_us;
            }
        }
    }
}

#[test]
fn workers_that_share_a_bucket_admit_what_one_would() {
    let (meter, bucket) = (meter(1_000, 1_000, 1_000), Arc::new(Bucket::default()));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let bucket = bucket.clone();
            std::thread::spawn(move || (0..10_000).filter(|_| meter.take(&bucket, 1, 77, 0).is_ok()).count())
        })
        .collect();
    let admitted: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(admitted, 1_000);
}

#[test]
fn a_reading_of_the_clock_that_lags_behind_refills_nothing() {
    let (meter, bucket) = (meter(10, 1_000, 5), Bucket::default());
    assert_eq!(meter.take(&bucket, 5, 2_000_000, 0), Ok(0));
    assert!(meter.take(&bucket, 1, 1_500_000, 0).is_err(), "half a second before");
    assert!(meter.take(&bucket, 1, 2_000_000, 0).is_err());
}

#[test]
fn with_patience_units_are_promised_and_beyond_it_not() {
    let (meter, bucket) = (meter(1_000, 1_000, 100), Bucket::default());
    assert_eq!(meter.take(&bucket, 100, 0, 1_000_000), Ok(0));
    assert_eq!(meter.take(&bucket, 100, 0, 1_000_000), Ok(100_000));
    assert_eq!(meter.take(&bucket, 900, 0, 1_000_000), Ok(1_000_000));
    assert_eq!(meter.take(&bucket, 100, 0, 1_000_000), Err(Later { wait_us: 100_000 }));
}

#[test]
fn what_is_given_back_can_be_taken_again() {
    let (meter, bucket) = (meter(1, 1_000, 2), Bucket::default());
    assert!(meter.take(&bucket, 2, 0, 0).is_ok());
    assert!(!meter.is_full(&bucket, 0));
    meter.give_back(&bucket, 1, 0);
    assert!(meter.take(&bucket, 1, 0, 0).is_ok());
    assert!(meter.take(&bucket, 1, 0, 0).is_err());
    // Given back to a bucket that is full already: no more than full.
    meter.give_back(&bucket, 2, 10_000_000);
    assert_eq!((0..5).filter(|_| meter.take(&bucket, 1, 10_000_000, 0).is_ok()).count(), 2);
}
