//! Asks a run for a signature's features.

use std::time::Duration;

use shakedown_core::attempt::AttemptEnd;
use shakedown_core::diagnosis::{Diagnosis, HealthVerdict, ServiceDiagnosis, Startup};
use shakedown_core::environment::TimeScale;
use shakedown_core::record::{ProbeResult, RunRecord};
use shakedown_core::reproduction::{
    Difference, FeatureSeen, FeatureState, Reproduction, SCHEMA, Unexpected,
};

use super::{
    Expected, Feature, MeasurementTest, ProbeTest, Signature, StartupTest, StartupsTest, sampled,
    tolerance,
};

/// Whether it was seen, and what was found.
pub(super) type Answer = (FeatureState, String);

pub(super) fn seen(is: bool, found: impl Into<String>) -> Answer {
    (if is { FeatureState::Seen } else { FeatureState::NotSeen }, found.into())
}

pub(super) fn not_tested(why: impl Into<String>) -> Answer {
    (FeatureState::NotTested, why.into())
}

/// What `record` and its `diagnosis` show of `signature`, which is already
/// [scaled](Signature::scaled) like the run. `lookup` gives the value of an environment key such as
/// `vpc.egress`.
///
/// Features about start-ups are all asked of one start-up that failed: of those held, the one that
/// shows the most of them.
pub fn evaluate(
    signature: &Signature,
    record: &RunRecord,
    diagnosis: &Diagnosis,
    lookup: impl Fn(&str) -> Option<String>,
) -> Reproduction {
    let scale = TimeScale::new(record.plan.target.time_scale).unwrap_or_default();
    let run = Run { record, diagnosis, scale, service: &signature.service };
    let attempt = run.telling_attempt(&signature.features);
    let features: Vec<FeatureSeen> = signature
        .features
        .iter()
        .map(|feature| {
            let (state, found) = run.ask(feature, attempt);
            let Feature { id, what, decisive, .. } = feature.clone();
            FeatureSeen { id, what, decisive, state, found }
        })
        .collect();
    let differences = signature.conditions.iter().filter_map(|condition| {
        let found = match &condition.key {
            Some(key) if key == "run.hour" => hour(record),
            Some(key) => lookup(key).unwrap_or_else(|| format!("`{key}` is not set")),
            None => "nothing here can tell".to_owned(),
        };
        let expected = condition.was.clone();
        (found != expected).then(|| Difference {
            condition: condition.what.clone(),
            expected,
            found,
        })
    });
    Reproduction {
        schema: SCHEMA.to_owned(),
        signature: signature.id.clone(),
        title: signature.title.clone(),
        verdict: Reproduction::verdict_of(&features),
        features,
        differences: differences.collect(),
        unexpected: run.unexpected(signature),
    }
}

/// The hour a run began in.
pub(super) fn hour(record: &RunRecord) -> String {
    record.started_at.strftime("%H:00 UTC").to_string()
}

#[derive(Clone, Copy)]
struct Run<'a> {
    record: &'a RunRecord,
    diagnosis: &'a Diagnosis,
    scale: TimeScale,
    service: &'a str,
}

impl<'a> Run<'a> {
    fn services(self) -> impl Iterator<Item = &'a ServiceDiagnosis> {
        self.diagnosis.services.iter().filter(move |service| service.service.contains(self.service))
    }

    fn startups(self) -> impl Iterator<Item = &'a Startup> {
        self.services().flat_map(|service| &service.startups)
    }

    /// The failed start-up that shows the most; the earliest of equals.
    fn telling_attempt(self, features: &[Feature]) -> Option<&'a Startup> {
        let shown = |attempt: &Startup| {
            let tests = features.iter().filter_map(|feature| feature.startup.as_ref());
            tests.filter(|test| self.startup(test, Some(attempt)).0 == FeatureState::Seen).count()
        };
        let failed = self.startups().filter(|startup| startup.outcome == AttemptEnd::Failed);
        // `max_by_key` gives the last of equals.
        failed.collect::<Vec<_>>().into_iter().rev().max_by_key(|attempt| shown(attempt))
    }

    fn ask(self, feature: &Feature, attempt: Option<&Startup>) -> Answer {
        if let Some(test) = &feature.startup {
            self.startup(test, attempt)
        } else if let Some(test) = &feature.probe {
            self.probe(test)
        } else if let Some(test) = &feature.measurement {
            self.measurement(test)
        } else if let Some(test) = &feature.metric {
            sampled::ask(test, &self.record.samples)
        } else if let Some(test) = &feature.startups {
            self.startups_completed(test)
        } else {
            self.symptom(feature.symptom.as_deref().unwrap_or_default())
        }
    }

    fn startup(self, test: &StartupTest, attempt: Option<&Startup>) -> Answer {
        let Some(attempt) = attempt else {
            return match self.startups().count() {
                0 => not_tested("no start-up was observed"),
                count => seen(false, format!("{count} start-ups observed, none failed")),
            };
        };
        let answers = self.startup_answers(test, attempt);
        let all = |state| answers.iter().all(|(answer, _)| *answer == state);
        let state = if all(FeatureState::Seen) {
            FeatureState::Seen
        } else if answers.iter().any(|(answer, _)| *answer == FeatureState::NotSeen) {
            FeatureState::NotSeen
        } else {
            FeatureState::NotTested
        };
        let found: Vec<String> = answers.into_iter().map(|(_, found)| found).collect();
        (state, found.join("; "))
    }

    fn startup_answers(self, test: &StartupTest, attempt: &Startup) -> Vec<Answer> {
        let mut answers = Vec::new();
        let failed = attempt.failed_phase.as_deref();
        let began = |phase: &String| attempt.phases.iter().any(|time| time.phase == *phase);
        let phases = || {
            let names: Vec<&str> = attempt.phases.iter().map(|time| time.phase.as_str()).collect();
            format!("began: {}", names.join(", "))
        };
        if !test.completed.is_empty() {
            let completed = |phase: &String| began(phase) && failed != Some(phase);
            answers.push(match attempt.phases.is_empty() {
                true => not_tested("no phase was observed"),
                false => seen(test.completed.iter().all(completed), phases()),
            });
        }
        if let Some(phase) = &test.failed_phase {
            answers.push(match failed {
                None => not_tested("nobody said in which phase it failed"),
                Some(failed) => seen(failed == phase, format!("it failed in {failed}")),
            });
        }
        if test.ends_at_limit {
            answers.push(self.limit(attempt));
        }
        if !test.never_began.is_empty() {
            answers.push(match attempt.phases.is_empty() {
                true => not_tested("no phase was observed"),
                false => seen(!test.never_began.iter().any(began), phases()),
            });
        }
        if test.exits_non_zero || test.exit_code.is_some() {
            answers.push(match attempt.exit_code {
                None => not_tested("no exit code was observed"),
                Some(code) => {
                    let is = test.exit_code.map_or(code != 0, |expected| code == expected);
                    seen(is, format!("exit code {code}"))
                }
            });
        }
        if let Some(lasted) = test.lasted {
            answers.push(self.lasted(lasted.get(), attempt));
        }
        answers
    }

    fn limit(self, attempt: &Startup) -> Answer {
        match (attempt.measured_s, &attempt.limit) {
            (None, _) => not_tested("the wait before the failure was not measured"),
            (Some(measured), None) => {
                seen(false, format!("it waited {measured:.1} s, which is no limit known here"))
            }
            (Some(measured), Some(limit)) => {
                let claimed = attempt.claimed_timeout_s;
                let claims = claimed.filter(|claimed| (claimed - measured).abs() > 1.0);
                let claims = claims
                    .map_or_else(String::new, |claimed| format!(", though it says {claimed:.1} s"));
                seen(true, format!("it waited {measured:.1} s: the limit {limit} fired{claims}"))
            }
        }
    }

    fn lasted(self, expected: Duration, attempt: &Startup) -> Answer {
        let Some(measured) = attempt.measured_s else {
            return not_tested("the wait before the failure was not measured");
        };
        let off = (measured - expected.as_secs_f64()).abs();
        let is = off <= tolerance(expected, self.scale).as_secs_f64();
        let expected = expected.as_secs_f64();
        seen(is, format!("expected {expected:.1} s, measured {measured:.1} s"))
    }

    fn probe(self, test: &ProbeTest) -> Answer {
        match self.result(&test.id) {
            Some(result @ ProbeResult::Finished(_)) if result.word() != "skip" => {
                seen(result.word() == test.verdict, format!("{}: {}", test.id, result.word()))
            }
            Some(result) => not_tested(format!("{}: {}", test.id, result.word())),
            None => not_tested(format!("{} did not run", test.id)),
        }
    }

    fn measurement(self, test: &MeasurementTest) -> Answer {
        let Some(result) = self.result(&test.probe) else {
            return not_tested(format!("{} did not run", test.probe));
        };
        let measured = result.outcome().and_then(|outcome| {
            outcome.measurements.iter().find(|measurement| measurement.name == test.name)
        });
        let Some(measured) = measured else {
            let word = result.word();
            return not_tested(format!("{} ended with {word}, without {}", test.probe, test.name));
        };
        // What was written for another staging's seconds.
        let per = match measured.unit.as_str() {
            "ms" | "s" => f64::from(self.record.plan.target.time_scale),
            _ => 1.0,
        };
        let is = test.at_most.is_none_or(|most| measured.value <= most / per)
            && test.at_least.is_none_or(|least| measured.value >= least / per);
        let unit = if measured.unit == "1" { "" } else { &measured.unit };
        seen(is, format!("{} {:.3} {unit}", measured.name, measured.value).trim_end().to_owned())
    }

    fn startups_completed(self, test: &StartupsTest) -> Answer {
        let ended = |end| self.startups().filter(|startup| startup.outcome == end).count();
        let (completed, failed) = (ended(AttemptEnd::Completed), ended(AttemptEnd::Failed));
        let all = completed + failed;
        if all == 0 {
            return not_tested("no start-up was observed to its end");
        }
        #[expect(clippy::cast_precision_loss, reason = "a share of start-ups")]
        let share = completed as f64 / all as f64;
        seen(share <= test.completed_at_most, format!("{completed} of {all} were completed"))
    }

    fn symptom(self, symptom: &str) -> Answer {
        let known = |service: &&ServiceDiagnosis| {
            service.verdict != HealthVerdict::InsufficientEvidence || !service.startups.is_empty()
        };
        let all = self.services().flat_map(|service| &service.symptoms);
        let count: u64 = all.filter(|seen| seen.symptom == symptom).map(|seen| seen.count).sum();
        match count {
            0 if self.services().any(|service| known(&service)) => seen(false, "not seen"),
            0 => not_tested("nothing was observed of the service"),
            count => seen(true, format!("seen {count} times")),
        }
    }

    /// The last result of a probe.
    fn result(self, id: &str) -> Option<&'a ProbeResult> {
        self.record.probes.iter().rev().find(|probe| probe.id == id).map(|probe| &probe.result)
    }

    fn unexpected(self, signature: &Signature) -> Vec<Unexpected> {
        let differs = signature.expect.iter().filter_map(|(probe, expected)| {
            let expected = match expected {
                Expected::Pass => "pass",
                Expected::Fail => "fail",
                Expected::Conditional | Expected::Variable => return None,
            };
            let found = self.result(probe)?.word();
            (found != expected).then(|| Unexpected {
                probe: probe.clone(),
                expected: expected.to_owned(),
                found: found.to_owned(),
            })
        });
        differs.collect()
    }
}
