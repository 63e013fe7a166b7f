//! A token bucket that lets callers go into debt and wait it off.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shakedown_core::clock::{self, Instant};

/// Shared by all that draw on one rate.
#[derive(Debug)]
pub(crate) struct Throttle(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    per_second: f64,
    burst: f64,
    /// Below zero: debt.
    level: f64,
    at: Instant,
}

impl Bucket {
    fn refill(&mut self) {
        let now = clock::now();
        let earned = now.duration_since(self.at).as_secs_f64() * self.per_second;
        self.level = (self.level + earned).min(self.burst);
        self.at = now;
    }

    fn time_until(&self, level: f64) -> Duration {
        Duration::from_secs_f64(((level - self.level) / self.per_second).max(0.0))
    }
}

impl Throttle {
    /// `burst` is what may be drawn at once; the bucket starts full.
    pub(crate) fn new(per_second: f64, burst: f64) -> Self {
        Self(Mutex::new(Bucket { per_second, burst, level: burst, at: clock::now() }))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Bucket) -> T) -> T {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.refill();
        act(&mut bucket)
    }

    /// What was drawn so far stays drawn.
    pub(crate) fn set_rate(&self, per_second: f64) {
        self.with(|bucket| bucket.per_second = per_second);
    }

    /// Draws `amount` and returns how long the caller has to wait for it.
    pub(crate) fn draw(&self, amount: f64) -> Duration {
        self.with(|bucket| {
            bucket.level -= amount;
            bucket.time_until(0.0)
        })
    }

    /// When a whole unit can be drawn without debt; `None` now.
    pub(crate) fn wait_for_one(&self) -> Option<Duration> {
        self.with(|bucket| (bucket.level < 1.0).then(|| bucket.time_until(1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn debt_is_waited_off_and_shared() {
        let throttle = Throttle::new(100.0, 10.0);
        assert_eq!(throttle.draw(10.0), Duration::ZERO);
        assert_eq!(throttle.draw(50.0), Duration::from_millis(500));
        assert_eq!(throttle.draw(50.0), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(throttle.draw(0.0), Duration::ZERO);
        assert_eq!(throttle.wait_for_one(), Some(Duration::from_millis(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn rest_earns_no_more_than_the_burst() {
        let throttle = Throttle::new(100.0, 10.0);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(throttle.draw(20.0), Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_higher_rate_counts_from_now() {
        let throttle = Throttle::new(10.0, 1.0);
        throttle.draw(101.0);
        throttle.set_rate(100.0);
        assert_eq!(throttle.draw(0.0), Duration::from_secs(1));
    }
}
