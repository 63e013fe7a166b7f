//! A process of ours as the source of start-ups: shell scripts that fail, stay, and log in through
//! the relay.

use std::sync::{Arc, Mutex};

use secrecy::ExposeSecret as _;
use shakedown_core::context::Note;
use shakedown_core::environment::Consent;
use shakedown_core::evidence::Body;
use shakedown_core::{Outcome, ProbeCtx, ProbeError, ProbeSpec, Verdict};
use shakedown_probes_smd::probes::{
    CleanupAfterFailure, ExitCode, Lifespan, Phase3Timeout, PhaseDependencies, SequenceUnderLoad,
};
use shakedown_testkit::postgres::{PgServer, TestDatabase};
use tokio_util::sync::CancellationToken;

/// What every script may say.
const SAYS: &str = r#"
enter() { echo "PHASE TRANSITION -> $1"; }
done_() { echo "PHASE COMPLETED: $1 (0.010s)"; }
"#;

fn application(script: &str, more: &str) -> String {
    let script = format!("{SAYS}{script}").replace('{', "{{").replace('}', "}}");
    // The places a test wants filled.
    let script =
        script.replace("{{socket_dir}}", "{socket_dir}").replace("{{temp_dir}}", "{temp_dir}");
    format!(
        "[application]\ncommand = [\"/bin/sh\", \"-c\", '''{script}''']\nhealth_paths = []\n{more}\n"
    )
}

fn environment(text: &str) -> shakedown_core::Environment {
    // Durations are tests' own: a tenth of what they are on a staging.
    shakedown_testkit::environment(&format!("[lab]\ntime_scale = 10\n{text}"))
}

fn ctx(text: &str) -> ProbeCtx {
    ProbeCtx::builder(environment(text)).build()
}

async fn ask<P: ProbeSpec>(ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
    P::from_config(P::Config::default()).run(ctx).await
}

async fn outcome<P: ProbeSpec>(ctx: &ProbeCtx) -> Outcome {
    ask::<P>(ctx).await.expect("a verdict")
}

#[track_caller]
fn says(outcome: &Outcome, verdict: &str, words: &str) {
    let text = format!("{outcome:?}");
    assert_eq!(outcome.verdict.as_str(), verdict, "{text}");
    assert!(text.contains(words), "`{words}` is not in {text}");
}

const FAILS: &str = "enter INIT; done_ INIT; enter DATABASE; echo 'PHASE FAILED: DATABASE - timeout after 0.1s'; echo 'Application startup failed. Exiting.' >&2; exit 3";

#[tokio::test]
async fn a_failure_is_seen_from_the_phase_to_the_exit_by_every_probe_of_one_run() {
    let seen: Arc<Mutex<Vec<Body>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let ctx = ProbeCtx::builder(environment(&application(FAILS, "")))
        .listener(move |note| {
            if let Note::Observed(observation) = note {
                kept.lock().expect("no panic").push(observation.body);
            }
        })
        .build();
    let code = outcome::<ExitCode>(&ctx).await;
    says(&code, "fail", "exit code 3, according to the process itself");
    says(&outcome::<Phase3Timeout>(&ctx).await, "fail", "DATABASE failed");
    says(&outcome::<Lifespan>(&ctx).await, "pass", "was passed on");
    says(&outcome::<PhaseDependencies>(&ctx).await, "pass", "INIT, DATABASE; DATABASE failed");
    says(&outcome::<CleanupAfterFailure>(&ctx).await, "pass", "after it had exited by itself");
    says(&outcome::<SequenceUnderLoad>(&ctx).await, "skip", "failed without any load already");
    let seen = seen.lock().expect("no panic");
    let exits =
        seen.iter().filter(|body| matches!(body, Body::Startup(event) if event.event == "exited"));
    assert_eq!(exits.count(), 1, "run once and told once: {seen:?}");
    assert!(seen.iter().any(
        |body| matches!(body, Body::LogEntry(line) if line.message.contains("timeout after"))
    ));
    assert!(ctx.cleanup().pending().is_empty(), "nothing is left to undo");
}

#[tokio::test]
async fn what_outlives_the_application_is_named_and_then_ended() {
    let script =
        "sleep 600 & touch {temp_dir}/lock; enter INIT; echo 'PHASE FAILED: INIT - no'; exit 1";
    let ctx = ctx(&application(script, ""));
    let left = outcome::<CleanupAfterFailure>(&ctx).await;
    says(&left, "fail", "1 processes of its group stayed");
    says(&left, "fail", "tmp/lock");
}

#[tokio::test]
async fn an_application_that_starts_is_ended_with_its_children() {
    let script = "enter INIT; done_ INIT; sleep 600 & echo 'Application startup complete.'; wait";
    let ctx = ctx(&application(script, ""));
    says(&outcome::<PhaseDependencies>(&ctx).await, "pass", "went through INIT");
    says(&outcome::<ExitCode>(&ctx).await, "skip", "no start-up failed");
    says(&outcome::<CleanupAfterFailure>(&ctx).await, "pass", "it had started well");
}

#[tokio::test]
async fn a_failure_that_stays_is_swallowed_and_one_that_never_ends_meets_the_ceiling() {
    let stays = "enter DATABASE; echo 'PHASE FAILED: DATABASE - no'; sleep 600";
    says(&outcome::<Lifespan>(&ctx(&application(stays, ""))).await, "fail", "the process stayed");
    let hangs = ctx(&application("enter DATABASE; sleep 600", "startup_ceiling = \"5s\""));
    says(&outcome::<Phase3Timeout>(&hangs).await, "fail", "had not ended when");
}

#[tokio::test]
async fn a_cancelled_probe_leaves_no_process() {
    let dir = tempfile::tempdir().expect("a folder");
    let pid = dir.path().join("pid");
    let script = format!("enter INIT; echo $$ > {}; sleep 600", pid.display());
    let cancel = CancellationToken::new();
    let environment = environment(&application(&script, ""));
    let ctx = ProbeCtx::builder(environment).cancel(cancel.clone()).build();
    let probe = ask::<ExitCode>(&ctx);
    let stop = async {
        while std::fs::read_to_string(&pid).map_or(true, |text| !text.ends_with('\n')) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(probe, stop);
    assert!(matches!(ended, Err(ProbeError::Interrupted(_))), "{ended:?}");
    let records = ctx.cleanup().run().await;
    assert!(records.len() == 1 && records[0].failed.is_none(), "{records:?}");
    let id = std::fs::read_to_string(&pid).expect("written");
    assert!(!std::path::Path::new(&format!("/proc/{}/fd/0", id.trim())).exists(), "it still runs");
}

#[tokio::test]
async fn a_command_that_is_not_there_is_a_configuration_error() {
    let ctx = ctx("[application]\ncommand = [\"/no/such/program\"]\n");
    let error = ask::<ExitCode>(&ctx).await.expect_err("nothing to run");
    assert!(error.to_string().contains("application.command"), "{error}");
}

/// A real client of libpq.
const PSQL: &str = "psql -X -q -A -t -d \"$PGDATABASE\" -c";

fn with_database(database: &TestDatabase, script: &str, more: &str) -> String {
    let server = PgServer::shared();
    let environment = r#"environment = { PATH = "/usr/local/bin:/usr/bin:/bin", PGHOST = "{socket_dir}", PGDATABASE = "{database}", PGUSER = "{user}", PGPASSWORD = "{password}" }"#;
    format!(
        "[database]\nhost = {:?}\nport = {}\nname = {:?}\nuser = {:?}\n{}",
        server.socket_folder(),
        server.port(),
        database.name,
        database.role,
        application(script, &format!("{more}\n{environment}")),
    )
}

fn ctx_with(database: &TestDatabase, text: &str, consent: Consent) -> ProbeCtx {
    let mut environment = shakedown_testkit::environment(text);
    environment.consent = consent;
    let secret = database.password.expose_secret();
    let credentials = shakedown_testkit::credentials(&[("database", secret)]);
    ProbeCtx::builder(environment).credentials(credentials).build()
}

fn queries() -> String {
    format!(
        "enter INIT; done_ INIT; enter DATABASE; {PSQL} 'select 41 + 1' || exit 3; done_ DATABASE; \
         echo 'Application startup complete.'; sleep 600"
    )
}

#[tokio::test]
async fn the_application_reaches_the_database_through_our_socket_and_leaves_no_session() {
    let database = PgServer::shared().database(true).await;
    let text = with_database(&database, &queries(), "draws = 2");
    let ctx = ctx_with(&database, &text, Consent::default());
    let load = outcome::<SequenceUnderLoad>(&ctx).await;
    says(&load, "pass", "completed under load");
    let asked = load.measurements.iter().find(|m| m.name == "load_queries").expect("counted");
    assert!(asked.value > 0.0, "{load:?}");
    let left = outcome::<CleanupAfterFailure>(&ctx).await;
    says(&left, "pass", "nothing of it was left");
    let had = left.measurements.iter().find(|m| m.name == "database_sessions_it_had");
    assert_eq!(had.expect("counted").value, 1.0);
}

#[tokio::test]
async fn when_the_limit_is_ours_the_result_says_so() {
    let database = PgServer::shared().database(false).await;
    let script = format!(
        "enter DATABASE; {PSQL} 'select pg_sleep(600)' & sleep 1; {PSQL} 'select 1' || \
         {{ echo 'PHASE FAILED: DATABASE - pool'; exit 3; }}"
    );
    let text = with_database(&database, &script, "draws = 1\npatience = \"100ms\"");
    let ctx = ctx_with(&database, &text, Consent::default());
    let outcome = outcome::<Phase3Timeout>(&ctx).await;
    says(&outcome, "skip", "the limit was ours");
    assert!(matches!(outcome.verdict, Verdict::Skip { .. }));
}

#[tokio::test]
async fn outside_a_lab_somebody_must_have_named_it_and_its_role_must_not_write() {
    let server = PgServer::shared();
    let database = server.database(false).await;
    let text = with_database(&database, &queries(), "draws = 2");
    let text = format!("[environment]\ntier = \"staging\"\n{text}");
    let ask = async |consent: Consent| {
        outcome::<PhaseDependencies>(&ctx_with(&database, &text, consent)).await
    };
    says(&ask(Consent::default()).await, "skip", "--allow-process backend");
    let named = Consent { processes: ["backend".to_owned()].into(), application_writes: false };
    says(&ask(named.clone()).await, "pass", "went through INIT, DATABASE");
    let admin = server.admin(&database.name).await;
    let grant = format!("grant create on schema public to {}", database.role);
    admin.batch_execute(&grant).await.expect("granted");
    says(&ask(named.clone()).await, "skip", "can write");
    says(&ask(Consent { application_writes: true, ..named.clone() }).await, "pass", "DATABASE");
    let greedy = text.replace("draws = 2", "draws = 20");
    let outcome = outcome::<PhaseDependencies>(&ctx_with(&database, &greedy, named)).await;
    says(&outcome, "skip", "--set safety.database_connections");
}
