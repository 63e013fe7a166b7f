//! One file per command.

mod analyze;
mod codegen;
mod doctor;
#[cfg(feature = "lab")]
mod lab;
mod list;
mod plan;
mod run;
mod signature;

#[cfg(test)]
pub(crate) use run::selected_by;

use anyhow::Result;
use clap::CommandFactory as _;
use shakedown_core::Registry;

use crate::args::{Args, Command};
use crate::exit;
use crate::output;

/// Runs one command and gives its exit code.
pub(crate) fn dispatch(args: Args) -> Result<u8> {
    match args.command {
        Command::List(args) => list::list(&args, &registry()?),
        Command::Plan(args) => plan::plan(&args.completed(), &registry()?),
        Command::Doctor(args) => doctor::doctor(&args, &registry()?),
        Command::Analyze(args) => analyze::analyze(&args, &registry()?),
        Command::Signature(args) => signature::signature(&args.command),
        Command::Run(args) => run::run(args.completed(), &registry()?),
        #[cfg(feature = "lab")]
        Command::Lab(args) => lab::lab(&args.command, &registry()?),
        #[cfg(feature = "lab")]
        Command::LabServe => lab::serve(),
        #[cfg(feature = "lab")]
        Command::LabSupervise => lab::supervise(),
        #[cfg(feature = "lab")]
        Command::LabBackend => lab::backend(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "shakedown", &mut script);
            output::out(&String::from_utf8(script)?);
            Ok(exit::PASSED)
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Args::command()).render(&mut page)?;
            output::out(&String::from_utf8(page)?);
            Ok(exit::PASSED)
        }
        Command::Codegen { root } => codegen::codegen(&root, &registry()?),
    }
}

fn registry() -> Result<Registry> {
    Ok(Registry::linked()?)
}
