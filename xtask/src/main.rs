//! Developer tasks of shakedown: `cargo xtask --help`.
//!
//! One command, one file. No probe crate is linked here: the tasks build the `shakedown` binary and
//! execute it, as a user would.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what tasks do")]

mod bench;
mod codegen;
mod connector_truth;
mod fastapi;
mod kill_test;
mod matrix;
mod new_probe;
mod processes;
mod run_suite;
mod shell;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", about = "Developer tasks of shakedown", max_term_width = 100)]
enum Task {
    RunSuite(run_suite::RunSuite),
    Matrix(matrix::Matrix),
    Fastapi(fastapi::Fastapi),
    ConnectorTruth(connector_truth::ConnectorTruth),
    Codegen(codegen::Codegen),
    Tidy(tidy::Tidy),
    NewProbe(new_probe::NewProbe),
    KillTest(kill_test::KillTest),
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    let outcome = match Task::parse() {
        Task::RunSuite(task) => task.run(),
        Task::Matrix(task) => task.run(),
        Task::Fastapi(task) => task.run(),
        Task::ConnectorTruth(task) => task.run(),
        Task::Codegen(task) => done(task.run()),
        Task::Tidy(task) => done(task.run()),
        Task::NewProbe(task) => done(task.run()),
        Task::KillTest(task) => done(task.run()),
        Task::Bench(task) => done(task.run()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn done(outcome: Result<()>) -> Result<ExitCode> {
    outcome.map(|()| ExitCode::SUCCESS)
}
