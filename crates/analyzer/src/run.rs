//! Run directories of shakedown itself: what a run measured becomes evidence beside the logs.

use std::fs;
use std::io;
use std::path::Path;

use shakedown_core::Provenance;
use shakedown_core::evidence::{Body, Moment, Observation, Subject};
use shakedown_core::record::RunRecord;

/// What a run left behind.
#[derive(Clone, Debug)]
pub struct RunEvidence {
    /// The run.
    pub record: RunRecord,
    /// Its steps with faults and without, its samples, and whatever its probes observed.
    pub observations: Vec<Observation>,
}

/// Why a run directory could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// There is no journal, or it cannot be read.
    #[error("cannot read the journal of {dir}")]
    Journal {
        /// The directory.
        dir: String,
        /// Why.
        source: io::Error,
    },
    /// The journal does not begin with the start of a run.
    #[error("the journal of {dir} holds no run")]
    NoRun {
        /// The directory.
        dir: String,
    },
}

/// Reads `journal.jsonl` of a run directory. A run that was killed gives what it had finished.
///
/// Observations of probes are taken as they are; the steps of their outcomes are ours; a sample becomes an observation by the clock and
/// provenance that it names itself.
///
/// # Errors
///
/// When there is no journal or no run in it.
pub fn read_run_dir(dir: &Path) -> Result<RunEvidence, RunError> {
    let name = || dir.display().to_string();
    let journal = fs::read(dir.join("journal.jsonl"))
        .map_err(|source| RunError::Journal { dir: name(), source })?;
    let record = RunRecord::from_journal(&String::from_utf8_lossy(&journal))
        .ok_or_else(|| RunError::NoRun { dir: name() })?;
    let vantage = record.plan.target.vantage;
    let probed = record.probes.iter().flat_map(|probe| probe.observations.iter().cloned());
    let stepped =
        record.probes.iter().filter_map(|probe| probe.result.outcome()).flat_map(|outcome| {
            outcome.steps.iter().map(|step| Observation {
                moment: Moment::ours(step.at),
                subject: Subject::default(),
                vantage,
                provenance: Provenance::Measured,
                body: Body::Step(step.clone()),
            })
        });
    let sampled = record.samples.iter().map(|stamped| Observation {
        moment: Moment::ours(stamped.sample.taken_at),
        subject: Subject::default(),
        vantage,
        provenance: stamped.sample.provenance,
        body: Body::Sample(stamped.sample.clone()),
    });
    let observations = probed.chain(stepped).chain(sampled).collect();
    Ok(RunEvidence { record, observations })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_a_journal_or_a_run_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read_run_dir(dir.path()), Err(RunError::Journal { .. })));
        fs::write(dir.path().join("journal.jsonl"), "{}\n").unwrap();
        let error = read_run_dir(dir.path()).unwrap_err();
        assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    }
}
