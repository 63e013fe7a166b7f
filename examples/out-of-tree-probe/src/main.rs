//! shakedown with Acme's probes.

use std::process::ExitCode;

// Without this line the linker drops the crate, and with it everything it registers.
use acme_probes as _;

fn main() -> ExitCode {
    shakedown::main()
}
