//! The server refuses, keeps silent or is slow: the right probe says so, with rung and fault.

use shakedown_core::id::resource::DATABASE_CONNECTION;
use shakedown_core::monitor::Reading;
use shakedown_core::safety::CheckState;
use shakedown_core::{
    Monitor, MonitorSpec, Probe, ProbeSpec, SafetyCheck, SafetySpec, Span, Verdict,
};
use shakedown_lab::Scenario;
use shakedown_probes_cloudsql::causes;
use shakedown_probes_cloudsql::guard::{CloudSqlGuard, CloudSqlGuardConfig};
use shakedown_probes_cloudsql::monitor::{CONNECTION_ERRORS, Instance};
use shakedown_probes_cloudsql::probes::connect_timing::ConnectTimingConfig;
use shakedown_probes_cloudsql::probes::pool_limit::PoolLimitConfig;
use shakedown_probes_cloudsql::probes::{ConnectTiming, ConnectionHeadroom, PoolLimit};
use shakedown_wire::pg::Logins;

use crate::staging::{Staging, eventually, number, words};

#[tokio::test(flavor = "multi_thread")]
async fn taken_slots_are_53300_at_ready_and_leave_one_connection() {
    let staging = Staging::named("cloudsql-max-connections").await;
    let outcome = staging.run::<ConnectTiming>().await;
    assert_eq!(outcome.verdict, Verdict::Fail, "{}", words(&outcome));
    let finding = &outcome.findings[0];
    assert_eq!(finding.fault.as_ref().unwrap().code(), "sqlstate:53300");
    assert_eq!(finding.rung.as_deref(), Some("ready"));
    assert_eq!(finding.suggests, Some(causes::MAX_CONNECTIONS));
    assert_eq!(number(&outcome, "logins_failed"), 2.0, "two in a row are enough");

    let guard = CloudSqlGuard::from_config(CloudSqlGuardConfig::default());
    let ctx = staging.guard(&guard).await;
    let checks = guard.gate(&ctx).await;
    let down = checks.iter().find(|check| check.name == "database").expect("asked");
    let CheckState::Unknown { why } = &down.state else { panic!("{down:?}") };
    assert!(why.contains("`ready`") && why.contains("53300"), "{why}");
    assert_eq!((down.limit.clone(), down.healthy), (Some((DATABASE_CONNECTION, 1)), Some(false)));
    let checks = guard.stability(&ctx).await;
    assert!(matches!(checks[0].state, CheckState::Unknown { .. }), "{checks:?}");
    guard.finish(&ctx).await;
    let in_use: u32 = staging.budget.usage().iter().map(|usage| usage.in_use).sum();
    assert_eq!(in_use, 0, "the lease came back at once");

    let instance = Instance::from_config(Default::default());
    let ctx = staging.monitor(&instance).await;
    let error = instance.sample(&ctx).await.unwrap_err().to_string();
    assert!(error.contains("`ready`") && error.contains("53300"), "{error}");
    // From enough logins on their share is known, though nothing else is.
    for _ in 2..Logins::REMEMBERED {
        instance.sample(&ctx).await.unwrap_err();
    }
    for sample in instance.sample(&ctx).await.unwrap() {
        let known = sample.metric == CONNECTION_ERRORS;
        match &sample.value {
            Reading::Value(share) if known => assert_eq!(*share, 1.0),
            Reading::Unavailable(why) if !known => assert!(why.contains("53300"), "{why}"),
            other => panic!("{}: {other:?}", sample.metric),
        }
    }
    staging.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_monitor_still_sees_when_logins_are_refused() {
    let staging = Staging::start(Scenario::healthy(), |options| {
        options.settings.database.max_connections = 12;
    })
    .await;
    let instance = Instance::from_config(Default::default());
    let ctx = staging.monitor(&instance).await;
    instance.sample(&ctx).await.unwrap();
    // Nine ordinary slots: the sampler's, the monitor's, and these.
    let mut held = Vec::new();
    for _ in 0..7 {
        held.push(staging.application("web").await);
    }
    let outcome = staging.run::<ConnectTiming>().await;
    assert_eq!(outcome.findings[0].fault.as_ref().unwrap().code(), "sqlstate:53300");
    let samples = instance.sample(&ctx).await.unwrap();
    let web = samples.iter().find(|sample| sample.labels.iter().any(|(_, value)| value == "web"));
    assert_eq!(format!("{:?}", web.expect("seen").value), "Value(7.0)");

    // A pool that gets one of two connections is asked why by single logins.
    held.truncate(5);
    let free = async || {
        staging.lab.truth().postgres.applications.get("web").is_some_and(|web| web.now == 5)
    };
    eventually("two sessions are gone", free).await;
    let probe = PoolLimit::from_config(PoolLimitConfig {
        acquire_timeout: Span::secs(1),
        ..PoolLimitConfig::default()
    });
    let pool_ctx = staging.ctx(PoolLimit::META.draws).await;
    let outcome = probe.run(&pool_ctx).await.unwrap();
    assert_eq!(outcome.verdict, Verdict::Fail, "{}", words(&outcome));
    let code = outcome.findings[0].fault.as_ref().unwrap().code();
    assert_eq!(code, "sqlstate:53300", "{}", words(&outcome));
    assert!(words(&outcome).contains("the pool got 1 of 2"), "{}", words(&outcome));
    drop(pool_ctx);

    held.push(staging.application("web").await);
    let outcome = staging.run::<ConnectionHeadroom>().await;
    assert_eq!(outcome.verdict, Verdict::Fail, "{}", words(&outcome));
    assert_eq!(number(&outcome, "free"), 0.0);
    assert!(words(&outcome).contains("max_connections is 12 on the server"), "{}", words(&outcome));
    instance.close().await;
    staging.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_kept_connection_is_opened_again_with_the_same_lease() {
    let staging = Staging::healthy().await;
    let superuser = staging.superuser().await;
    let instance = Instance::from_config(Default::default());
    let ctx = staging.monitor(&instance).await;
    let guard = CloudSqlGuard::from_config(CloudSqlGuardConfig::default());
    let guard_ctx = staging.guard(&guard).await;
    instance.sample(&ctx).await.unwrap();
    guard.gate(&guard_ctx).await;
    let end = "select pg_terminate_backend(pid) from pg_stat_activity
                where application_name like 'shakedown/%'";
    superuser.execute(end, &[]).await.unwrap();
    eventually("they are gone", async || staging.sessions(&superuser).await == 0).await;
    instance.sample(&ctx).await.unwrap_err();
    instance.sample(&ctx).await.unwrap();
    assert_eq!(staging.sessions(&superuser).await, 1);
    let checks = guard.stability(&guard_ctx).await;
    assert!(matches!(checks[0].state, CheckState::Unknown { .. }), "{checks:?}");
    assert_eq!(checks[0].healthy, Some(false));
    instance.close().await;
    guard.finish(&guard_ctx).await;
    staging.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_a_timeout_at_startup_and_slowness_one_at_auth() {
    for (scenario, rung, cause) in [
        ("cloudsql-silent", "startup", causes::UNREACHABLE),
        ("cloudsql-slow-auth", "auth", causes::SLOW),
    ] {
        let staging = Staging::named(scenario).await;
        let outcome = staging.run::<ConnectTiming>().await;
        assert_eq!(outcome.verdict, Verdict::Fail, "{scenario}: {}", words(&outcome));
        let finding = &outcome.findings[0];
        assert_eq!(finding.fault.as_ref().unwrap().code(), "timeout", "{scenario}");
        assert_eq!(finding.rung.as_deref(), Some(rung), "{scenario}");
        assert_eq!(finding.suggests, Some(cause), "{scenario}");
        staging.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_above_the_strategys_bounds_are_slow() {
    let text = "name = \"slow\"\nsummary = \"2 s to authenticate\"\n[[fault]]\n\
                kind = \"database-slow-auth\"\ndelay = \"20s\"\n";
    let staging = Staging::start(toml::from_str(text).unwrap(), |_| {}).await;
    let table = staging.environment.resolved["probes"][ConnectTiming::META.id].clone();
    let config = ConnectTimingConfig { attempts: 1, ..table.try_into().unwrap() };
    let ctx = staging.ctx(ConnectTiming::META.draws).await;
    let outcome = ConnectTiming::from_config(config).run(&ctx).await.unwrap();
    // 1 s is normal and 2.5 s is pressure at scale 10.
    assert_eq!(outcome.verdict, Verdict::Degraded, "{}", words(&outcome));
    assert_eq!(outcome.findings[0].suggests, Some(causes::SLOW));
    assert!(number(&outcome, "auth_p50") >= 1_900.0, "{}", words(&outcome));
    staging.stop().await;
}
