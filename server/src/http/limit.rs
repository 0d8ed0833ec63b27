//! How many requests one token may make: a token bucket for each, in a map of bounded size.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

/// Tokens remembered at once. A bucket that is forgotten begins full.
const MOST: usize = 10_000;
/// A bucket holds the requests of this many seconds.
const BURST_SECONDS: f64 = 10.0;

/// The rate limit of this replica.
pub struct Limiter {
    per_second: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl Limiter {
    /// `per_second` 0 turns the limit off.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second: f64::from(per_second),
            buckets: Mutex::new(HashMap::new()),
        }
    }

    /// Takes one request out of the bucket of `key`; else says after how many seconds there is one.
    pub fn take(&self, key: &str) -> Result<(), u32> {
        self.take_at(key, Instant::now())
    }

    fn take_at(&self, key: &str, now: Instant) -> Result<(), u32> {
        if self.per_second == 0.0 {
            return Ok(());
        }
        let Ok(mut buckets) = self.buckets.lock() else {
            return Ok(());
        };
        let full = self.per_second * BURST_SECONDS;
        if buckets.len() >= MOST && !buckets.contains_key(key) {
            let refilled = |bucket: &Bucket| {
                bucket.left + now.duration_since(bucket.at).as_secs_f64() * self.per_second >= full
            };
            buckets.retain(|_, bucket| !refilled(bucket));
            if buckets.len() >= MOST {
                buckets.clear();
            }
        }
        let bucket = buckets
            .entry(key.to_owned())
            .or_insert(Bucket { left: full, at: now });
        let gained = now.duration_since(bucket.at).as_secs_f64() * self.per_second;
        bucket.left = (bucket.left + gained).min(full);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        let seconds = ((1.0 - bucket.left) / self.per_second).ceil().max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most one second: a bucket gains at least one request in it"
        )]
        let seconds = seconds as u32;
        Err(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn f05_a_flood_is_refused_and_another_token_is_not() {
        let limiter = Limiter::new(5);
        let now = Instant::now();
        let taken = (0..100).filter(|_| limiter.take_at("a", now).is_ok()).count();
        assert_eq!(taken, 50);
        assert_eq!(limiter.take_at("a", now), Err(1));
        assert_eq!(limiter.take_at("b", now), Ok(()));
        assert_eq!(limiter.take_at("a", now + Duration::from_secs(1)), Ok(()));
    }

    #[test]
    fn zero_is_no_limit() {
        let limiter = Limiter::new(0);
        assert!((0..10_000).all(|_| limiter.take("a").is_ok()));
    }

    #[test]
    fn f05_the_map_is_bounded() {
        let limiter = Limiter::new(1);
        for number in 0..3 * MOST {
            limiter.take(&number.to_string()).unwrap();
        }
        assert!(limiter.buckets.lock().unwrap().len() <= MOST);
    }
}
