//! Scale-out under lasting pressure.

use std::sync::Arc;
use std::time::Duration;

use shakedown_core::clock::{self, Instant};

use super::gate::clients_waiting;
use super::state::{Shared, bytes_per_second};
use crate::truth::HoldReason;

const TICK: Duration = Duration::from_millis(50);
/// Share of connections or throughput in use from which an instance counts as under pressure.
/// Our choice: Google publishes none.
const PRESSURE: f64 = 0.8;
/// Weight of the newest tick in the smoothed throughput: about half a second's memory.
const SMOOTHING: f64 = 0.1;

/// Watches load and adds an instance when pressure has lasted for a delay drawn between the
/// settings' minimum and maximum; then a new delay begins. Also counts the clients that wait.
/// Runs until dropped.
pub(super) async fn run(shared: Arc<Shared>, port: u16) {
    let settings = shared.options.settings.clone();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut step = Step::default();
    let mut before = (clock::now(), shared.bytes());
    let mut mean_bytes_per_second = 0.0;
    loop {
        let now = ticks.tick().await;
        let bytes = shared.bytes();
        let elapsed = now.duration_since(before.0).as_secs_f64().max(1e-6);
        mean_bytes_per_second +=
            SMOOTHING * ((bytes - before.1) as f64 / elapsed - mean_bytes_per_second);
        before = (now, bytes);
        let held = shared.held();
        if held.is_some() {
            shared.record_waiting(clients_waiting(port));
        }

        let (instances, open) = shared.load();
        let connections =
            f64::from(open) / (f64::from(instances) * f64::from(settings.connections_per_instance));
        let throughput =
            mean_bytes_per_second / bytes_per_second(settings.throughput_mbps(instances));
        let pressed =
            held == Some(HoldReason::Capacity) || connections > PRESSURE || throughput > PRESSURE;
        let delay = || {
            let range = settings.scaling_delay_max.0.saturating_sub(settings.scaling_delay_min.0);
            settings.scaling_delay_min.0 + range.mul_f64(shared.draw_unit())
        };
        if step.out(now, pressed && instances < settings.instances_max, delay) {
            shared.set_instances(instances + 1);
        } else if settings.scale_in {
            // Quiet means that one instance less would not be under pressure.
            let fewer = f64::from(instances.saturating_sub(1)) / f64::from(instances);
            let quiet = instances > settings.instances_min
                && connections.max(throughput) < PRESSURE * fewer;
            if step.in_(now, quiet, settings.cooldown.0) {
                shared.set_instances(instances - 1);
            }
        }
    }
}

/// When the next change is due, while its reason lasts.
#[derive(Debug, Default)]
struct Step {
    out_at: Option<Instant>,
    in_at: Option<Instant>,
}

impl Step {
    fn out(&mut self, now: Instant, reason: bool, delay: impl FnOnce() -> Duration) -> bool {
        due(&mut self.out_at, now, reason, delay)
    }

    fn in_(&mut self, now: Instant, reason: bool, delay: Duration) -> bool {
        due(&mut self.in_at, now, reason, || delay)
    }
}

fn due(
    at: &mut Option<Instant>,
    now: Instant,
    reason: bool,
    delay: impl FnOnce() -> Duration,
) -> bool {
    if !reason {
        *at = None;
        return false;
    }
    if now < *at.get_or_insert_with(|| now + delay()) {
        return false;
    }
    *at = None;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pressure_must_last() {
        let mut at = None;
        let second = Duration::from_secs(1);
        let start = clock::now();
        let mut tick =
            |seconds: u32, reason| due(&mut at, start + second * seconds, reason, || second * 10);
        assert!(!tick(0, true));
        assert!(!tick(9, true));
        assert!(!tick(9, false), "a gap starts over");
        assert!(!tick(10, true));
        assert!(!tick(19, true));
        assert!(tick(20, true));
        assert!(!tick(21, true), "the next step takes its own delay");
        assert!(tick(31, true));
    }
}
