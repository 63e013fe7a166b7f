//! How long a step in connect latency lasts until connects are quick again.
//!
//! **Asks** whether the path recovers from pressure, and how long that takes. Good: there is no step
//! at all, or connects are quick again within the window.
//!
//! **Measures** single connects at a steady cadence, one after the other, on the way that crosses
//! the connector, as `vpc.connector-capacity` does. A step is a connect that got no answer or took
//! longer than `step_tolerance`; it is over when `steady_connects` in a row were quick again. The
//! time from the beginning of the first bad connect to the moment one got through is reported as a
//! range, because between two SYNs nobody can see when the path opened: TCP sends them after 1, 3,
//! 7, 15 s, at every time scale, and a proxy's own dial shows nothing in between.
//!
//! **Verdicts.** `skip (not exercised)`: the first `steady_connects` were quick, so there was no
//! step to measure; the usual end, after a few seconds. `degraded`: a step came and went; its length
//! is measured. `fail`: connects were not quick again when the window ended. `skip (unavailable)`:
//! no path from here crosses the connector, or connects are refused at once, which is no pressure.
//!
//! **Draws** one database connection.
//!
//! **Configuration**: `[probes."vpc.scaling-delay"]`, see [`ScalingDelayConfig`].
//!
//! **Cannot tell** why a step ended: the connector scaled out, egress came up, or a neighbour went
//! away. The connector's instance count can. When the first connect was already bad, the step is
//! older than the watch and the length is a lower bound.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::clock;
use shakedown_core::id::resource;
use shakedown_core::{
    Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase, SkipReason,
    Span, Step, async_trait,
};
use shakedown_wire::pg;

use super::step::{Watch, observation, watch};
use super::target::{self, DatabaseTarget};
use crate::causes::VPC_CONNECTOR_CAPACITY;
use crate::path::{NetworkPath, Way};
use crate::section::Vpc;
use crate::series::Attempt;

const META: ProbeMeta = ProbeMeta {
    markers: &["staging", "issue_1278", "capacity"],
    draws: &[Draw::new(resource::DATABASE_CONNECTION, 1)],
    expected: Duration::from_secs(10),
    timeout: Duration::from_secs(170),
    aliases: &[
        "tests/connectivity/test_issue_1278_vpc_connector_validation.py::TestVPCConnectorValidation::test_vpc_connector_scaling_delay_measurement",
    ],
    ..ProbeMeta::new(
        "vpc.scaling-delay",
        RunPhase::Network,
        "connects stay quick, or are quick again soon after a step in their latency",
    )
};

/// `[probes."vpc.scaling-delay"]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ScalingDelayConfig {
    /// How long to watch at most. Default 120s: twice the strategy's longest scaling delay, which
    /// is itself undocumented.
    pub window: Span,
    /// From the beginning of one connect to that of the next. Default 2s.
    pub cadence: Span,
    /// How many quick connects in a row mean that all is quiet. Default 5: our choice, no source.
    pub steady_connects: NonZeroU32,
    /// How long one connect may take. Default 30s, the strategy's safety limit.
    pub connect_timeout: Span,
    /// A connect that takes longer is part of a step. Default 500ms: half of what TCP waits before
    /// it sends a SYN again.
    pub step_tolerance: Span,
}

impl Default for ScalingDelayConfig {
    fn default() -> Self {
        Self {
            window: Span::secs(120),
            cadence: Span::secs(2),
            steady_connects: NonZeroU32::new(5).expect("is 5"),
            connect_timeout: Span::secs(30),
            step_tolerance: Span::millis(500),
        }
    }
}

/// The probe `vpc.scaling-delay`.
#[derive(Debug)]
pub struct ScalingDelay {
    config: ScalingDelayConfig,
}

impl ProbeSpec for ScalingDelay {
    type Config = ScalingDelayConfig;
    const META: ProbeMeta = META;

    fn from_config(config: Self::Config) -> Self {
        Self { config }
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(ScalingDelay);

#[async_trait]
impl Probe for ScalingDelay {
    fn meta(&self) -> &'static ProbeMeta {
        &META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let vpc: Vpc = ctx.section()?;
        let targets = match target::targets(ctx, &vpc, META.id)? {
            Ok(targets) => targets,
            Err(skip) => return Ok(skip),
        };
        let mut target = match target::across_connector(targets) {
            Ok(target) => target,
            Err(skip) => return Ok(skip),
        };
        target::state(ctx, &target.path);
        let (series, telling) = self.series(ctx, &mut target).await?;
        let seen = self.read(target.path.way, &series);
        if let Some(body) = observation(&target.path, &seen) {
            ctx.observe(target::database(), body);
        }
        Ok(self.outcome(&vpc, &target.path, &series, &seen).steps(telling))
    }
}

impl ScalingDelay {
    fn read(&self, way: Way, series: &[Attempt]) -> Watch {
        let steady = self.config.steady_connects.get() as usize;
        watch(way, series, steady, clock::millis(self.config.step_tolerance.get()))
    }

    /// Connects until the series tells, or the window ends. Also the steps of the slowest climb.
    async fn series(
        &self,
        ctx: &ProbeCtx,
        target: &mut DatabaseTarget,
    ) -> Result<(Vec<Attempt>, Vec<Step>), ProbeError> {
        let way = target.path.way;
        let window = self.config.window.get();
        let mut series: Vec<Attempt> = Vec::new();
        let mut telling: (f64, Vec<Step>) = (-1.0, Vec::new());
        let began = clock::now();
        loop {
            let lease = ctx.lease(&resource::DATABASE_CONNECTION).await?;
            let at = clock::now();
            target.pg.connect_timeout = self.config.connect_timeout.get();
            let climb = pg::connect(ctx, lease, &target.pg).await.uninterrupted()?;
            let at_ms = clock::millis(at.duration_since(began));
            let attempt = Attempt::of(way, at_ms, &climb.steps);
            if attempt.unanswered().is_some() {
                target::observe_steps(ctx, &target::database(), &climb.steps);
            }
            ctx.progress(match attempt.unanswered() {
                None => format!("connect {}: {:.1} ms", series.len() + 1, attempt.ms),
                Some(_) => {
                    format!("connect {}: no answer in {:.0} ms", series.len() + 1, attempt.ms)
                }
            });
            if attempt.ms > telling.0 {
                telling = (attempt.ms, climb.steps);
            }
            series.push(attempt);
            if let Ok(connection) = climb.result {
                connection.close().await;
            }
            let told = match self.read(way, &series) {
                Watch::Steady | Watch::Refused | Watch::Recovered { .. } => true,
                Watch::Undecided | Watch::Pressed { .. } => false,
            };
            if told || began.elapsed() >= window {
                return Ok((series, telling.1));
            }
            ctx.sleep(self.config.cadence.get().saturating_sub(at.elapsed())).await?;
        }
    }

    fn outcome(&self, vpc: &Vpc, path: &NetworkPath, series: &[Attempt], seen: &Watch) -> Outcome {
        let config = &self.config;
        let outcome = match *seen {
            Watch::Steady => Outcome::skip(SkipReason::NotExercised(format!(
                "no step in connect latency: {} connects in a row took at most {}",
                config.steady_connects, config.step_tolerance
            ))),
            Watch::Undecided => Outcome::skip(SkipReason::NotExercised(format!(
                "no step in connect latency: all {} connects that fit into {} took at most {}",
                series.len(),
                config.window,
                config.step_tolerance
            ))),
            Watch::Refused => Outcome::skip(SkipReason::Unavailable(
                "connects are refused at once, which is no pressure to recover from; see \
                 vpc.direct-connectivity"
                    .into(),
            )),
            Watch::Pressed { so_far_ms, from_the_start } => {
                let what = format!(
                    "connects were not quick again when the watch ended: bad for {:.1} s{}",
                    so_far_ms / 1e3,
                    since(from_the_start)
                );
                let last = series.iter().rev().find_map(Attempt::unanswered);
                let finding = last
                    .map_or_else(|| Finding::new(what.clone()), |step| Finding::at(step, &what));
                Outcome::fail(finding.next(
                    "longer than any scaling delay assumed: see vpc.direct-connectivity, and the \
                     connector's state and instances",
                ))
                .measure("pressed_at_least", so_far_ms / 1e3, "s")
            }
            Watch::Recovered { at_least_ms, at_most_ms, from_the_start } => {
                let finding = Finding::new(format!(
                    "connects were quick again after {:.1} to {:.1} s{}; between two attempts the \
                     path's opening cannot be seen, so it is known to {:.1} s",
                    at_least_ms / 1e3,
                    at_most_ms / 1e3,
                    since(from_the_start),
                    (at_most_ms - at_least_ms) / 1e3
                ))
                .next(
                    "compare with the connector's instance count: it tells a scale-out from egress \
                     coming up and from a neighbour that went away",
                );
                // Pressure that began before the watch may as well have been missing egress.
                let finding = match path.books_to_connector() && !from_the_start {
                    true => finding.suggesting(VPC_CONNECTOR_CAPACITY),
                    false => finding,
                };
                Outcome::degraded(finding)
                    .measure("recovery_at_least", at_least_ms / 1e3, "s")
                    .measure("recovery_at_most", at_most_ms / 1e3, "s")
            }
        };
        let connects = u32::try_from(series.len()).map_or(f64::INFINITY, f64::from);
        outcome
            .find(path.finding())
            .find(Finding::new(format!(
                "configured scaling delay, not compared: {} to {} ({})",
                vpc.scaling_delay_min.value,
                vpc.scaling_delay_max.value,
                match &vpc.scaling_delay_min.assumed {
                    Some(why) => format!("assumed: {why}"),
                    None => "stated".to_owned(),
                }
            )))
            .measure("connects", connects, "connections")
    }
}

fn since(from_the_start: bool) -> &'static str {
    if from_the_start {
        " since the first connect of the watch; the step is older than that"
    } else {
        " since the step was seen"
    }
}

#[cfg(test)]
mod tests {
    use shakedown_core::{Tier, Vantage, Verdict};

    use super::*;
    use crate::path::Dial;
    use crate::section::Egress;
    use crate::series::tests::ladder;

    fn quick(count: u32) -> Vec<Attempt> {
        let attempt =
            |n| Attempt::of(Way::Tcp, 200.0 * f64::from(n), &ladder(&[("connect", 1.0)], None));
        (0..count).map(attempt).collect()
    }

    #[test]
    fn each_reading_has_its_verdict_and_only_a_step_on_the_connectors_path_is_booked() {
        let path = |vantage| {
            let vpc = Vpc { name: "c".into(), egress: Some(Egress::AllTraffic), ..Vpc::default() };
            Dial { vantage, tier: Tier::Staging, host: "10.0.0.5", port: 5432, vpc: &vpc }.path()
        };
        let probe = ScalingDelay::from_config(ScalingDelayConfig::default());
        let outcome = |vantage, watch: Watch| {
            probe.outcome(&Vpc::default(), &path(vantage), &quick(5), &watch)
        };
        let recovered = |from_the_start| Watch::Recovered {
            at_least_ms: 1000.0,
            at_most_ms: 3000.0,
            from_the_start,
        };
        let here = Vantage::CloudRun;
        let booked = Some(VPC_CONNECTOR_CAPACITY);

        let skipped = outcome(here, Watch::Steady);
        assert!(
            matches!(&skipped.verdict, Verdict::Skip { reason: SkipReason::NotExercised(_) }),
            "{skipped:?}"
        );
        let refused = outcome(here, Watch::Refused);
        assert!(
            matches!(&refused.verdict, Verdict::Skip { reason: SkipReason::Unavailable(_) }),
            "{refused:?}"
        );
        let pressed = outcome(here, Watch::Pressed { so_far_ms: 12e3, from_the_start: true });
        assert_eq!(pressed.verdict, Verdict::Fail);

        let seen = outcome(here, recovered(false));
        assert_eq!((&seen.verdict, &seen.findings[0].suggests), (&Verdict::Degraded, &booked));
        let figures: Vec<_> = seen.measurements.iter().map(|m| (&*m.name, m.value)).collect();
        assert_eq!(
            figures,
            [("recovery_at_least", 1.0), ("recovery_at_most", 3.0), ("connects", 5.0)]
        );
        assert_eq!(outcome(here, recovered(true)).findings[0].suggests, None);
        assert_eq!(outcome(Vantage::Unknown, recovered(false)).findings[0].suggests, None);
    }
}
