//! How long a step in connect latency lasts until connects are quick again.
//!
//! **Asks** whether the path recovers from pressure, and how long that takes. Good: there is no step
//! at all, or connects are quick again within the window.
//!
//! **Measures** single connects at a steady cadence, one after the other, on the way that crosses
//! the connector, as `vpc.connector-capacity` does. A step is a connect that got no answer or took
//! longer than `step_tolerance`; it is over when `steady_connects` in a row were quick again. How
//! long it lasted is reported as a range, because between two packets nobody can see whether the
//! path is open: at least from the first that stayed unanswered to the last, at most from the answer
//! before them to the answer after them; `recovery` is the middle of it. A direct connect is given up
//! before TCP would send its packet again (1 s, at every time scale), so that a new one goes out every
//! `cadence`; a proxy's own dial shows nothing in between.
//!
//! **Verdicts.** `skip (not exercised)`: the first `steady_connects` were quick, and so were all up to
//! `wait_for_step`, so there was no step to measure; the usual end, after a few seconds. `degraded`: a step came and went; its length
//! is measured. `fail`: connects were not quick again when the window ended. `skip (unavailable)`:
//! no path from here crosses the connector, or connects are refused at once, which is no pressure.
//!
//! **Draws** three database connections and uses one: a connect that stayed unanswered may have
//! arrived, so that it counts for `safety.linger` on. With `connections` it may be more, where the
//! budget was raised.
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
use shakedown_core::clock::{self, Instant};
use shakedown_core::id::resource;
use shakedown_core::{
    Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase, SkipReason,
    Span, Step, async_trait,
};
use shakedown_wire::net;
use shakedown_wire::pg::{self, Endpoint};

use super::limits::ONE_SYN;
use super::step::{Watch, observation, watch};
use super::target::{self, DatabaseTarget};
use crate::causes::VPC_CONNECTOR_CAPACITY;
use crate::path::{NetworkPath, Way};
use crate::section::Vpc;
use crate::series::Attempt;

const DRAW: u32 = 3;

const META: ProbeMeta = ProbeMeta {
    markers: &["staging", "issue_1278", "capacity"],
    draws: &[Draw::between(resource::DATABASE_CONNECTION, 1, DRAW)],
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
    /// From the beginning of one connect to that of the next. Default 1s: as many as the strategy's
    /// 60 a minute; a step's length is known to about this.
    pub cadence: Span,
    /// How long to wait for a step, when the first connects are quick. Default 0s: not at all.
    pub wait_for_step: Span,
    /// How many quick connects in a row mean that all is quiet. Default 5: our choice, no source.
    pub steady_connects: NonZeroU32,
    /// How long one connect through a proxy may take. Default 30s, the strategy's safety limit. A
    /// direct one is given up before TCP sends its packet again.
    pub connect_timeout: Span,
    /// How many connects may count at a time, those included that stayed unanswered less than
    /// `safety.linger` ago. Default 3: what the strategy's budget leaves; then a step's length is
    /// known to two seconds.
    pub connections: NonZeroU32,
    /// A connect that takes longer is part of a step. Default 500ms: half of what TCP waits before
    /// it sends a SYN again.
    pub step_tolerance: Span,
}

impl Default for ScalingDelayConfig {
    fn default() -> Self {
        Self {
            window: Span::secs(120),
            cadence: Span::secs(1),
            wait_for_step: Span::secs(0),
            steady_connects: NonZeroU32::new(5).expect("is 5"),
            connect_timeout: Span::secs(30),
            connections: NonZeroU32::new(DRAW).expect("is 3"),
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

    fn draws(&self) -> Option<Vec<Draw>> {
        let most = self.config.connections.get();
        Some(vec![Draw::between(resource::DATABASE_CONNECTION, 1, most)])
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
        target.pg.connect_timeout = self.config.connect_timeout.get();
        let mut series: Vec<Attempt> = Vec::new();
        let mut telling: (f64, Vec<Step>) = (-1.0, Vec::new());
        let began = clock::now();
        loop {
            let at = clock::now();
            let (steps, ended) = connect(ctx, target).await?;
            // Without what it waited for the run's own rate.
            let took: f64 = steps.iter().map(|step| step.elapsed_ms).sum();
            let at_ms = clock::millis(ended.duration_since(began)) - took;
            let attempt = Attempt::of(way, at_ms, &steps);
            // The rest of a step is in its length.
            let first = series.last().is_none_or(|before| before.unanswered().is_none());
            if attempt.unanswered().is_some() && first {
                target::observe_steps(ctx, &target::database(), &steps);
            }
            ctx.progress(match attempt.unanswered() {
                None => format!("connect {}: {:.1} ms", series.len() + 1, attempt.ms),
                Some(_) => {
                    format!("connect {}: no answer in {:.0} ms", series.len() + 1, attempt.ms)
                }
            });
            if attempt.ms > telling.0 {
                telling = (attempt.ms, steps);
            }
            series.push(attempt);
            let told = match self.read(way, &series) {
                Watch::Steady => began.elapsed() >= self.config.wait_for_step.get(),
                Watch::Refused | Watch::Recovered { .. } => true,
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
                let middle_ms = f64::midpoint(at_least_ms, at_most_ms);
                let finding = Finding::new(format!(
                    "connects were quick again after {:.1} s{}; between two attempts the path's \
                     opening cannot be seen, so it was {:.1} to {:.1} s",
                    middle_ms / 1e3,
                    since(from_the_start),
                    at_least_ms / 1e3,
                    at_most_ms / 1e3,
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
                    .measure("recovery", middle_ms / 1e3, "s")
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

/// Connects once and closes again. On a direct way TCP's own answer tells whether it is open: no
/// login is made. The steps, and when they were over.
async fn connect(
    ctx: &ProbeCtx,
    target: &DatabaseTarget,
) -> Result<(Vec<Step>, Instant), ProbeError> {
    let lease = ctx.lease(&resource::DATABASE_CONNECTION).await?;
    if let Endpoint::Tcp { host, port } = &target.pg.endpoint {
        let climb = net::tcp_within(ctx, lease, host, *port, ONE_SYN).await.uninterrupted()?;
        let ended = clock::now();
        if let Ok(peer) = climb.result {
            peer.close().await;
        }
        return Ok((climb.steps, ended));
    }
    let climb = pg::connect(ctx, lease, &target.pg).await.uninterrupted()?;
    let ended = clock::now();
    if let Ok(connection) = climb.result {
        connection.close().await;
    }
    Ok((climb.steps, ended))
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
            [
                ("recovery", 2.0),
                ("recovery_at_least", 1.0),
                ("recovery_at_most", 3.0),
                ("connects", 5.0)
            ]
        );
        assert_eq!(outcome(here, recovered(true)).findings[0].suggests, None);
        assert_eq!(outcome(Vantage::Unknown, recovered(false)).findings[0].suggests, None);
    }
}
