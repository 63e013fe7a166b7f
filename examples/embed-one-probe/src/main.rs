//! One probe of shakedown inside another program: `embed-one-probe ENVIRONMENT.toml`.

use std::error::Error;
use std::fs;

use shakedown_core::environment::{Layer, Owners, Source, load};
use shakedown_core::{Probe, ProbeCtx, ProbeSpec};
use shakedown_probes_cloudsql::probes::connect_timing::{ConnectTiming, ConnectTimingConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: embed-one-probe ENVIRONMENT.toml")?;
    let layer = Layer { text: fs::read_to_string(&path)?, origin: path };
    let loaded = load(&Source { layers: vec![layer], ..Source::default() }, &Owners::default())?;

    let mut credentials = loaded.secrets;
    for (name, reference) in &loaded.environment.credentials {
        if let Some(file) = &reference.file {
            credentials.insert(name, fs::read_to_string(file)?.trim_end().into());
        }
    }

    let ctx = ProbeCtx::builder(loaded.environment).credentials(credentials).build();
    let config = ConnectTimingConfig { attempts: 3, ..Default::default() };
    let outcome = ConnectTiming::from_config(config).run(&ctx).await?;

    println!("{}", outcome.verdict.as_str());
    for number in &outcome.measurements {
        println!("  {} {:.1} {}", number.name, number.value, number.unit);
    }
    for finding in &outcome.findings {
        println!("  {}", finding.summary);
    }
    Ok(())
}
