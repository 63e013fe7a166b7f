//! How fast the path carries bytes from the database, at least.
//!
//! **Asks** whether a bounded read comes through whole and in time. Good: it does; the figure is how
//! fast.
//!
//! **Measures** one read-only query that makes its rows out of nothing (64 KiB each), read to the
//! end and thrown away. `throughput`: bytes as the server sent them, over the time from sending the
//! query to its last byte. `throughput_steady`: the median rate of twelve equal slices of the read
//! after its first quarter, in which neither an allowance for bursts nor a pause of one of the two
//! machines counts. On the way that crosses the connector if one does, else on `[database]`.
//!
//! **Verdicts.** `pass`: all bytes came. `fail`: the connection broke, stalled beyond
//! `transfer_timeout`, or the login failed. There is no threshold: one connection's figure is a
//! lower bound of what the path carries, and the server's CPU, TLS and the client can be what
//! bounds it.
//!
//! **Draws** one database connection, and the bytes: 8 MiB by default.
//!
//! **Configuration**: `[probes."vpc.throughput"]`, see [`ThroughputConfig`].
//!
//! **Cannot tell** the connector's capacity: others use it at the same time, and one connection need
//! not fill it. Nor a lasting rate, where the whole read is short enough to live on an allowance for
//! bursts. The configured throughput is printed beside the figure and never divided by.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::clock;
use shakedown_core::id::{capability, resource};
use shakedown_core::{
    Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase, Setting, Span,
    Step, async_trait,
};
use shakedown_wire::pg::{self, Arrival, Streamed, statements};

use super::target;
use crate::path::NetworkPath;
use crate::section::Vpc;
use crate::series::percentile;

/// What [`statements::THROUGHPUT`] makes each row of.
const ROW_BYTES: u32 = 65_536;

/// Into how many slices what follows the first quarter of a read is cut. Our choice.
const SLICES: usize = 12;

const META: ProbeMeta = ProbeMeta {
    markers: &["staging", "issue_1278", "capacity"],
    needs: &[capability::DATABASE_SESSION],
    draws: &[Draw::new(resource::DATABASE_CONNECTION, 1)],
    expected: Duration::from_secs(2),
    timeout: Duration::from_secs(45),
    aliases: &[
        "tests/connectivity/test_issue_1278_vpc_connector_validation.py::TestVPCConnectorValidation::test_vpc_connector_throughput_limits",
    ],
    ..ProbeMeta::new(
        "vpc.throughput",
        RunPhase::Network,
        "a bounded read from the database comes through whole and in time",
    )
};

/// How many bytes to read: 64 KiB to 64 MiB, in whole rows of 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(try_from = "u32", into = "u32")]
pub struct TransferBytes(u32);

impl TransferBytes {
    const MAX: u32 = 64 << 20;

    fn rows(self) -> i32 {
        i32::try_from(self.0 / ROW_BYTES).expect("at most 1024 rows")
    }
}

impl TryFrom<u32> for TransferBytes {
    type Error = String;

    fn try_from(bytes: u32) -> Result<Self, String> {
        if (ROW_BYTES..=Self::MAX).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(format!("{bytes} bytes: between {ROW_BYTES} and {} are read", Self::MAX))
        }
    }
}

impl From<TransferBytes> for u32 {
    fn from(bytes: TransferBytes) -> Self {
        bytes.0
    }
}

/// `[probes."vpc.throughput"]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ThroughputConfig {
    /// How many bytes to read, 65536 to 67108864. Default 8 MiB: a third of a second at the
    /// 200 Mbit/s of the smallest connector.
    pub transfer_bytes: TransferBytes,
    /// How long the read may take. Default 30s.
    pub transfer_timeout: Span,
}

impl Default for ThroughputConfig {
    fn default() -> Self {
        Self { transfer_bytes: TransferBytes(8 << 20), transfer_timeout: Span::secs(30) }
    }
}

/// The probe `vpc.throughput`.
#[derive(Debug)]
pub struct Throughput {
    config: ThroughputConfig,
}

impl ProbeSpec for Throughput {
    type Config = ThroughputConfig;
    const META: ProbeMeta = META;

    fn from_config(config: Self::Config) -> Self {
        Self { config }
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(Throughput);

#[async_trait]
impl Probe for Throughput {
    fn meta(&self) -> &'static ProbeMeta {
        &META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let vpc: Vpc = ctx.section()?;
        let targets = match target::targets(ctx, &vpc, META.id)? {
            Ok(targets) => targets,
            Err(skip) => return Ok(skip),
        };
        let mut target = target::across_connector_if_any(targets);
        target::state(ctx, &target.path);
        target.pg.statement_timeout = self.config.transfer_timeout.get();
        let lease = ctx.lease(&resource::DATABASE_CONNECTION).await?;
        let climb = pg::connect(ctx, lease, &target.pg).await.uninterrupted()?;
        let mut steps = climb.steps;
        let read = match climb.result {
            Err(_) => None,
            Ok(mut connection) => {
                let bytes = self.config.transfer_bytes;
                ctx.progress(format!("reading {} bytes", u32::from(bytes)));
                // Framing comes on top of the rows.
                let cap = u64::from(u32::from(bytes)) + u64::from(ROW_BYTES);
                let (step, read) =
                    connection.stream_bytes(statements::THROUGHPUT, bytes.rows(), cap).await;
                steps.push(step.clone());
                connection.close().await;
                target::not_interrupted(ctx)?;
                Some((step, read.ok()))
            }
        };
        target::observe_steps(ctx, &target::database(), &steps);
        let failed = steps.iter().find(|step| !step.is_ok()).cloned();
        let read = read.and_then(|(step, read)| Some((read?, step.elapsed_ms)));
        Ok(outcome(&vpc, &target.path, failed.as_ref(), read.as_ref()).steps(steps))
    }
}

/// Megabits per second, decimal, as networks count.
#[expect(clippy::cast_precision_loss, reason = "at most 64 MiB")]
fn mbit_per_second(bytes: u64, elapsed_ms: f64) -> Option<f64> {
    (elapsed_ms > 0.0).then(|| bytes as f64 * 8.0 / 1e6 / (elapsed_ms / 1e3))
}

/// The median rate of equal slices of a read, its first quarter left out; `None` where there are too
/// few rows to cut, or too many came at once to be told apart.
fn steady_mbit_per_second(arrivals: &[Arrival]) -> Option<f64> {
    let after_the_first_quarter = arrivals.get(arrivals.len() / 4..)?;
    let rows = after_the_first_quarter.len().saturating_sub(1) / SLICES;
    if rows == 0 {
        return None;
    }
    let slice = |n: usize| {
        let (from, to) =
            (after_the_first_quarter[n * rows], after_the_first_quarter[(n + 1) * rows]);
        let elapsed_ms = clock::millis(to.after.saturating_sub(from.after));
        mbit_per_second(to.bytes - from.bytes, elapsed_ms)
    };
    let rates: Option<Vec<f64>> = (0..SLICES).map(slice).collect();
    percentile(&rates?, 0.5)
}

/// `read` is what came, and the milliseconds it took.
fn outcome(
    vpc: &Vpc,
    path: &NetworkPath,
    failed: Option<&Step>,
    read: Option<&(Streamed, f64)>,
) -> Outcome {
    fn said(setting: &Setting<u32>) -> String {
        match &setting.assumed {
            Some(why) => format!("{} Mbit/s (assumed: {why})", setting.value),
            None => format!("{} Mbit/s (stated)", setting.value),
        }
    }
    let mut outcome = Outcome::pass();
    if let Some(step) = failed {
        let what = match &*step.rung {
            "query" => "the read did not come through whole",
            _ => "no session to read over",
        };
        outcome = outcome.failing(Finding::at(step, what).next("see vpc.direct-connectivity"));
    }
    if let Some((Streamed { bytes, arrivals }, elapsed_ms)) = read
        && let Some(mbit) = mbit_per_second(*bytes, *elapsed_ms)
    {
        #[expect(clippy::cast_precision_loss, reason = "at most 64 MiB")]
        let count = *bytes as f64;
        let steady = steady_mbit_per_second(arrivals);
        let steadily = steady.map(|steady| format!(" ({steady:.1} Mbit/s once it flowed)"));
        outcome = outcome
            .find(Finding::new(format!(
                "{bytes} bytes in {elapsed_ms:.1} ms over one connection are {mbit:.1} Mbit/s{}: a \
                 lower bound of what the path carried at that moment, not the connector's capacity",
                steadily.unwrap_or_default()
            )))
            .measure("throughput", mbit, "Mbit/s")
            .measure("transferred", count, "bytes")
            .measure(
                "transfer_time",
                clock::millis(Duration::from_secs_f64(elapsed_ms / 1e3)),
                "ms",
            );
        if let Some(steady) = steady {
            outcome = outcome.measure("throughput_steady", steady, "Mbit/s");
        }
    }
    outcome.find(path.finding()).find(Finding::new(format!(
        "configured throughput, not compared: {} with the fewest instances, {} with the most",
        said(&vpc.throughput_min_mbps),
        said(&vpc.throughput_max_mbps),
    )))
}

#[cfg(test)]
mod tests {
    use shakedown_core::{Fault, Provenance, Tier, Vantage, Verdict};

    use super::*;
    use crate::path::Dial;
    use crate::series::tests::ladder;

    fn judge(failed: Option<&Step>, read: Option<(u64, f64)>) -> Outcome {
        let vpc = Vpc::default();
        let (vantage, tier) = (Vantage::Laptop, Tier::Staging);
        let path = Dial { vantage, tier, host: "10.0.0.5", port: 5432, vpc: &vpc }.path();
        let read = read.map(|(bytes, ms)| (Streamed { bytes, arrivals: Vec::new() }, ms));
        outcome(&vpc, &path, failed, read.as_ref())
    }

    #[test]
    fn bytes_and_milliseconds_are_megabits() {
        assert_eq!(mbit_per_second(1_000_000, 1000.0), Some(8.0));
        assert_eq!(mbit_per_second(8 << 20, 335.544_32), Some(200.0));
        assert_eq!(mbit_per_second(1, 0.0), None);
    }

    #[test]
    fn the_figure_is_measured_and_the_configured_one_only_printed() {
        let outcome = judge(None, Some((8_000_000, 100.0)));
        assert_eq!(outcome.verdict, Verdict::Pass);
        let figures: Vec<_> = outcome.measurements.iter().map(|m| (&*m.name, m.value)).collect();
        assert_eq!(
            figures,
            [("throughput", 640.0), ("transferred", 8e6), ("transfer_time", 100.0)]
        );
        let measured = |m: &shakedown_core::Measurement| {
            m.provenance == Provenance::Measured && m.baseline.is_none()
        };
        assert!(outcome.measurements.iter().all(measured));
        let text = format!("{:?}", outcome.findings);
        assert!(text.contains("lower bound"), "{text}");
        assert!(text.contains("200 Mbit/s (assumed: "), "{text}");
    }

    #[test]
    fn the_steady_rate_knows_neither_the_burst_before_it_nor_a_pause_within() {
        // 1 Mbit a row. The first quarter comes at once, then 100 ms each, one of them 2 s late.
        let mut after = Duration::ZERO;
        let arrivals: Vec<_> = (1..=128_u64)
            .map(|row| {
                let step = if row <= 32 { 0 } else { 100 } + if row == 80 { 2000 } else { 0 };
                after += Duration::from_millis(step);
                Arrival { after, bytes: row * 125_000 }
            })
            .collect();
        assert_eq!(steady_mbit_per_second(&arrivals), Some(10.0));
        assert_eq!(steady_mbit_per_second(&arrivals[..12]), None, "too few to cut");
        let at_once = arrivals.iter().map(|&Arrival { bytes, .. }| Arrival { after, bytes });
        assert_eq!(steady_mbit_per_second(&at_once.collect::<Vec<_>>()), None);
    }

    #[test]
    fn a_read_that_breaks_fails_at_its_rung_and_measures_nothing() {
        let steps = ladder(&[("ready", 1.0), ("query", 30.0)], Some(Fault::Reset));
        let outcome = judge(steps.last(), None);
        assert_eq!(outcome.verdict, Verdict::Fail);
        assert_eq!(outcome.findings[0].rung.as_deref(), Some("query"));
        assert!(outcome.measurements.is_empty());
    }

    #[test]
    fn the_read_is_bounded() {
        let config = |bytes: u32| format!("transfer_bytes = {bytes}");
        assert!(toml::from_str::<ThroughputConfig>(&config(65_535)).is_err());
        assert!(toml::from_str::<ThroughputConfig>(&config(67_108_865)).is_err());
        let most: ThroughputConfig = toml::from_str(&config(67_108_864)).expect("fits");
        assert_eq!(most.transfer_bytes.rows(), 1024);
        assert_eq!(ThroughputConfig::default().transfer_bytes.rows(), 128);
    }
}
