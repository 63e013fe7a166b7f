//! Evidence: one timeline of observations, each of which says who saw it and by which clock.

use serde::{Deserialize, Serialize};

use crate::attempt::{Attempt, Held, Tally, Traffic};
use crate::clock::Timestamp;
use crate::fault::Step;
use crate::id::ObservationKind;
use crate::monitor::Sample;
use crate::outcome::Verdict;
use crate::units::Provenance;

/// Whose clock stamped an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockSource {
    /// This process.
    Ours,
    /// The database server.
    Server,
    /// The application's container.
    Container,
    /// Google's log and metric pipeline.
    Google,
}

/// A moment by some clock, with how finely that clock speaks and how far it may be off ours.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// The time written.
    pub at: Timestamp,
    /// Who wrote it.
    pub clock: ClockSource,
    /// The step of the written time, in milliseconds.
    pub resolution_ms: u32,
    /// The greatest plausible distance from our clock, in milliseconds.
    pub skew_ms: u32,
}

/// Whether one moment precedes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// The first came first, beyond doubt.
    Before,
    /// The first came second, beyond doubt.
    After,
    /// Closer together than skew and resolution allow to tell.
    Concurrent,
}

impl Moment {
    /// A moment by our own clock.
    pub fn ours(at: Timestamp) -> Self {
        Self { at, clock: ClockSource::Ours, resolution_ms: 1, skew_ms: 0 }
    }

    /// Whether `self` precedes `other`; across clocks only beyond skew and resolution of both.
    pub fn precedes(&self, other: &Self) -> Precedence {
        let apart = other.at.as_microsecond() - self.at.as_microsecond();
        let slack = if self.clock == other.clock {
            i64::from(self.resolution_ms.max(other.resolution_ms)) - 1
        } else {
            [self.resolution_ms, self.skew_ms, other.resolution_ms, other.skew_ms]
                .into_iter()
                .map(i64::from)
                .sum()
        } * 1000;
        match apart {
            a if a > slack => Precedence::Before,
            a if a < -slack => Precedence::After,
            _ => Precedence::Concurrent,
        }
    }
}

/// From where something was seen.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Vantage {
    /// From inside a Cloud Run instance (or the lab, which stands for one).
    CloudRun,
    /// From a machine inside the VPC network.
    Vpc,
    /// From somebody's own machine.
    Laptop,
    /// Nobody said.
    #[default]
    Unknown,
}

impl Vantage {
    /// As written in the environment file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CloudRun => "cloud-run",
            Self::Vpc => "vpc",
            Self::Laptop => "laptop",
            Self::Unknown => "unknown",
        }
    }
}

/// What an observation is about. Empty strings mean "not said".
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Subject {
    /// The service, for example `backend`. Diagnoses are made per service.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// Its revision.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The instance of the revision.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub instance: String,
}

impl Subject {
    /// A whole service.
    pub fn service(name: impl Into<String>) -> Self {
        Self { service: name.into(), ..Self::default() }
    }
}

/// One thing that was observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// When, and by whose clock.
    pub moment: Moment,
    /// About what.
    pub subject: Subject,
    /// From where.
    pub vantage: Vantage,
    /// Where it came from.
    pub provenance: Provenance,
    /// What.
    pub body: Body,
}

impl Observation {
    /// Something this process measured just now about `subject`.
    pub fn measured(subject: Subject, vantage: Vantage, body: Body) -> Self {
        Self {
            moment: Moment::ours(crate::clock::wall()),
            subject,
            vantage,
            provenance: Provenance::Measured,
            body,
        }
    }
}

/// What was observed: the common kinds as structs, everything else as a [`Fact`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Body {
    /// A rung of a probe's way to the target.
    Step(Step),
    /// A monitor's sample.
    Sample(Sample),
    /// A log line.
    LogEntry(LogEntry),
    /// Something the application's start-up did.
    Startup(StartupEvent),
    /// Somebody changed the target.
    Change(Change),
    /// An attempt to start, put together. Boxed, because it is by far the largest.
    Attempt(Box<Attempt>),
    /// Answers of one kind, counted.
    Traffic(Traffic),
    /// How often a signal was seen.
    Tally(Tally),
    /// How much of a service is held.
    Held(Held),
    /// What a probe said about it.
    Probed(Probed),
    /// Anything else.
    Fact(Fact),
}

/// One normalised log line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogEntry {
    /// The export's id of the entry, when it has one.
    pub insert_id: String,
    /// `DEBUG` .. `CRITICAL`, from the field or else from the text.
    pub severity: String,
    /// The message.
    pub message: String,
    /// The log it stands in, for example `run.googleapis.com/varlog/system`.
    pub log: String,
}

/// An event of an application's start-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartupEvent {
    /// The start-up phase, as configured (INIT .. FINALIZE); never a run phase.
    pub phase: String,
    /// `started`, `completed`, `failed`, `exited`.
    pub event: String,
    /// How long the phase took, in seconds, when the event ends one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The exit code, when the event is the process's exit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The application's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A change to the target's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Who made it.
    pub actor: String,
    /// The method called.
    pub method: String,
    /// What changed: key, from, to.
    pub fields: Vec<(String, String, String)>,
}

/// The verdict of one probe about its subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    /// The probe's id.
    pub probe: String,
    /// Its verdict.
    pub ended: Verdict,
}

/// Any other observation; its kind is registered by the crate that makes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// The kind.
    pub fact: ObservationKind,
    /// Its attributes, in the order they should be read.
    pub attributes: Vec<(String, String)>,
}

impl Fact {
    /// The value of an attribute, empty when it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.attributes.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// The static description of an observation kind.
#[derive(Clone, Debug)]
pub struct ObservationMeta {
    /// The kind.
    pub kind: ObservationKind,
    /// One line about what it says and which attributes it has.
    pub summary: &'static str,
}

/// Everything observed, in time order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    observations: Vec<Observation>,
}

impl Evidence {
    /// Orders `observations` by time; equal times keep a fixed order of their own, so that the same
    /// set gives the same evidence in whatever order it came.
    pub fn new(mut observations: Vec<Observation>) -> Self {
        fn key(observation: &Observation) -> (Timestamp, &Subject) {
            (observation.moment.at, &observation.subject)
        }
        observations.sort_by(|one, other| key(one).cmp(&key(other)));
        for alike in observations.chunk_by_mut(|one, other| key(one) == key(other)) {
            alike.sort_by_cached_key(|one| serde_json::to_string(&one.body).unwrap_or_default());
        }
        Self { observations }
    }

    /// All of it.
    pub fn observations(&self) -> &[Observation] {
        &self.observations
    }

    /// All facts of one kind, with the observation each stands in.
    pub fn facts(&self, kind: &ObservationKind) -> impl Iterator<Item = (&Observation, &Fact)> {
        self.observations.iter().filter_map(move |observation| match &observation.body {
            Body::Fact(fact) if fact.fact == *kind => Some((observation, fact)),
            _ => None,
        })
    }

    /// All steps, with the observation each stands in.
    pub fn steps(&self) -> impl Iterator<Item = (&Observation, &Step)> {
        self.observations.iter().filter_map(|observation| match &observation.body {
            Body::Step(step) => Some((observation, step)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64, clock: ClockSource) -> Moment {
        let at = Timestamp::from_millisecond(1_700_000_000_000 + ms).expect("in range");
        Moment { at, clock, resolution_ms: 1, skew_ms: 50 }
    }

    #[test]
    fn order_across_clocks_is_claimed_only_beyond_skew_and_resolution() {
        use ClockSource::{Container, Google};
        assert_eq!(at(0, Google).precedes(&at(1, Google)), Precedence::Before);
        assert_eq!(at(0, Google).precedes(&at(100, Container)), Precedence::Concurrent);
        assert_eq!(at(0, Google).precedes(&at(103, Container)), Precedence::Before);
        assert_eq!(at(103, Google).precedes(&at(0, Container)), Precedence::After);
    }

    #[test]
    fn the_same_observations_give_the_same_evidence_in_any_order() {
        let fact = |name: &'static str| {
            let body = Body::Fact(Fact { fact: ObservationKind::new(name), attributes: vec![] });
            let mut observation = Observation::measured(Subject::default(), Vantage::Unknown, body);
            observation.moment = at(0, ClockSource::Ours);
            observation
        };
        let one = Evidence::new(vec![fact("a"), fact("b")]);
        let other = Evidence::new(vec![fact("b"), fact("a")]);
        assert_eq!(one, other);
    }
}
