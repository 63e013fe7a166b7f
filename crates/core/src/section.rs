//! Configuration tables owned by domain crates.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A table of the environment file that a crate owns, for example `[vpc]`.
///
/// Use `#[serde(deny_unknown_fields, default)]`, keep constraints in the field types (`try_from`),
/// write durations as [`Span`](crate::Span) and rates as [`Rate`](crate::Rate) so that the lab's
/// time scale reaches them, and wrap in [`Setting`](crate::Setting) what the strategy only assumes.
/// The mistake to expect: a `Default` that disagrees with what the documentation says, since
/// defaults are serialised into the resolved environment that users see in `plan`.
pub trait SectionSpec: Serialize + DeserializeOwned + Default + Send + Sync + 'static {
    /// The table's name.
    const NAME: &'static str;
    /// One line about what the table describes.
    const SUMMARY: &'static str;
}
