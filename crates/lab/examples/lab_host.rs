//! The lab's entry points as a program, for the crate's own tests and for trying things out:
//!
//! ```text
//! cargo run -p shakedown-lab --example lab_host -- up [SCENARIO [TIME_SCALE]]   until Ctrl-C
//! lab_host lab-supervise | lab-serve | lab-backend                              as the CLI has them
//! lab_host status | sweep
//! ```

#![allow(
    clippy::disallowed_methods,
    reason = "a program chooses its exit code and reads its environment"
)]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use shakedown_lab::{LabOptions, Scenario, ServerPrograms, TimeScale, Until};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| {
        let outcome = runtime.block_on(run(&arguments));
        // The thread that reads standard input cannot be stopped.
        runtime.shutdown_background();
        outcome
    });
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    let mut next: Option<&dyn Error> = Some(error.as_ref());
    while let Some(error) = next {
        eprintln_line(&error.to_string());
        next = error.source();
    }
    ExitCode::FAILURE
}

fn eprintln_line(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

async fn run(arguments: &[&str]) -> Result<(), Box<dyn Error>> {
    use std::io::Write;
    let exe = std::env::current_exe()?;
    let mut out = std::io::stdout();
    match arguments {
        ["lab-backend"] => {
            let code = shakedown_lab::backend(std::env::vars(), std::io::stdout()).await;
            std::process::exit(code.into());
        }
        ["lab-supervise"] => shakedown_lab::supervise().await?,
        ["lab-serve"] => shakedown_lab::serve_request(exe, vec!["lab-supervise".into()], &mut out).await?,
        ["status"] => writeln!(out, "{}", serde_json::to_string_pretty(&shakedown_lab::status(Path::new("/tmp")))?)?,
        ["sweep"] => writeln!(out, "{:?}", shakedown_lab::sweep(Path::new("/tmp")).await)?,
        ["up", rest @ ..] => {
            let search_path = std::env::var_os("PATH");
            let mut options = LabOptions::new(exe, ServerPrograms::find(None, search_path.as_deref())?);
            if let [scenario, ..] = rest {
                options.scenario = Scenario::find(scenario)?;
            }
            if let [_, scale] = rest {
                options.time_scale = TimeScale::new(scale.parse()?)?;
            }
            shakedown_lab::serve(&options, Until::Signal, &mut out).await?;
        }
        _ => return Err("usage: lab_host up [SCENARIO [TIME_SCALE]] | status | sweep | lab-supervise | lab-serve | lab-backend".into()),
    }
    Ok(())
}
