//! Nothing is wrong: everything passes, within the budget, and leaves nothing behind.

use shakedown_core::monitor::Reading;
use shakedown_core::safety::CheckState;
use shakedown_core::{
    Monitor, MonitorSpec, Outcome, Probe, ProbeSpec, SafetyCheck, SafetySpec, Verdict,
};
use shakedown_probes_cloudsql::guard::{CloudSqlGuard, CloudSqlGuardConfig};
use shakedown_probes_cloudsql::monitor::{self, Instance};
use shakedown_probes_cloudsql::probes::{
    AcquireTimeout, BudgetCheck, ConnectTiming, ConnectionHeadroom, ExhaustionRecovery, PoolLimit,
    ProgressiveRetry, SessionSafety,
};

use crate::staging::{Staging, eventually, number, words};

/// Passed, or only late: how fast this machine is decides no test.
#[track_caller]
fn passed(outcome: &Outcome) {
    let late = ["late", "after its time was up", "above", "scheduled", "the schedule allows"];
    let only_late = outcome.verdict == Verdict::Degraded
        && late.iter().any(|word| words(outcome).contains(word));
    assert!(outcome.verdict == Verdict::Pass || only_late, "{}", words(outcome));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_probe_passes_beside_guard_and_monitor() {
    let staging = Staging::healthy().await;
    let superuser = staging.superuser().await;
    staging.settle(&superuser).await;
    let guard = CloudSqlGuard::from_config(CloudSqlGuardConfig::default());
    let guard_ctx = staging.guard(&guard).await;
    for check in guard.gate(&guard_ctx).await {
        assert!(!matches!(check.state, CheckState::Refused { .. }), "{check:?}");
        assert_eq!(check.limit, None, "{check:?}");
        assert_ne!(check.healthy, Some(false), "{check:?}");
    }
    let instance = Instance::from_config(Default::default());
    let monitor_ctx = staging.monitor(&instance).await;
    let samples = instance.sample(&monitor_ctx).await.unwrap();
    let value = |metric: shakedown_core::id::Metric| {
        let of = samples.iter().find(|sample| sample.metric == metric).unwrap();
        match &of.value {
            Reading::Value(value) => *value,
            Reading::Unavailable(why) => panic!("{metric}: {why}"),
        }
    };
    // Guard, monitor, the lab's sampler and the superuser above.
    assert_eq!(value(monitor::ACTIVE_CONNECTIONS), 4.0, "{samples:?}");
    assert_eq!(value(monitor::POOL_UTILIZATION), 2.0 / 25.0);
    assert_eq!(value(monitor::LOCK_CONTENTION), 0.0);
    assert!(value(monitor::QUERY_LATENCY) > 0.0);
    assert_eq!(staging.sessions(&superuser).await, 2);

    let timing = staging.run::<ConnectTiming>().await;
    passed(&timing);
    assert_eq!((number(&timing, "logins"), number(&timing, "logins_failed")), (10.0, 0.0));
    for rung in ["connect", "startup", "auth", "ready", "query"] {
        assert!(number(&timing, &format!("{rung}_p50")) > 0.0, "{rung}");
    }
    passed(&staging.run::<BudgetCheck>().await);
    let headroom = staging.run::<ConnectionHeadroom>().await;
    passed(&headroom);
    assert_eq!((number(&headroom, "max_connections"), number(&headroom, "used")), (50.0, 5.0));
    assert_eq!(number(&headroom, "used_by_us"), 3.0);
    passed(&staging.run::<SessionSafety>().await);

    let limit = staging.run::<PoolLimit>().await;
    passed(&limit);
    assert_eq!((number(&limit, "pool_size"), number(&limit, "server_count_peak")), (2.0, 2.0));
    assert_eq!(number(&limit, "callers"), 8.0);
    let says = "limit of 25: not established (budget 3";
    assert!(words(&limit).contains(says), "{}", words(&limit));
    let truth = staging.lab.truth().postgres;
    let pool = |(name, _): &(&String, _)| name.starts_with("shakedown/cloudsql.pool-limit/");
    let (_, counted) = truth.applications.iter().find(pool).expect("the sampler saw the pool");
    assert_eq!(counted.max, 2, "as the superuser counted");

    let acquire = staging.run::<AcquireTimeout>().await;
    passed(&acquire);
    assert!(number(&acquire, "gave_up_min") >= 995.0, "5 s at scale 10, floored at 1 s");
    assert!(number(&acquire, "served_after") >= 245.0, "it waited for the other to give back");
    let recovery = staging.run::<ExhaustionRecovery>().await;
    passed(&recovery);
    assert_eq!(number(&recovery, "served_at_once"), 2.0);
    let retry = staging.run::<ProgressiveRetry>().await;
    passed(&retry);
    assert!(number(&retry, "succeeded_at_attempt") >= 5.0);
    assert!(number(&retry, "pause_4") >= 1_600.0);

    for check in guard.stability(&guard_ctx).await {
        assert_eq!(check.state, CheckState::Ok, "{check:?}");
    }
    instance.close().await;
    guard.finish(&guard_ctx).await;
    eventually("no session of ours is left", async || staging.sessions(&superuser).await == 0)
        .await;
    let peak = staging.budget.usage().iter().map(|usage| usage.peak).max();
    assert_eq!(peak, Some(5), "guard, monitor and three of a probe");
    let most: u32 = staging.lab.truth().postgres.sessions_max;
    assert!(most <= 5 + 2, "{most} sessions: five of ours, the superuser's and at most one beside");
    staging.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_works_without_runner_and_allotment() {
    let staging = Staging::healthy().await;
    let ctx = staging.embedded();
    let outcome = PoolLimit::from_config(Default::default()).run(&ctx).await.unwrap();
    passed(&outcome);
    assert_eq!(number(&outcome, "server_count_peak"), 2.0);
    assert!(ctx.budget().usage().iter().all(|usage| usage.in_use == 0), "{:?}", ctx.budget());
    staging.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_at_a_time() {
    let staging = Staging::healthy().await;
    let first = CloudSqlGuard::from_config(CloudSqlGuardConfig::default());
    let first_ctx = staging.guard(&first).await;
    let refused = |checks: &[shakedown_core::safety::Check]| {
        let refusal = checks.iter().find_map(|check| match &check.state {
            CheckState::Refused { why } => Some((check.name.clone(), why.clone())),
            _ => None,
        });
        refusal.unwrap_or_default()
    };
    assert_eq!(refused(&first.gate(&first_ctx).await).0, "");

    let second = CloudSqlGuard::from_config(CloudSqlGuardConfig::default());
    let second_ctx = staging.guard(&second).await;
    let (name, why) = refused(&second.gate(&second_ctx).await);
    assert_eq!(name, "run lock");
    let holder = format!("shakedown/cloudsql.guard/{}", std::process::id());
    assert!(why.contains(&holder) && why.contains("logged in since 2"), "{why}");
    second.finish(&second_ctx).await;

    first.finish(&first_ctx).await;
    let third = CloudSqlGuard::from_config(CloudSqlGuardConfig::default());
    let third_ctx = staging.guard(&third).await;
    assert_eq!(refused(&third.gate(&third_ctx).await).0, "", "the lock was given back");
    third.finish(&third_ctx).await;
    staging.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_behind_is_noticed() {
    let staging = Staging::healthy().await;
    let stranger = staging.application("shakedown/of-before").await;
    let guard = CloudSqlGuard::from_config(CloudSqlGuardConfig::default());
    let ctx = staging.guard(&guard).await;
    guard.gate(&ctx).await;
    let checks = guard.stability(&ctx).await;
    assert!(checks.iter().all(|check| check.state == CheckState::Ok), "{checks:?}");

    let left = staging.application("shakedown/left-behind").await;
    left.batch_execute("begin").await.unwrap();
    let quick = CloudSqlGuardConfig {
        settle_limit: shakedown_core::Span::millis(200),
        ..CloudSqlGuardConfig::default()
    };
    guard.finish(&ctx).await;
    drop(ctx);
    let guard = CloudSqlGuard::from_config(quick);
    let ctx = staging.guard(&guard).await;
    guard.gate(&ctx).await;
    let states: Vec<_> = guard.stability(&ctx).await.into_iter().map(|c| c.state).collect();
    assert_eq!(states[0], CheckState::Ok, "both were there before this gate");
    assert!(matches!(states[1], CheckState::Refused { .. }), "idle in transaction: {states:?}");
    left.batch_execute("rollback").await.unwrap();
    let another = staging.application("shakedown/since-then").await;
    let states: Vec<_> = guard.stability(&ctx).await.into_iter().map(|c| c.state).collect();
    assert!(matches!(states[0], CheckState::Refused { .. }), "{states:?}");
    assert_eq!(states[1], CheckState::Ok);
    drop((stranger, left, another));
    guard.finish(&ctx).await;
    staging.stop().await;
}
