//! A probe that tries to take more than it declared, run as any other, against a real server that
//! counts: it gets what it declared, and the run goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use secrecy::ExposeSecret;
use shakedown_core::environment::{Layer, Source, load};
use shakedown_core::id::resource;
use shakedown_core::record::ProbeResult;
use shakedown_core::registry::{Entries, Origin, ProbeEntry};
use shakedown_core::{
    Draw, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, Registry, RunPhase,
    async_trait,
};
use shakedown_runner::{FnSink, PlanOptions, RunOptions, Selection, plan, run, select};
use shakedown_testkit::{PgServer, credentials};
use shakedown_wire::pg::{self, PgTarget};

/// What it declares.
const DECLARED: u32 = 3;
/// What it tries to open at once.
const WANTED: usize = 20;

#[derive(Debug)]
struct Greedy;

#[async_trait]
impl Probe for Greedy {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let target = PgTarget::of(ctx)?.named("greedy");
        let attempt = async || {
            let lease = ctx.lease(&resource::DATABASE_CONNECTION).await?;
            let climb = pg::connect(ctx, lease, &target).await.uninterrupted()?;
            let Ok(connection) = climb.result else { return Ok(false) };
            ctx.sleep(Duration::from_millis(200)).await?;
            connection.close().await;
            Ok::<bool, ProbeError>(true)
        };
        let attempts: Vec<_> = (0..WANTED).map(|_| attempt()).collect();
        let mut opened = 0;
        for result in futures_util::future::join_all(attempts).await {
            opened += usize::from(result?);
        }
        Ok(Outcome::pass().find(Finding::new(format!("{opened} of {WANTED} were opened"))))
    }
}

impl ProbeSpec for Greedy {
    type Config = Nothing;

    const META: ProbeMeta = ProbeMeta {
        draws: &[Draw::new(resource::DATABASE_CONNECTION, DECLARED)],
        ..ProbeMeta::new("test.greedy", RunPhase::Database, "it gets no more than it declared")
    };

    fn from_config(Nothing {}: Nothing) -> Self {
        Self
    }
}

#[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greedy_probe_gets_what_it_declared() {
    let server = PgServer::shared();
    let database = server.database(true).await;
    let text = format!(
        "[environment]\ntier = \"lab\"\n[safety]\nconnection_rate = \"1000/s\"\n{}",
        server.toml(&database)
    );
    let layers = vec![Layer { origin: "test".into(), text }];
    let origin = Origin { package: "test", file: file!(), line: line!() };
    let entries = Entries { probes: vec![ProbeEntry::of::<Greedy>(origin)], ..Entries::default() };
    let registry = Registry::from_entries(entries).expect("one entry");
    let source = Source { layers, ..Source::default() };
    let environment = load(&source, &registry.owners()).expect("valid").environment;
    let selected = select(&registry, &Selection::default()).expect("no pattern");
    let options = PlanOptions::new("greedy", shakedown_core::clock::wall());
    let plan = plan(&registry, &environment, &selected, options).expect("fits");

    // What the server counts, every few milliseconds, while the probe does its worst.
    let (most, over) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
    let counting = tokio::spawn({
        let (most, over) = (Arc::clone(&most), Arc::clone(&over));
        async move {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(server.sessions("shakedown").await, Ordering::Relaxed);
                most.fetch_max(server.sessions("greedy").await, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let secrets = credentials(&[("database", database.password.expose_secret())]);
    let mut sink = FnSink(|_: &_| {});
    let record = run(plan, &registry, environment, secrets, RunOptions::default(), &mut sink).await;
    over.store(true, Ordering::Relaxed);
    counting.await.expect("it counts");

    let ProbeResult::Finished(outcome) = &record.probes[0].result else {
        panic!("{:?}", record.probes[0]);
    };
    assert_eq!(outcome.findings[0].summary, format!("{WANTED} of {WANTED} were opened"));
    let most = most.load(Ordering::Relaxed);
    assert!((1..=i64::from(DECLARED)).contains(&most), "the server counted {most}");
    let usage = record.usage.iter().find(|usage| usage.resource == resource::DATABASE_CONNECTION);
    assert_eq!(usage.expect("counted").peak, DECLARED);
}
