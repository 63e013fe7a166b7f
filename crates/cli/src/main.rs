//! The `shakedown` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    shakedown::main()
}
