//! What every crate of probes must keep, whatever it asks: one line in `tests/contract.rs`.
//!
//! ```ignore
//! shakedown_testkit::contract!(acme_probes);
//! ```
//!
//! The suite looks at everything the crate registers: metadata and configuration are well formed, a
//! run that is cancelled before it begins connects to nobody, hostile targets end in an outcome or an
//! error and never in a hang or a panic, a run that is dropped midway gives everything back, and no
//! more is drawn than was declared.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use shakedown_core::budget::{Budget, Draw};
use shakedown_core::environment::{Environment, Layer, Source, TimeScale, load};
use shakedown_core::meta::Category;
use shakedown_core::registry::{ProbeEntry, Registry};
use shakedown_core::{Outcome, Probe, ProbeCtx, ProbeError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::peers::{Peer, Script};

/// The suite for one crate: `contract!(shakedown_probes_vpc);`. Needs the crate's features `live` and
/// `register`.
#[macro_export]
macro_rules! contract {
    ($krate:ident) => {
        use $krate as _;

        $crate::contract!(@tests
            metadata_is_well_formed
            configuration_is_complete_and_strict
            a_cancelled_run_connects_to_nobody
            a_silent_target_ends_in_time
            a_garbage_target_ends_in_time
            a_resetting_target_ends_in_time
            a_closing_target_ends_in_time
            a_refusing_target_ends_in_time
            a_dropped_run_gives_everything_back
            monitors_and_safety_checks_survive_hostile_targets
        );
    };
    (@tests $($test:ident)+) => {$(
        #[test]
        fn $test() {
            $crate::contract::$test(::core::env!("CARGO_PKG_NAME"));
        }
    )+};
}

/// Ids, summaries and limits of what `package` registers.
pub fn metadata_is_well_formed(package: &str) {
    let registry = registry();
    let is_id = |id: &str| {
        let word = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
        };
        id.split_once('.').is_some_and(|(domain, name)| word(domain) && word(name))
    };
    let is_sentence = |text: &str| !text.is_empty() && !text.ends_with('.') && text.len() < 160;
    let mut entries = 0;
    for probe in probes(&registry, package) {
        let meta = probe.meta;
        assert!(is_id(meta.id), "`{}` is not `domain.name` in lower case", meta.id);
        assert!(is_sentence(meta.summary), "{}: one line without a final dot", meta.id);
        assert!(meta.expected <= meta.timeout, "{}: usually longer than its limit", meta.id);
        let draws: u32 = meta.draws.iter().map(|draw| draw.amount).sum();
        assert_eq!(
            meta.category == Category::Unit,
            draws == 0,
            "{}: unit probes draw nothing",
            meta.id
        );
        for needed in meta.needs {
            let known = registry.probes().any(|other| other.meta.provides.contains(needed));
            assert!(known, "{} needs `{needed}`, which nothing linked here provides", meta.id);
        }
        entries += 1;
    }
    for monitor in registry.monitors().filter(|entry| entry.origin.package == package) {
        assert!(is_id(monitor.meta.id) && is_sentence(monitor.meta.summary), "{}", monitor.meta.id);
        for metric in monitor.meta.metrics {
            assert!(is_id(metric.id) && !metric.definition.is_empty(), "{}", metric.id);
        }
        entries += 1;
    }
    for check in registry.safety_checks().filter(|entry| entry.origin.package == package) {
        assert!(is_id(check.meta.id) && is_sentence(check.meta.summary), "{}", check.meta.id);
        entries += 1;
    }
    assert!(entries > 0, "{package} registers nothing: is its feature `register` on?");
}

/// Every probe's defaults are accepted as they are written, and a key that does not exist is refused.
pub fn configuration_is_complete_and_strict(package: &str) {
    let registry = registry();
    for probe in probes(&registry, package) {
        let id = probe.meta.id;
        let (defaults, errors) = (probe.check)(toml::Table::new(), TimeScale::default());
        assert!(errors.is_empty(), "{id}: the defaults are refused: {errors:?}");
        let (again, errors) = (probe.check)(defaults.clone(), TimeScale::default());
        assert!(errors.is_empty(), "{id}: written out, the defaults are refused: {errors:?}");
        assert_eq!(again, defaults, "{id}");
        let unknown = toml::Table::from_iter([("no_such_key".to_owned(), true.into())]);
        let (_, errors) = (probe.check)(unknown, TimeScale::default());
        assert_eq!(errors.len(), 1, "{id}: an unknown key is accepted: deny_unknown_fields");
        let built = (probe.build)(&environment(&registry, 1)).expect("the defaults build");
        assert_eq!(built.meta().id, id, "`meta` returns another probe's description");
    }
}

/// A context that is cancelled before the run begins.
pub fn a_cancelled_run_connects_to_nobody(package: &str) {
    block_on(async {
        let peer = Peer::start(Script::silent()).await;
        let cancel = CancellationToken::new();
        cancel.cancel();
        for (id, run) in runs(package, peer.port(), &cancel) {
            let _ = ends(&id, run).await;
        }
        assert_eq!(peer.connections(), 0, "a cancelled run connected");
    });
}

/// A target that accepts and never answers.
pub fn a_silent_target_ends_in_time(package: &str) {
    block_on(async { hostile(package, Peer::start(Script::silent()).await).await });
}

/// A target that sends what is no protocol.
pub fn a_garbage_target_ends_in_time(package: &str) {
    block_on(async { hostile(package, Peer::start(Script::garbage()).await).await });
}

/// A target that resets every connection.
pub fn a_resetting_target_ends_in_time(package: &str) {
    block_on(async { hostile(package, Peer::start(Script::reset()).await).await });
}

/// A target that closes after the first bytes.
pub fn a_closing_target_ends_in_time(package: &str) {
    block_on(async { hostile(package, Peer::start(Script::close_after(1)).await).await });
}

/// A target nobody listens at.
pub fn a_refusing_target_ends_in_time(package: &str) {
    block_on(async { hostile(package, Peer::refused().await).await });
}

/// A run that is dropped after a while, as the runner does when a probe ignores its cancellation.
pub fn a_dropped_run_gives_everything_back(package: &str) {
    block_on(async {
        let peer = Peer::start(Script::silent()).await;
        let registry = registry();
        let environment = environment(&registry, peer.port());
        for probe in probes(&registry, package) {
            let budget = environment.safety.budget();
            let ctx = context(&environment, &budget, probe.meta.draws).await;
            let probe = (probe.build)(&environment).expect("the defaults build");
            // Dropped at several points of its way: right away, while it connects, while it waits.
            for after in [1, 20, 90].map(Duration::from_millis) {
                let _ = tokio::time::timeout(after, probe.run(&ctx)).await;
            }
            drop(ctx);
            let whole: Vec<Draw> = budget
                .usage()
                .iter()
                .map(|usage| Draw::new(usage.resource.clone(), usage.ceiling))
                .collect();
            let id = probe.meta().id;
            assert!(
                ends(id, budget.reserve(&whole)).await.is_ok(),
                "{id} kept a lease after it was dropped: {:?}",
                budget.usage()
            );
        }
    });
}

/// Monitors and safety checks against targets that refuse and that never answer.
pub fn monitors_and_safety_checks_survive_hostile_targets(package: &str) {
    block_on(async {
        for peer in [Peer::refused().await, Peer::start(Script::silent()).await] {
            let registry = registry();
            let environment = environment(&registry, peer.port());
            let budget = environment.safety.budget();
            for entry in registry.monitors().filter(|entry| entry.origin.package == package) {
                let monitor = (entry.build)(&environment).expect("the defaults build");
                let ctx = context(&environment, &budget, entry.meta.draws).await;
                // Twice: the second sample must work like the first, whatever became of that.
                for _ in 0..2 {
                    let _ = ends(entry.meta.id, monitor.sample(&ctx)).await;
                }
                ends(entry.meta.id, monitor.close()).await;
            }
            for entry in registry.safety_checks().filter(|entry| entry.origin.package == package) {
                let check = (entry.build)(&environment).expect("the defaults build");
                let ctx = context(&environment, &budget, entry.meta.draws).await;
                let answers = ends(entry.meta.id, check.gate(&ctx)).await;
                assert!(!answers.is_empty(), "{}: the gate asked nothing", entry.meta.id);
                ends(entry.meta.id, check.stability(&ctx)).await;
                ends(entry.meta.id, check.finish(&ctx)).await;
            }
        }
    });
}

/// Every probe against one target, all at once, each with a budget of its own.
async fn hostile(package: &str, peer: Peer) {
    let mut running = JoinSet::new();
    for (id, run) in runs(package, peer.port(), &CancellationToken::new()) {
        running.spawn(async move { ends(&id, run).await });
    }
    while let Some(ended) = running.join_next().await {
        // An outcome or an error are both an end; a panic comes through here.
        let _: Result<Outcome, ProbeError> = ended.expect("no probe panics");
    }
}

type Run = std::pin::Pin<Box<dyn Future<Output = Result<Outcome, ProbeError>> + Send>>;

/// A run of every probe of `package`, with what it declared set aside and nothing more.
fn runs(package: &str, port: u16, cancel: &CancellationToken) -> Vec<(String, Run)> {
    let registry = registry();
    let environment = environment(&registry, port);
    let run = |entry: &ProbeEntry| {
        let (environment, cancel, meta) = (environment.clone(), cancel.clone(), entry.meta);
        let probe: Box<dyn Probe> = (entry.build)(&environment).expect("the defaults build");
        let run: Run = Box::pin(async move {
            let budget = environment.safety.budget();
            let allotment = budget.reserve(meta.draws).await.expect("within the budget");
            let timeout = environment.time_scale().limit(meta.timeout);
            let ctx = ProbeCtx::builder(environment)
                .budget(budget.clone())
                .allotment(allotment)
                .cancel(cancel)
                .deadline(shakedown_core::clock::now() + timeout)
                .build();
            let outcome = probe.run(&ctx).await;
            for usage in budget.usage() {
                let declared = meta.draws.iter().filter(|draw| draw.resource == usage.resource);
                let declared: u32 = declared.map(|draw| draw.amount).sum();
                assert!(usage.peak <= declared, "{} drew more than declared: {usage:?}", meta.id);
            }
            outcome
        });
        (meta.id.to_owned(), run)
    };
    probes(&registry, package).map(run).collect()
}

async fn context(environment: &Environment, budget: &Budget, draws: &[Draw]) -> ProbeCtx {
    let allotment = budget.reserve(draws).await.expect("within the budget");
    ProbeCtx::builder(environment.clone()).budget(budget.clone()).allotment(allotment).build()
}

/// Waits for something that must end. The limit is far beyond every limit of the test environment, so
/// that only a hang reaches it.
async fn ends<T: Debug>(id: &str, what: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(120), what).await {
        Ok(ended) => ended,
        Err(_) => panic!("{id} hangs"),
    }
}

fn registry() -> Registry {
    Registry::linked().expect("no id twice")
}

fn probes<'r>(registry: &'r Registry, package: &str) -> impl Iterator<Item = &'r ProbeEntry> {
    registry.probes().filter(move |entry| entry.origin.package == package)
}

/// A lab in a hurry whose every address is one port of this machine.
fn environment(registry: &Registry, port: u16) -> Environment {
    let text = format!(
        r#"
[environment]
name = "contract"
tier = "lab"
vantage = "cloud-run"

[lab]
time_scale = 20

[database]
host = "127.0.0.1"
port = {port}
name = "d"
user = "u"
connect_timeout = "300ms"

[database.tcp]
host = "127.0.0.1"
port = {port}

[services.backend]
url = "https://localhost:{port}"
websocket = "wss://localhost:{port}/ws"

[network]
required_hosts = [{{ host = "localhost", port = {port}, purpose = "the contract" }}]
resolve = {{ localhost = "127.0.0.1:{port}" }}

[safety]
connect_timeout = "300ms"
linger = "2s"
connection_rate = "100000/s"
request_rate = "100000/s"
"#
    );
    let layers = vec![Layer { origin: "contract".into(), text }];
    let source = Source { layers, ..Source::default() };
    match load(&source, &registry.owners()) {
        Ok(loaded) => loaded.environment,
        Err(errors) => panic!("the contract's environment is wrong:\n{errors}"),
    }
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future);
}
