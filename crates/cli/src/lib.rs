//! The shakedown command line.
//!
//! Only this crate prints, reads the process environment and chooses exit codes. Another team's
//! binary links its own probe crates and calls [`main`]:
//!
//! ```no_run
//! # mod acme_probes {}
//! // use acme_probes as _;
//! fn main() -> std::process::ExitCode {
//!     shakedown::main()
//! }
//! ```

mod args;
mod commands;
mod environment;
mod exit;
mod linked;
mod output;
mod progress;
mod strategy;

use std::process::ExitCode;

use clap::Parser as _;

/// Runs the command line of this process and says how it ended.
///
/// Exit codes are documented in `docs/guide/exit-codes.md`.
pub fn main() -> ExitCode {
    // A probe's panic becomes its result; what else panics is told with the error it causes. Nothing
    // else may reach standard error, where somebody may be parsing.
    std::panic::set_hook(Box::new(|_| {}));
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are answers, not errors; both go where they belong.
            let code = if error.use_stderr() { exit::USAGE } else { exit::PASSED };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let code = match std::panic::catch_unwind(|| commands::dispatch(args)) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => exit::report(&error),
        Err(panic) => exit::report(&exit::panicked(panic.as_ref())),
    };
    ExitCode::from(code)
}
