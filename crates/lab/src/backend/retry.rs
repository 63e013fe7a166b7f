//! The observed application's later way to open its pool: attempts with a back-off between them, under a
//! circuit breaker.

use std::time::Duration;

use shakedown_core::clock::{self, Instant};
use tokio::time::{sleep, timeout};

use super::config::Retries;
use super::log::Log;
use super::python::DatabaseError;
use super::startup::SMD;
use crate::random::SplitMix;

/// So many failures open the circuit.
const THRESHOLD: u32 = 3;
/// Back-offs grow by this, from [`Retries::base`] to [`Retries::cap`].
const GROWTH: u32 = 2;
/// The largest part of a back-off that is drawn at random and added.
const JITTER: f64 = 0.5;
/// The limit of an attempt grows by this part of the first one's.
const LIMIT_GROWTH: f64 = 0.5;

/// A circuit breaker.
#[derive(Debug, Clone, Default)]
pub(super) struct Circuit {
    failures: u32,
    opened: Option<Instant>,
    tried: bool,
}

impl Circuit {
    /// As log lines name its state.
    pub(super) fn state(&self) -> &'static str {
        match (self.opened, self.tried) {
            (None, _) => "closed",
            (Some(_), false) => "open",
            (Some(_), true) => "half_open",
        }
    }

    /// How long it lets nobody through, from now.
    fn shut_for(&self, recovery: Duration) -> Duration {
        self.opened.map_or(Duration::ZERO, |opened| recovery.saturating_sub(opened.elapsed()))
    }

    /// Somebody is let through.
    fn enter(&mut self) {
        self.tried = self.opened.is_some();
    }

    fn failed(&mut self) {
        self.failures += 1;
        if self.failures >= THRESHOLD {
            self.opened = Some(clock::now());
        }
        self.tried = false;
    }

    fn succeeded(&mut self) {
        *self = Self::default();
    }
}

/// The limit of the attempt `number`, counted from 0.
fn limit(first: Duration, number: u32, cap: Duration) -> Duration {
    first.mul_f64(LIMIT_GROWTH.mul_add(f64::from(number), 1.0)).min(cap + first)
}

/// The pause after the attempt `number`, `drawn` in 0..1.
fn pause(retries: &Retries, number: u32, drawn: f64) -> Duration {
    let grown = retries.base.saturating_mul(GROWTH.saturating_pow(number)).min(retries.cap);
    grown.mul_f64(JITTER.mul_add(drawn, 1.0))
}

/// Runs `attempt` until it succeeds, at most `retries.attempts` times, the first limited to `first`.
/// Errors that do not pass by themselves end it at once.
///
/// # Errors
/// The last attempt's error.
///
/// # Cancel safety
/// As `attempt`.
pub(super) async fn run<T>(
    retries: &Retries,
    first: Duration,
    (log, environment): (&Log, &str),
    circuit: &mut Circuit,
    mut attempt: impl AsyncFnMut() -> Result<T, DatabaseError>,
) -> Result<T, DatabaseError> {
    // Every start draws its own: instances that failed together do not come back together.
    let mut random = SplitMix::new(clock::wall().as_microsecond().unsigned_abs());
    let mut last = DatabaseError::Timeout;
    for number in 0..retries.attempts {
        let shut = circuit.shut_for(retries.recovery);
        if !shut.is_zero() {
            let seconds = shut.as_secs_f64();
            let words = format!(
                "Circuit breaker blocks database attempts for {seconds:.1}s (circuit: {})",
                circuit.state()
            );
            log.warning(SMD, &words);
            sleep(shut).await;
        }
        circuit.enter();
        let limit = limit(first, number, retries.cap);
        log.info(
            SMD,
            &format!(
                "Database initialization attempt {}/{} with timeout {:.1}s (circuit: {})",
                number + 1,
                retries.attempts,
                limit.as_secs_f64(),
                circuit.state()
            ),
        );
        match timeout(limit, attempt()).await.unwrap_or(Err(DatabaseError::Timeout)) {
            Ok(done) => {
                let tried = circuit.state() != "closed";
                circuit.succeeded();
                if tried {
                    log.info(
                        SMD,
                        &format!("Database connection restored (circuit: {})", circuit.state()),
                    );
                }
                return Ok(done);
            }
            Err(error) => last = error,
        }
        circuit.failed();
        log.warning(
            SMD,
            &format!(
                "Database initialization attempt {}/{} failed: {last}",
                number + 1,
                retries.attempts
            ),
        );
        if !last.is_transient() {
            return Err(last);
        }
        if number + 1 < retries.attempts {
            sleep(pause(retries, number, random.unit())).await;
        }
    }
    let failed = format!(
        "Database initialization failed after {} attempts in {environment} environment. Last error: {last}",
        retries.attempts
    );
    log.error(SMD, &failed);
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::log::tests::Shared;

    const S: Duration = Duration::from_secs(1);

    fn retries() -> Retries {
        Retries { attempts: 5, base: 2 * S, cap: 30 * S, recovery: 60 * S }
    }

    #[test]
    fn limits_and_pauses_are_the_observed_application_s() {
        let limits = [0, 1, 2, 3, 4].map(|number| limit(95 * S, number, 30 * S).as_millis());
        assert_eq!(limits, [95_000, 125_000, 125_000, 125_000, 125_000]);
        let pauses = [0, 1, 2, 3, 4].map(|number| pause(&retries(), number, 0.0).as_secs());
        assert_eq!(pauses, [2, 4, 8, 16, 30]);
        assert_eq!(pause(&retries(), 0, 1.0), 3 * S);
    }

    /// The states that the log names, repetitions left out.
    fn states(text: &str) -> Vec<&str> {
        let mut states: Vec<&str> = Vec::new();
        for part in text.split("(circuit: ").skip(1) {
            let state = part.split(')').next().unwrap_or_default();
            if states.last() != Some(&state) {
                states.push(state);
            }
        }
        states
    }

    /// What attempts give of which the one counted `succeeds_at` succeeds, and what they log.
    async fn attempts(
        succeeds_at: u32,
        error: DatabaseError,
    ) -> (Result<u32, DatabaseError>, String) {
        let shared = Shared::default();
        let (retries, log) = (retries(), Log::new(shared.clone()));
        let mut circuit = Circuit::default();
        let mut made = 0;
        let outcome = run(&retries, S, (&log, "staging"), &mut circuit, async || {
            made += 1;
            if made == succeeds_at { Ok(made) } else { Err(error.clone()) }
        });
        let outcome = outcome.await;
        (outcome, shared.text())
    }

    #[tokio::test(start_paused = true)]
    async fn the_circuit_opens_after_three_failures_and_closes_after_a_success() {
        let (outcome, text) = attempts(4, DatabaseError::Closed).await;
        assert_eq!(outcome, Ok(4));
        assert_eq!(states(&text), ["closed", "open", "half_open", "closed"], "{text}");
        assert!(text.contains("attempt 1/5 with timeout 1.0s (circuit: closed)"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_again_when_the_attempt_fails() {
        let (outcome, text) = attempts(9, DatabaseError::Closed).await;
        assert_eq!(outcome, Err(DatabaseError::Closed));
        assert_eq!(states(&text), ["closed", "open", "half_open", "open", "half_open"], "{text}");
        assert!(text.contains("failed after 5 attempts in staging environment"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_pass_is_not_tried_again() {
        let (outcome, text) = attempts(2, DatabaseError::NoSocket).await;
        assert_eq!(outcome, Err(DatabaseError::NoSocket));
        assert!(!text.contains("attempt 2/5"), "{text}");
    }
}
