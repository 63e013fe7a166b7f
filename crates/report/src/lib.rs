//! Reports of a run: the same [`RunRecord`](shakedown_core::record::RunRecord) for people, for CI and
//! for other tools.
//!
//! Every function here is pure, text out of a record, but for [`write_files`] and [`write_json`]. All
//! of them take a [`CleanRecord`], which only a [`Redactor`](shakedown_core::Redactor) makes: no report
//! can forget to hide secrets or to defuse the control characters of strangers.
//!
//! | function | for |
//! |---|---|
//! | [`human`] | a person at a terminal; ten seconds, or everything with [`Style::detail`] |
//! | [`impact`] | a person who asks what an outage costs |
//! | [`json()`], [`write_json`] | tools: the whole record, schema `shakedown.run/1` |
//! | [`junit`] | CI |
//! | [`markdown`], [`html`] | people later |
//! | [`diagnosis()`], [`explanation`], [`diagnosis_json`] | what `analyze` found |
//! | [`conclusion`] | the end of a run: verdict, root, next step |
//! | [`Live`] | a person who watches: one line per event |
//! | [`write_files`] | the session's directory |

mod clean;
mod diagnosis;
mod files;
mod html;
mod human;
mod impact;
mod junit;
mod live;
mod markdown;
mod metrics;
mod stats;
mod words;

use std::io;

pub use clean::{CleanDiagnosis, CleanRecord, ReportError};
pub use diagnosis::{conclusion, diagnosis, explanation};
pub use files::{FileError, write_files};
pub use html::html;
pub use human::{Style, human};
pub use impact::impact;
pub use junit::junit;
pub use live::Live;
pub use markdown::markdown;
pub use metrics::{metric_summaries, strategy_metrics};
pub use stats::{SeriesStats, Spread, StagedStats, series_stats, staged_stats};
pub use words::{Overall, overall};

/// The whole record as one JSON document, schema `shakedown.run/1`, indented, ending in a newline.
/// The order of keys is that of the record and never changes.
pub fn json(record: &CleanRecord) -> String {
    let mut text = Vec::new();
    write_json(record, &mut text).expect("a clean record has been through JSON already");
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// Writes what [`json`] gives, in many small pieces: have `out` buffer them.
///
/// # Errors
///
/// Those of `out`.
pub fn write_json(record: &CleanRecord, mut out: impl io::Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut out, &**record)?;
    out.write_all(b"\n")
}

/// A diagnosis as one JSON document, schema `shakedown.diagnosis/1`, indented, ending in a newline.
pub fn diagnosis_json(diagnosis: &CleanDiagnosis) -> String {
    let mut text = serde_json::to_string_pretty(&**diagnosis)
        .expect("a clean diagnosis has been through JSON already");
    text.push('\n');
    text
}
