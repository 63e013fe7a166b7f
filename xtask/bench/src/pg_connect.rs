//! The ladder to PostgreSQL: connect, `select 1`, close and wait for the server's end, again and
//! again.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;
use shakedown_core::context::unlimited_budget;
use shakedown_core::environment::SslMode;
use shakedown_core::id::resource;
use shakedown_core::{Environment, ProbeCtx, clock};
use shakedown_wire::pg::statements::PING;
use shakedown_wire::pg::{self, Endpoint, PgTarget};

use crate::{cpu, runtime};

/// An empty password stands for none.
pub(crate) fn target(port: u16, database: &str, user: &str, password: &str) -> PgTarget {
    PgTarget {
        endpoint: Endpoint::Tcp { host: "127.0.0.1".into(), port },
        database: database.into(),
        user: user.into(),
        password: (!password.is_empty()).then(|| password.into()),
        ssl_mode: SslMode::Disable,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(10),
        application_name: "shakedown/bench".into(),
        read_only: true,
    }
}

pub(crate) fn run(target: PgTarget, count: u32, at_once: u32) -> Result<()> {
    let ctx = ProbeCtx::builder(Environment::default()).budget(unlimited_budget()).build();
    // In a task, as the runner runs every probe: what `block_on` itself polls is woken by a system
    // call.
    let measured = async move { measure(&ctx, &target, count, at_once).await };
    runtime()?.block_on(async { tokio::spawn(measured).await? })
}

async fn measure(ctx: &ProbeCtx, target: &PgTarget, count: u32, at_once: u32) -> Result<()> {
    // The first one makes what a run makes once.
    once(ctx, target).await?;
    let (cpu_before, begun) = (cpu()?, clock::now());
    let one_after_another = async || {
        for _ in 0..count / at_once {
            once(ctx, target).await?;
        }
        anyhow::Ok(())
    };
    match at_once {
        1 => one_after_another().await?,
        5 => {
            let each = &one_after_another;
            tokio::try_join!(each(), each(), each(), each(), each())?;
        }
        other => bail!("1 or 5 at once, not {other}"),
    }
    let (wall, cpu) = (begun.elapsed(), cpu()? - cpu_before);
    let count = f64::from(count / at_once * at_once);
    println!(
        "{}",
        json!({
            "connects": count,
            "wall_us": wall.as_secs_f64() * 1e6 / count,
            "cpu_us": cpu.as_secs_f64() * 1e6 / count,
        })
    );
    Ok(())
}

async fn once(ctx: &ProbeCtx, target: &PgTarget) -> Result<()> {
    let lease = ctx.lease(&resource::DATABASE_CONNECTION).await?;
    let mut connection = pg::connect(ctx, lease, target).await.result?;
    let rows = connection.query(PING, &[]).await?;
    let closed = connection.close().await;
    match closed.fault {
        None if rows.len() == 1 => Ok(()),
        other => bail!("{} rows, closed with {other:?}", rows.len()),
    }
}
