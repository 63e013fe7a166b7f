//! The one way into every report.

use std::borrow::Cow;
use std::collections::HashMap;
use std::mem::take;
use std::ops::Deref;

use serde::Serialize;
use serde::de::DeserializeOwned;
use shakedown_core::record::{PlannedProbe, RunRecord};
use shakedown_core::redact::sanitize;
use shakedown_core::scrub::scrub;
use shakedown_core::{Diagnosis, Redactor};

/// A record that cannot be reported.
#[derive(Debug, thiserror::Error)]
#[error("the record cannot be written as JSON and read back: a value in it is not a number")]
pub struct ReportError {
    #[from]
    source: serde_json::Error,
}

/// A record without secrets and without control characters in any of its texts.
#[derive(Clone, Debug, PartialEq)]
pub struct CleanRecord {
    record: RunRecord,
    /// Where in the plan each probe stands.
    planned: HashMap<String, usize>,
}

impl CleanRecord {
    /// Cleans every text of `record`.
    ///
    /// # Errors
    ///
    /// [`ReportError`] when the record holds a number that JSON has no word for. The runner makes no
    /// such record.
    pub fn new(record: RunRecord, redactor: &Redactor) -> Result<Self, ReportError> {
        let record = cleaned_record(record, redactor)?;
        let ids = record.plan.probes.iter().map(|planned| planned.id.clone());
        Ok(Self { planned: ids.zip(0..).collect(), record })
    }

    /// What was planned for the probe `id`.
    pub(crate) fn planned(&self, id: &str) -> Option<&PlannedProbe> {
        self.planned.get(id).map(|&index| &self.record.plan.probes[index])
    }
}

impl Deref for CleanRecord {
    type Target = RunRecord;

    fn deref(&self) -> &RunRecord {
        &self.record
    }
}

/// A diagnosis without secrets and without control characters in any of its texts: every line it
/// quotes is a stranger's.
#[derive(Clone, Debug, PartialEq)]
pub struct CleanDiagnosis(Diagnosis);

impl CleanDiagnosis {
    /// Cleans every text of `diagnosis`.
    ///
    /// # Errors
    ///
    /// [`ReportError`] when it holds a number that JSON has no word for. The analyzer makes none.
    pub fn new(diagnosis: Diagnosis, redactor: &Redactor) -> Result<Self, ReportError> {
        Ok(Self(cleaned(diagnosis, redactor)?))
    }
}

impl Deref for CleanDiagnosis {
    type Target = Diagnosis;

    fn deref(&self) -> &Diagnosis {
        &self.0
    }
}

/// `record` with every text in it cleaned. What there is much of goes one by one, so that never the
/// whole record is held as text, and only what was not clean is read back.
fn cleaned_record(mut record: RunRecord, redactor: &Redactor) -> Result<RunRecord, ReportError> {
    fn each<T>(values: Vec<T>, redactor: &Redactor) -> Result<Vec<T>, ReportError>
    where
        T: Serialize + DeserializeOwned,
    {
        values.into_iter().map(|value| cleaned(value, redactor)).collect()
    }
    let planned = each(take(&mut record.plan.probes), redactor)?;
    let probes = each(take(&mut record.probes), redactor)?;
    let samples = each(take(&mut record.samples), redactor)?;
    record = cleaned(record, redactor)?;
    record.plan.probes = planned;
    Ok(RunRecord { probes, samples, ..record })
}

/// `value` with every text in it cleaned. It is read back only when there was something to clean, or
/// a `null`: what JSON has instead of a value that is not a number.
fn cleaned<T>(value: T, redactor: &Redactor) -> Result<T, ReportError>
where
    T: Serialize + DeserializeOwned,
{
    let json = serde_json::to_string(&value)?;
    match scrub(&json, |json| spares(json, redactor), |text| clean(text, redactor)) {
        Cow::Borrowed(clean) if !clean.contains("null") => Ok(value),
        clean => Ok(serde_json::from_str(&clean)?),
    }
}

/// Whether [`clean`] changes no part of `text`.
fn spares(text: &str, redactor: &Redactor) -> bool {
    redactor.spares(text) && matches!(sanitize(text), Cow::Borrowed(_))
}

/// `text` without secrets and control characters.
pub(crate) fn clean<'t>(text: &'t str, redactor: &Redactor) -> Cow<'t, str> {
    match redactor.redact(text) {
        Cow::Borrowed(text) => sanitize(text),
        Cow::Owned(text) => Cow::Owned(sanitize(&text).into_owned()),
    }
}
