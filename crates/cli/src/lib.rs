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
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are answers, not errors; both go where they belong.
            let code = if error.use_stderr() { exit::USAGE } else { exit::PASSED };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match commands::dispatch(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => ExitCode::from(exit::report(&error)),
    }
}
