//! The command line, as clap sees it.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Takes a cloud staging environment through its paces and says what broke.
#[derive(Debug, Parser)]
#[command(
    name = "shakedown",
    version,
    max_term_width = 100,
    after_help = "\
Start here:
  shakedown run --env lab            a local staging, started and gone again
  shakedown plan --env staging       what a run against staging would do; touches no network
  shakedown doctor --env staging     what is missing on this machine, and how to get it

Exit codes: 0 passed, 2 usage, 10 findings, 11 no verdict, 12 gate refused, 13 stopped by a guard;
all of them: docs/guide/exit-codes.md"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the probes, monitors and safety checks this binary holds
    List(ListArgs),
    /// Show what a run would do, without touching any network
    Plan(RunArgs),
    /// Check this machine and the environment's requirements, and say what to fix
    Doctor(DoctorArgs),
    /// Run probes against an environment
    Run(RunArgs),
    /// Say what broke, from saved log exports and container output
    Analyze(AnalyzeArgs),
    /// Known failures to reproduce, as data
    Signature(SignatureArgs),
    /// The local staging: start one, look at it, list its faults
    #[cfg(feature = "lab")]
    Lab(LabArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    /// Write the generated documentation
    #[command(hide = true)]
    Codegen {
        /// The repository's root
        root: PathBuf,
    },
    #[cfg(feature = "lab")]
    #[command(hide = true)]
    LabServe,
    #[cfg(feature = "lab")]
    #[command(hide = true)]
    LabSupervise,
    #[cfg(feature = "lab")]
    #[command(hide = true)]
    LabBackend,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ListArgs {
    /// One JSON document with everything known about each
    #[arg(long)]
    pub(crate) json: bool,
    /// The strategy's test names that have no probe, with the reason
    #[arg(long)]
    pub(crate) unmapped: bool,
}

/// Which environment.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct EnvironmentArgs {
    /// The environment: a name (lab, staging, a file in ./environments) or a path to a TOML file
    #[arg(
        long,
        value_name = "NAME|PATH",
        env = "ENVIRONMENT",
        default_value = "lab",
        hide_env_values = true
    )]
    pub(crate) env: String,
    /// Override one key of the environment, for example --set database.port=6432; never a secret
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Attach to a lab that is running, by its folder, instead of starting one
    #[arg(long, value_name = "DIR")]
    pub(crate) lab_dir: Option<PathBuf>,
    /// The lab's time scale: durations are divided by it (1 to 20)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) time_scale: Option<u32>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Reads Cloud Logging exports (JSON, JSON lines, the dictionaries operators save), gcloud tables,
container output, JUnit XML; plain, gzip or zstd; files, folders, or - for standard input.

Exit code 0 whenever the input could be read, 2 when it could not.")]
pub(crate) struct AnalyzeArgs {
    /// Exports, folders of them, or - for standard input
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// One JSON document, schema shakedown.diagnosis/1
    #[arg(long)]
    pub(crate) json: bool,
    /// The whole reasoning about one cause or symptom
    #[arg(long, value_name = "CAUSE", conflicts_with = "json")]
    pub(crate) explain: Option<String>,
    /// The strategy's own failure_categories, with what it has no name for
    #[arg(long, conflicts_with_all = ["json", "explain"])]
    pub(crate) strategy_report: bool,
    /// End with exit code 10 when a service is in this state or worse
    #[arg(long, value_enum)]
    pub(crate) fail_on: Option<FailOn>,
    /// The service of entries that name none
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// The most that is read of each input, after decompression
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_bytes: Option<u64>,
    #[command(flatten)]
    pub(crate) environment: EnvironmentArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// It does not do what it is for
    Failing,
    /// It does some of it, or did not for a while
    Degraded,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) environment: EnvironmentArgs,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  shakedown run --env lab --scenario connector-drops
  shakedown run --env staging --execution-mode fast_feedback --test-pattern '*issue_1278*'
  shakedown run --env staging --phase 2 --output-format json > run.json 2>&1
  shakedown run --env staging 'cloudsql.*' -v

A selector or pattern matches probe ids, the strategy's pytest node ids, and markers.
Several kinds of selection narrow each other down; several values of one kind widen it.")]
pub(crate) struct RunArgs {
    /// Probe ids, globs, pytest node ids, or path prefixes of node ids
    #[arg(value_name = "SELECTOR")]
    pub(crate) selectors: Vec<String>,
    #[command(flatten)]
    pub(crate) environment: EnvironmentArgs,

    /// How long the run may take: 10, 90 or 75 minutes; fast_feedback leaves out slow probes
    #[arg(long, value_enum, help_heading = "Selection")]
    pub(crate) execution_mode: Option<ExecutionMode>,
    /// Only probes whose id, node id or marker matches the glob; without * or ? a substring
    #[arg(short = 'k', long = "test-pattern", value_name = "GLOB", help_heading = "Selection")]
    pub(crate) test_pattern: Vec<String>,
    /// Only probes of these categories
    #[arg(long, value_enum, num_args = 1.., help_heading = "Selection")]
    pub(crate) categories: Vec<CategoryArg>,
    /// Only probes with one of these markers
    #[arg(short = 'm', long, value_name = "MARKER", num_args = 1, help_heading = "Selection")]
    pub(crate) markers: Vec<String>,
    /// Only this run phase (1 to 4), or one step of the strategy's (for example 3.2)
    #[arg(long, value_name = "N[.STEP]", help_heading = "Selection")]
    pub(crate) phase: Vec<String>,
    /// Run every selected probe this often
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Selection")]
    pub(crate) repeat: u32,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t = OutputFormat::Human, help_heading = "Output")]
    pub(crate) output_format: OutputFormat,
    /// More detail; the same as --output-format detailed
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,
    /// Accepted for the strategy's sake: the monitors' samples are always written beside the results
    #[arg(long, help_heading = "Output")]
    pub(crate) collect_metrics: bool,
    /// Add what an outage costs the business, from measured availability
    #[arg(long, help_heading = "Output")]
    pub(crate) business_impact_analysis: bool,
    /// Where the session's folder is made, instead of the environment's results.dir
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub(crate) results_dir: Option<PathBuf>,
    /// A degraded probe is a finding: exit code 10
    #[arg(long, help_heading = "Output")]
    pub(crate) strict: bool,

    /// Say whether a known failure is here, by its signature: a name (`shakedown signature list`) or a
    /// TOML file
    #[arg(long, value_name = "NAME|PATH", help_heading = "Reproduction")]
    pub(crate) reproduce: Option<String>,
    /// What proves the point: that the failure is here, or that it is gone
    #[arg(long, value_enum, default_value_t = Expect::Present, requires = "reproduce", help_heading = "Reproduction")]
    pub(crate) expect: Expect,

    /// Keep the monitors running through the gaps between phases
    #[arg(long, help_heading = "Safety")]
    pub(crate) infrastructure_monitoring: bool,
    /// Do not start unless the target is found healthy, as the strategy's fixture does
    #[arg(long, help_heading = "Safety")]
    pub(crate) require_healthy: bool,
    /// Run the command of [application] outside a lab, by its service's name
    #[arg(long, value_name = "NAME", help_heading = "Safety")]
    pub(crate) allow_process: Vec<String>,
    /// Let it run with a database role that can write
    #[arg(long, help_heading = "Safety")]
    pub(crate) allow_app_writes: bool,

    /// Send no message to the application: the golden path ends once a session stands
    #[arg(long, help_heading = "Safety")]
    pub(crate) no_real_llm: bool,

    /// The lab's scenario; `shakedown lab scenarios` lists them
    #[arg(long, value_name = "NAME|PATH", help_heading = "Lab")]
    pub(crate) scenario: Option<String>,
    /// Where PostgreSQL's server binaries are
    #[arg(long, value_name = "DIR", help_heading = "Lab")]
    pub(crate) pg_bin: Option<PathBuf>,

    /// Accepted for the strategy's sake: nothing here uses docker
    #[arg(long, help_heading = "Compatibility")]
    pub(crate) no_docker: bool,
    /// Accepted for the strategy's sake: probes always use real services
    #[arg(long, help_heading = "Compatibility")]
    pub(crate) real_services: bool,
    /// Accepted for the strategy's sake: there are no tracebacks here
    #[arg(long, value_name = "STYLE", help_heading = "Compatibility")]
    pub(crate) tb: Option<String>,
}

/// What a run with `--reproduce` is to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Expect {
    /// Exit code 0 when every decisive feature was seen
    Present,
    /// Exit code 0 when every decisive feature was tested and none was seen
    Absent,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
A signature is a TOML file: docs/guide/signatures.md. Examples:
  shakedown run --env staging --reproduce issue-1278
  shakedown run --env staging --reproduce issue-1278 --expect absent     proves a fix
  shakedown signature new --from results/issue_1278_20260915_214900 --id my-failure")]
pub(crate) struct SignatureArgs {
    #[command(subcommand)]
    pub(crate) command: SignatureCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SignatureCommand {
    /// List the signatures known here
    List,
    /// Print one
    Show {
        /// A name or a file
        #[arg(value_name = "NAME|PATH")]
        signature: String,
    },
    /// Write the signature of the failure a run saw to standard output
    New {
        /// The run's results folder
        #[arg(long, value_name = "RUN_DIR")]
        from: PathBuf,
        /// Its id, which is also its file's name; default: made of the run's session
        #[arg(long)]
        id: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum ExecutionMode {
    /// At most 10 minutes, without slow probes
    FastFeedback,
    /// At most 90 minutes
    Full,
    /// At most 75 minutes
    #[value(name = "staging_e2e")]
    StagingE2e,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CategoryArg {
    /// Touches no network
    Unit,
    /// Touches one part of the target
    Integration,
    /// Touches the whole path
    E2e,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// What broke, in ten seconds
    Human,
    /// Every measurement, sample and step
    Detailed,
    /// One JSON document
    Json,
    /// JUnit XML
    Junit,
}

#[cfg(feature = "lab")]
#[derive(Debug, ClapArgs)]
pub(crate) struct LabArgs {
    #[command(subcommand)]
    pub(crate) command: LabCommand,
}

#[cfg(feature = "lab")]
#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Start a lab and keep it until Ctrl-C
    Up(LabUpArgs),
    /// Say which labs are running
    Status {
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// List the scenarios: what is broken in each, and what should be blamed
    Scenarios {
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
}

#[cfg(feature = "lab")]
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct LabUpArgs {
    /// The scenario to play
    #[arg(long, value_name = "NAME|PATH", default_value = "healthy")]
    pub(crate) scenario: String,
    /// What is drawn at random is drawn from this, instead of the scenario's own seed
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Durations are divided by this (1 to 20)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) time_scale: u32,
    /// A program to be the backend, instead of the lab's own: it gets the same variables
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) backend: Option<PathBuf>,
    /// Where PostgreSQL's server binaries are
    #[arg(long, value_name = "DIR")]
    pub(crate) pg_bin: Option<PathBuf>,
}
