//! Environments and contexts for tests, from TOML.

use shakedown_core::environment::{Layer, Owners, Source, load};
use shakedown_core::{Credentials, Environment, ProbeCtx};

/// What every test environment begins with: a lab, and rates that no test runs into.
const BASE: &str = r#"
[environment]
name = "test"
tier = "lab"

[safety]
connection_rate = "100000/s"
request_rate = "100000/s"
"#;

/// The environment `toml` describes, on top of a lab with rates no test runs into. Sections of other
/// crates stay unchecked.
///
/// # Panics
///
/// With every error of the text.
#[track_caller]
pub fn environment(toml: &str) -> Environment {
    let layer = |origin: &str, text: &str| Layer { origin: origin.into(), text: text.into() };
    let source =
        Source { layers: vec![layer("testkit", BASE), layer("test", toml)], ..Source::default() };
    match load(&source, &Owners::default()) {
        Ok(loaded) => loaded.environment,
        Err(errors) => panic!("the test's environment is wrong:\n{errors}"),
    }
}

/// Credentials of these names and values.
pub fn credentials(pairs: &[(&str, &str)]) -> Credentials {
    let mut credentials = Credentials::default();
    for (name, secret) in pairs {
        credentials.insert(*name, (*secret).into());
    }
    credentials
}

/// A probe's context for [`environment`], without an allotment: leases come from the environment's
/// budget.
///
/// # Panics
///
/// As [`environment`].
#[track_caller]
pub fn ctx(toml: &str, secrets: &[(&str, &str)]) -> ProbeCtx {
    ProbeCtx::builder(environment(toml)).credentials(credentials(secrets)).build()
}
