//! A role that may do more, or see less, than it should.

use shakedown_core::monitor::Reading;
use shakedown_core::{Monitor, MonitorSpec, Verdict};
use shakedown_lab::Scenario;
use shakedown_probes_cloudsql::monitor::{self, Instance};
use shakedown_probes_cloudsql::probes::{ConnectionHeadroom, SessionSafety};

use crate::staging::{Staging, number, words};

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_could_write_is_reported_and_writes_nothing() {
    let staging = Staging::start(Scenario::healthy(), |options| {
        options.settings.database.role_can_write = true;
    })
    .await;
    let outcome = staging.run::<SessionSafety>().await;
    assert_eq!(outcome.verdict, Verdict::Degraded, "{}", words(&outcome));
    assert!(words(&outcome).contains("may write to 4 tables"), "{}", words(&outcome));
    assert!(words(&outcome).contains("is refused with 25006"), "{}", words(&outcome));
    assert_eq!(number(&outcome, "writable_tables"), 4.0);
    assert!(number(&outcome, "statement_ended_after") >= 995.0);
    let superuser = staging.superuser().await;
    let tables = "select count(*) from pg_class where relname like 'shakedown%'";
    assert_eq!(superuser.query_one(tables, &[]).await.unwrap().get::<_, i64>(0), 0);
    staging.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_pg_monitor_states_are_unavailable_not_zero() {
    let staging = Staging::healthy().await;
    let superuser = staging.superuser().await;
    staging.settle(&superuser).await;
    superuser.batch_execute("revoke pg_monitor from app").await.unwrap();
    let outcome = staging.run::<ConnectionHeadroom>().await;
    assert_eq!(outcome.verdict, Verdict::Pass, "{}", words(&outcome));
    // The lab's sampler and the superuser; ours is visible to ourselves.
    assert!(words(&outcome).contains("may not see the state of 2 sessions"), "{}", words(&outcome));
    assert_eq!(number(&outcome, "used"), 3.0);

    let instance = Instance::from_config(Default::default());
    let ctx = staging.monitor(&instance).await;
    let samples = instance.sample(&ctx).await.unwrap();
    for sample in &samples {
        let metric = &sample.metric;
        let hidden = [
            monitor::SESSIONS_BY_STATE,
            monitor::WAITS,
            monitor::LONGEST_QUERY,
            monitor::LONGEST_TRANSACTION,
        ];
        if hidden.contains(metric) {
            let Reading::Unavailable(why) = &sample.value else { panic!("{sample:?}") };
            assert!(why.contains("pg_monitor"), "{why}");
        }
        if *metric == monitor::ACTIVE_CONNECTIONS {
            assert_eq!(sample.value, Reading::Value(3.0));
        }
    }
    instance.close().await;
    staging.stop().await;
}
