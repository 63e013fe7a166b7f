//! Which probes are asked for.

use std::collections::BTreeSet;

use globset::{GlobBuilder, GlobMatcher};
use shakedown_core::meta::{Category, ProbeMeta, RunPhase};
use shakedown_core::registry::{ProbeEntry, Registry};

/// What was asked for. Several kinds are joined by *and*, several values of one kind by *or*; an
/// empty kind asks for nothing in particular. The default selects every probe.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Matched against a probe's id, each of its aliases (whole pytest node ids) and each marker.
    /// With one of `*?[{` a glob over the whole text, in which `*` matches `/` and `:` too; otherwise
    /// a part of it, as pytest's `-k` reads a word. Upper and lower case are the same.
    pub patterns: Vec<String>,
    /// Named on the command line by position: an id (`cloudsql.pool-limit`), its domain (`cloudsql`),
    /// an alias (a whole pytest node id), a path an alias lies under (`tests/e2e`,
    /// `tests/x.py::TestX`), or a glob over ids and aliases (`cloudsql.*`).
    pub selectors: Vec<String>,
    /// Exactly these ids. `None` asks for nothing in particular, an empty set selects nothing.
    pub ids: Option<BTreeSet<String>>,
    /// Any of these categories.
    pub categories: Vec<Category>,
    /// Any of these markers, spelt exactly.
    pub markers: Vec<String>,
    /// Any of these run phases.
    pub phases: Vec<RunPhase>,
}

/// A pattern that is not one.
#[derive(Debug, thiserror::Error)]
#[error("`{pattern}` is not a pattern")]
pub struct SelectionError {
    pattern: String,
    source: globset::Error,
}

/// The probes that `selection` asks for, by id.
///
/// # Errors
///
/// [`SelectionError`] when a glob is malformed.
pub fn select<'r>(
    registry: &'r Registry,
    selection: &Selection,
) -> Result<Vec<&'r ProbeEntry>, SelectionError> {
    let patterns: Vec<Pattern> = parse(&selection.patterns, Pattern::part)?;
    let selectors: Vec<Pattern> = parse(&selection.selectors, Pattern::name)?;
    let asked = |meta: &ProbeMeta| {
        let names = || std::iter::once(&meta.id).chain(meta.aliases);
        any(&patterns, |p| names().chain(meta.markers).any(|text| p.matches(text)))
            && any(&selectors, |p| names().any(|text| p.matches(text)))
            && selection.ids.as_ref().is_none_or(|ids| ids.contains(meta.id))
            && any(&selection.categories, |&category| category == meta.category)
            && any(&selection.markers, |marker| meta.markers.contains(&marker.as_str()))
            && any(&selection.phases, |&phase| phase == meta.phase)
    };
    Ok(registry.probes().filter(|entry| asked(entry.meta)).collect())
}

/// Whether one of `asked` holds, or none was asked.
fn any<T>(asked: &[T], holds: impl Fn(&T) -> bool) -> bool {
    asked.is_empty() || asked.iter().any(holds)
}

fn parse(
    texts: &[String],
    plain: impl Fn(&str) -> Pattern,
) -> Result<Vec<Pattern>, SelectionError> {
    let parse = |text: &String| {
        if !text.contains(['*', '?', '[', '{']) {
            return Ok(plain(text));
        }
        let glob = GlobBuilder::new(text).case_insensitive(true).literal_separator(false).build();
        glob.map(|glob| Pattern::Glob(glob.compile_matcher()))
            .map_err(|source| SelectionError { pattern: text.clone(), source })
    };
    texts.iter().map(parse).collect()
}

enum Pattern {
    Glob(GlobMatcher),
    /// A part, in lower case.
    Part(String),
    /// A whole name, or the beginning of one up to a separator.
    Name(String),
}

impl Pattern {
    fn part(text: &str) -> Self {
        Self::Part(text.to_lowercase())
    }

    fn name(text: &str) -> Self {
        Self::Name(text.trim_end_matches(['/', ':', '.']).to_owned())
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Glob(glob) => glob.is_match(text),
            Self::Part(part) => text.to_lowercase().contains(part),
            Self::Name(name) => text.strip_prefix(name.as_str()).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with(['/', '.']) || rest.starts_with("::")
            }),
        }
    }
}
