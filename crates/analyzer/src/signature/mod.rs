//! Signatures: a known failure as data, and whether a run showed it.
//!
//! A signature is a TOML file. It lists features, some of them decisive, the conditions the failure
//! was seen under, and what the probes are expected to say. Durations are those of the staging it
//! was seen on; a lab that runs faster scales them ([`Signature::scaled`]).

mod derive;
mod evaluate;
mod sampled;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::Span;
use shakedown_core::environment::TimeScale;

pub use derive::{DeriveError, derive};
pub use evaluate::evaluate;

/// The schema's name.
pub const SCHEMA: &str = "shakedown.signature/1";

/// A known failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// [`SCHEMA`].
    pub schema: String,
    /// Its id, which is also its file's name: `issue-1278`.
    pub id: String,
    /// The failure, in one line.
    pub title: String,
    /// What the names of services must contain for their start-ups and symptoms to count.
    #[serde(default)]
    pub service: String,
    /// What session ids begin with in a run that reproduces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_prefix: Option<String>,
    /// Metrics the failure makes worse: no guard stops a run for them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub worsens: BTreeSet<String>,
    /// What to see.
    #[serde(default, rename = "feature")]
    pub features: Vec<Feature>,
    /// What was so when it was seen.
    #[serde(default, rename = "condition", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// What probes are expected to say, by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect: BTreeMap<String, Expected>,
}

/// What a signature expects of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// It passes.
    Pass,
    /// It fails.
    Fail,
    /// It depends on conditions: anything is expected.
    Conditional,
    /// It differs from run to run: anything is expected.
    Variable,
}

/// One thing to see. Exactly one of the tests is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// Its id, unique in the signature.
    pub id: String,
    /// What it states, in one line.
    pub what: String,
    /// Whether the verdict needs it. The others are expected figures.
    #[serde(default)]
    pub decisive: bool,
    /// Something about a start-up that failed. All tests of this kind are asked of the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<StartupTest>,
    /// How a probe ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeTest>,
    /// A number a probe measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measurement: Option<MeasurementTest>,
    /// A number a monitor sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<MetricTest>,
    /// How many of the start-ups that ended were completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startups: Option<StartupsTest>,
    /// A symptom of the diagnosis, by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symptom: Option<String>,
}

/// About a start-up that failed; what is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StartupTest {
    /// These phases were completed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub completed: Vec<String>,
    /// It failed in this phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_phase: Option<String>,
    /// The wait that ended in the failure was as long as a limit in force there, whichever.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ends_at_limit: bool,
    /// These phases never began.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub never_began: Vec<String>,
    /// The process exited with another code than 0.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exits_non_zero: bool,
    /// The process exited with this code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The wait that ended in the failure was this long, within 5 s or 10 %.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lasted: Option<Span>,
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeTest {
    /// The probe.
    pub id: String,
    /// `pass`, `degraded` or `fail`. Any other end means: not tested.
    pub verdict: String,
}

/// A number a probe measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasurementTest {
    /// The probe.
    pub probe: String,
    /// The measurement's name.
    pub name: String,
    /// It is at most this, in its own unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// It is at least this, in its own unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
}

/// How many of the start-ups that ended were completed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartupsTest {
    /// At most this share of those that were completed or failed.
    pub completed_at_most: f64,
}

/// A number a monitor sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricTest {
    /// The metric.
    pub id: String,
    /// Only the series that have one of these as the value of a label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Above this, in its own unit: `samples` of the samples, or with `above_baseline` the median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// The median of the samples is above this many times the median of the run's first five. One
    /// slow answer of a busy machine is no state, and neither is one quick one a baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above_baseline: Option<f64>,
    /// How many samples must be `above`. Default 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub samples: usize,
    /// The median of the samples is in these bounds, in its own unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<[f64; 2]>,
    /// Only the samples taken while another metric showed something.
    #[serde(default, rename = "while", skip_serializing_if = "Option::is_none")]
    pub during: Option<During>,
    /// Samples in a row were so, and this ended after a time in these bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<[Span; 2]>,
    /// Samples in a row were so, more than once, and began at least this far apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<Span>,
}

/// The newest sample of a metric was of a series that has one of these as the value of a label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct During {
    /// The metric.
    pub id: String,
    /// Values of labels.
    pub labels: Vec<String>,
}

const fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
const fn is_one(samples: &usize) -> bool {
    *samples == 1
}

/// What was so when the failure was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// What, in a few words.
    pub what: String,
    /// The environment's key that says it, `vpc.egress`, or `run.hour`, the UTC hour the run began
    /// in; without one nobody can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its value then.
    pub was: String,
}

/// Why a text is no signature.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// It is no TOML of this shape.
    #[error("the signature does not parse")]
    Toml(#[from] toml::de::Error),
    /// It has another schema.
    #[error("the signature's schema is `{0}`, this program reads `{SCHEMA}`")]
    Schema(String),
    /// It has no decisive feature.
    #[error("the signature `{0}` has no feature with `decisive = true`, so nothing could decide")]
    NothingDecisive(String),
    /// A feature has no test or several, or one that asks nothing.
    #[error(
        "the feature `{0}` needs exactly one of startup, probe, measurement, metric, startups, symptom, and something asked in it"
    )]
    NoTest(String),
    /// Two features have one id.
    #[error("two features are called `{0}`")]
    Duplicate(String),
}

impl Signature {
    /// Reads a signature.
    ///
    /// # Errors
    /// [`SignatureError`], naming the feature where it is one's.
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let signature: Self = toml::from_str(text)?;
        if signature.schema != SCHEMA {
            return Err(SignatureError::Schema(signature.schema));
        }
        let mut ids = BTreeSet::new();
        for feature in &signature.features {
            if !feature.has_one_test() {
                return Err(SignatureError::NoTest(feature.id.clone()));
            }
            if !ids.insert(&feature.id) {
                return Err(SignatureError::Duplicate(feature.id.clone()));
            }
        }
        if !signature.features.iter().any(|feature| feature.decisive) {
            return Err(SignatureError::NothingDecisive(signature.id));
        }
        Ok(signature)
    }

    /// The signature as a lab shows it whose durations are divided by `scale`. Numbers of
    /// measurements are scaled where they are compared, because only there their unit is known.
    #[must_use]
    pub fn scaled(mut self, scale: TimeScale) -> Self {
        for feature in &mut self.features {
            let lasted = feature.startup.iter_mut().flat_map(|test| &mut test.lasted);
            let episodes = feature
                .metric
                .iter_mut()
                .flat_map(|test| test.lasts.iter_mut().flatten().chain(&mut test.apart));
            for span in lasted.chain(episodes) {
                *span = Span(scale.duration(span.get()));
            }
        }
        self
    }
}

impl Feature {
    fn has_one_test(&self) -> bool {
        let tests = [
            self.startup.as_ref().map(|test| *test != StartupTest::default()),
            self.probe.as_ref().map(|_| true),
            self.measurement.as_ref().map(|t| t.at_most.or(t.at_least).is_some()),
            self.metric.as_ref().map(MetricTest::asks),
            self.startups.as_ref().map(|_| true),
            self.symptom.as_ref().map(|symptom| !symptom.is_empty()),
        ];
        let given: Vec<bool> = tests.into_iter().flatten().collect();
        given == [true]
    }
}

impl MetricTest {
    /// Whether it asks something that can be answered: each way of asking is alone, and an episode
    /// needs to know what belongs to it.
    fn asks(&self) -> bool {
        let picks = self.above.is_some() || !self.labels.is_empty();
        let ways = [
            self.above_baseline.is_some(),
            self.between.is_some(),
            self.lasts.is_some(),
            self.apart.is_some(),
        ];
        match ways.into_iter().filter(|way| *way).count() {
            0 => picks && self.during.is_none(),
            1 if self.lasts.is_some() || self.apart.is_some() => picks && self.during.is_none(),
            1 => self.during.is_none() || self.between.is_some(),
            _ => false,
        }
    }
}

/// How far a measured duration may be from an expected one: 5 s or a tenth, whichever is more. In a
/// lab the 5 s are scaled, but never below a quarter of a second.
fn tolerance(expected: Duration, scale: TimeScale) -> Duration {
    scale.tolerance(Duration::from_secs(5)).max(expected / 10)
}
