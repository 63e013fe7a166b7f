//! Classifiers: from evidence to claims.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::evidence::{Evidence, Observation};
use crate::id::{Cause, Symptom};

/// How a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ClaimStatus {
    /// The evidence for it outweighs the evidence against it.
    Supported,
    /// The evidence rules it out.
    Refuted,
    /// The evidence does not decide.
    Undetermined,
    /// Another fault stops the evidence for or against it from ever appearing.
    Masked,
}

/// What a claim names: a root or a symptom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Claimed {
    /// Why something broke.
    Cause(Cause),
    /// What was seen of it.
    Symptom(Symptom),
}

/// One claim about one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// What is claimed.
    pub claimed: Claimed,
    /// The service it is claimed of.
    pub service: String,
    /// How it stands.
    pub status: ClaimStatus,
    /// 0 to 1: the share of like cases in which a claim with this evidence was right.
    pub confidence: f64,
    /// One sentence, the fact first.
    pub summary: String,
    /// The observations that speak for it.
    pub supporting: Vec<Observation>,
    /// The observations that speak against it.
    pub against: Vec<Observation>,
    /// The symptoms it would explain.
    pub explains: Vec<Symptom>,
    /// The probe or query that would decide it.
    pub next: String,
    /// For symptoms: how often, where more was seen than `supporting` holds.
    pub seen: Option<Seen>,
}

/// How often something was seen, and over which span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// How often.
    pub count: u64,
    /// The first time.
    pub first: Option<Timestamp>,
    /// The last time.
    pub last: Option<Timestamp>,
}

impl Claim {
    /// A claim about `service` with nothing to it yet.
    pub fn new(claimed: Claimed, service: &str, status: ClaimStatus) -> Self {
        Self {
            claimed,
            service: service.to_owned(),
            status,
            confidence: 0.0,
            summary: String::new(),
            supporting: Vec::new(),
            against: Vec::new(),
            explains: Vec::new(),
            next: String::new(),
            seen: None,
        }
    }
}

/// The static description of a classifier.
#[derive(Clone, Debug)]
pub struct ClassifierMeta {
    /// `domain.name`.
    pub id: &'static str,
    /// One line about what it can tell.
    pub summary: &'static str,
    /// The causes it may claim.
    pub causes: &'static [Cause],
    /// The symptoms it may claim.
    pub symptoms: &'static [Symptom],
}

/// A pure function from evidence to claims.
///
/// What you must do: nothing but look at `evidence`. The same evidence gives the same claims, in the
/// same order. Claim from facts, never from words; "undetermined" with a `next` is a good answer.
pub trait FailureClassifier: Send + Sync + Debug + 'static {
    /// The static description.
    fn meta(&self) -> &'static ClassifierMeta;

    /// Claims what the evidence shows.
    fn classify(&self, evidence: &Evidence) -> Vec<Claim>;
}

/// How to build a classifier: they have no configuration.
pub trait ClassifierSpec: FailureClassifier + Default {
    /// The static description.
    const META: ClassifierMeta;
}

/// The static description of a cause or a symptom.
#[derive(Clone, Debug)]
pub struct CauseMeta {
    /// Its id.
    pub id: &'static str,
    /// Root or symptom.
    pub symptom: bool,
    /// A title for people.
    pub title: &'static str,
    /// The good state, the one that holds when this cause or symptom is absent.
    pub good_state: &'static str,
}
