//! HTTP probes: resolve, connect, TLS with the certificate verified and read, status, body.

use anyhow::{Result, ensure};
use serde_json::json;
use shakedown_core::context::unlimited_budget;
use shakedown_core::environment::{Owners, Source, load};
use shakedown_core::id::resource;
use shakedown_core::{ProbeCtx, clock};
use shakedown_wire::http;

use crate::{cpu, runtime};

pub(crate) fn run(url: &str, ca: &str, count: u32) -> Result<()> {
    let source = Source { overrides: vec![format!("tls.ca_file={ca}")], ..Source::default() };
    let environment = load(&source, &Owners::default())?.environment;
    let ctx = ProbeCtx::builder(environment).budget(unlimited_budget()).build();
    runtime()?.block_on(async {
        // The first one reads the roots, which a run does once.
        once(&ctx, url).await?;
        let (cpu_before, begun) = (cpu()?, clock::now());
        for _ in 0..count {
            once(&ctx, url).await?;
        }
        let (wall, cpu) = (begun.elapsed(), cpu()? - cpu_before);
        let count = f64::from(count);
        println!(
            "{}",
            json!({
                "probes": count,
                "wall_us": wall.as_secs_f64() * 1e6 / count,
                "cpu_us": cpu.as_secs_f64() * 1e6 / count,
            })
        );
        Ok(())
    })
}

async fn once(ctx: &ProbeCtx, url: &str) -> Result<()> {
    let lease = ctx.lease(&resource::HTTP_CONNECTION).await?;
    let response = http::get(ctx, lease, url, &[]).await.result?;
    ensure!(response.status == 200, "status {}", response.status);
    ensure!(url.starts_with("https:") == response.certificate.is_some(), "no certificate was read");
    Ok(())
}
