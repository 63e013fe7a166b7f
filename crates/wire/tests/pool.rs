//! The pool against a real server: what it holds is what the server counts.

use std::time::Duration;

use shakedown_core::id::resource;
use shakedown_core::{Fault, Lease, ProbeCtx};
use shakedown_testkit::PgServer;
use shakedown_wire::pg::{self, PgTarget, Pool, PoolFault, statements};

const SHORT: Duration = Duration::from_millis(200);

async fn leases(ctx: &ProbeCtx, count: usize) -> Vec<Lease> {
    let mut leases = Vec::new();
    for _ in 0..count {
        leases.push(ctx.lease(&resource::DATABASE_CONNECTION).await.unwrap());
    }
    leases
}

fn in_use(ctx: &ProbeCtx) -> u32 {
    let usage = ctx.budget().usage();
    usage.iter().find(|usage| usage.resource == resource::DATABASE_CONNECTION).unwrap().in_use
}

#[tokio::test]
async fn a_pool_holds_no_more_than_its_leases_and_says_so_in_time() {
    let server = PgServer::shared();
    let database = server.database(false).await;
    let ctx = server.ctx(&database);
    let target = PgTarget::of(&ctx).unwrap().named(&database.name);
    let witness = leases(&ctx, 1).await.pop().unwrap();
    let mut witness = pg::connect(&ctx, witness, &target).await.result.unwrap();

    let pool = Pool::open(&ctx, leases(&ctx, 2).await, &target, SHORT).await.unwrap();
    assert_eq!((pool.size(), pool.idle(), pool.max()), (0, 0, 2), "nothing is dialled yet");
    let mut one = pool.acquire().await.unwrap();
    let mut two = pool.acquire().await.unwrap();
    let (first, second) = (one.backend_pid().await.unwrap(), two.backend_pid().await.unwrap());
    assert_ne!(first, second);
    assert_eq!(server.sessions(pool.application_name()).await, 2);
    let refused = pool.acquire().await.unwrap_err();
    assert!(matches!(refused, PoolFault::TimedOut { after } if after >= SHORT), "{refused}");
    assert_eq!(server.sessions(pool.application_name()).await, 2);

    assert_eq!(one.query(statements::PING).await, Ok(1));
    two.sleep(0.0).await.unwrap();
    drop(one);
    let mut again = pool.acquire().await.unwrap();
    assert_eq!(again.backend_pid().await, Ok(first), "the same connection again");

    drop((again, two));
    assert_eq!(in_use(&ctx), 3);
    assert!(pool.close_seen_by(&mut witness).await);
    assert_eq!(in_use(&ctx), 1, "the leases are back, the witness has its own");
}

#[tokio::test]
async fn a_pools_sessions_are_read_only_with_our_limits() {
    let server = PgServer::shared();
    let database = server.database(false).await;
    let ctx = server.ctx(&database);
    for target in [PgTarget::of(&ctx).unwrap(), PgTarget::tcp_of(&ctx).unwrap().unwrap()] {
        let mut target = target.named(&database.name);
        target.statement_timeout = Duration::from_millis(100);
        let pool = Pool::open(&ctx, leases(&ctx, 1).await, &target, Duration::from_secs(10))
            .await
            .unwrap();
        let mut connection = pool.acquire().await.unwrap();
        let Err(Fault::Sql { sqlstate, .. }) = connection.sleep(5.0).await else {
            panic!("the sleep was not ended")
        };
        assert_eq!(sqlstate, "57014");
        drop(connection);
        pool.close().await;
    }
    assert_eq!(in_use(&ctx), 2, "not seen closed: the leases linger");
}

#[tokio::test]
async fn what_a_pool_is_refused_for_good_is_no_timeout() {
    let server = PgServer::shared();
    let database = server.database(false).await;
    let ctx = server.ctx(&database);
    let mut target = PgTarget::of(&ctx).unwrap();
    target.password = Some("wrong".into());
    let pool =
        Pool::open(&ctx, leases(&ctx, 1).await, &target, Duration::from_secs(10)).await.unwrap();
    let PoolFault::Fault(Fault::Sql { sqlstate, .. }) = pool.acquire().await.unwrap_err() else {
        panic!("another fault")
    };
    assert_eq!(sqlstate, "28P01");
}
