//! Which probes a selection selects.

mod common;

use common::{meta, pass, probe, registry};
use proptest::prelude::*;
use shakedown_core::meta::{Category, ProbeMeta, RunPhase};
use shakedown_core::registry::Registry;
use shakedown_runner::{Selection, select};

const POOL: &str = "tests/integration/test_issue_1278_cloud_sql_pool_behavior.py::TestCloudSQLPoolBehavior::test_limit";
const SMD: &str =
    "tests/e2e/test_issue_1278_smd_sequence_staging_validation.py::TestSMDSequence::test_complete";

fn probes() -> Registry {
    let pool = ProbeMeta { aliases: &[POOL], ..meta("cloudsql.pool-limit", RunPhase::Database) };
    let smd = ProbeMeta {
        aliases: &[SMD],
        category: Category::E2e,
        ..meta("smd.sequence", RunPhase::Startup)
    };
    let check = ProbeMeta {
        category: Category::Unit,
        markers: &["offline", "issue_1278"],
        ..meta("cloudsql.budget-check", RunPhase::Database)
    };
    registry([probe!(pool, pass), probe!(smd, pass), probe!(check, pass)], [], [])
}

fn ids(selection: &Selection) -> Vec<&'static str> {
    let registry = probes();
    let selected = select(&registry, selection).expect("a valid selection");
    selected.iter().map(|entry| entry.meta.id).collect()
}

const ALL: [&str; 3] = ["cloudsql.budget-check", "cloudsql.pool-limit", "smd.sequence"];

fn pattern(pattern: &str) -> Vec<&'static str> {
    ids(&Selection { patterns: vec![pattern.into()], ..Selection::default() })
}

fn selector(selector: &str) -> Vec<&'static str> {
    ids(&Selection { selectors: vec![selector.into()], ..Selection::default() })
}

#[test]
fn patterns_match_ids_aliases_and_markers() {
    let cases: &[(&str, &[&str])] = &[
        ("*issue_1278*", &ALL),
        ("*issue_1278*staging*", &["smd.sequence"]),
        ("cloudsql.*", &["cloudsql.budget-check", "cloudsql.pool-limit"]),
        ("*::test_l?mit", &["cloudsql.pool-limit"]),
        ("smd.{sequence,other}", &["smd.sequence"]),
        ("pool", &["cloudsql.pool-limit"]),
        ("testcloudsqlpool", &["cloudsql.pool-limit"]),
        ("offline", &["cloudsql.budget-check"]),
        ("issue_1278*", &["cloudsql.budget-check"]),
        ("connectivity", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(pattern(text), *expected, "{text}");
    }
}

#[test]
fn selectors_are_ids_aliases_and_paths() {
    let cases: &[(&str, &[&str])] = &[
        ("cloudsql.pool-limit", &["cloudsql.pool-limit"]),
        ("cloudsql.pool", &[]),
        ("cloudsql", &["cloudsql.budget-check", "cloudsql.pool-limit"]),
        (POOL, &["cloudsql.pool-limit"]),
        ("tests/e2e/", &["smd.sequence"]),
        ("tests/e2", &[]),
        ("tests", &["cloudsql.pool-limit", "smd.sequence"]),
        ("tests/e2e/test_issue_1278_smd_sequence_staging_validation.py", &["smd.sequence"]),
        ("tests/e2e/test_issue_1278_smd_sequence_staging_validation.py::TestSMD", &[]),
        ("offline", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(selector(text), *expected, "{text}");
    }
}

#[test]
fn kinds_are_joined_by_and_values_by_or() {
    let all = Selection::default();
    assert_eq!(ids(&all), ALL);
    let phases = vec![RunPhase::Database, RunPhase::Impact];
    let database = Selection { phases, ..all.clone() };
    assert_eq!(ids(&database), ["cloudsql.budget-check", "cloudsql.pool-limit"]);
    let unit = Selection { categories: vec![Category::Unit, Category::E2e], ..database };
    assert_eq!(ids(&unit), ["cloudsql.budget-check"]);
    let staging = Selection { markers: vec!["staging".into()], ..unit };
    assert_eq!(ids(&staging), [""; 0]);
    let exact = ["smd.sequence".to_owned()].into();
    assert_eq!(ids(&Selection { ids: Some(exact), ..all.clone() }), ["smd.sequence"]);
    let none = Selection { ids: Some([].into()), ..all };
    assert_eq!(ids(&none), [""; 0], "an empty set is not `everything`");
}

#[test]
fn a_malformed_glob_is_an_error_that_names_it() {
    let selection = Selection { patterns: vec!["a[".into()], ..Selection::default() };
    let error = select(&probes(), &selection).expect_err("not a glob");
    assert_eq!(error.to_string(), "`a[` is not a pattern");
}

proptest! {
    #[test]
    fn no_pattern_panics(text in "[a-z0-9_*?\\[\\]{},!\\\\/:.\u{e9}^-]{0,24}") {
        for selection in [
            Selection { patterns: vec![text.clone()], ..Selection::default() },
            Selection { selectors: vec![text.clone()], ..Selection::default() },
        ] {
            let _ = select(&probes(), &selection);
        }
    }

    #[test]
    fn every_part_of_an_alias_finds_it(start in 0..POOL.len(), len in 1..40usize) {
        let part = &POOL[start..(start + len).min(POOL.len())];
        prop_assert!(pattern(part).contains(&"cloudsql.pool-limit"), "{}", part);
        let glob = format!("*{part}*");
        prop_assert!(pattern(&glob).contains(&"cloudsql.pool-limit"), "{}", glob);
    }
}
