//! The probes against labs whose truth is known.

use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use secrecy::{ExposeSecret, SecretString};
use shakedown_core::cleanup::CleanupLedger;
use shakedown_core::context::{Note, Shared};
use shakedown_core::environment::{Layer, Source, load};
use shakedown_core::evidence::{Body, Observation};
use shakedown_core::{Credentials, Environment, Outcome, ProbeCtx, Registry, Verdict, clock};
use shakedown_lab::{Lab, LabOptions, Scenario, ServerPrograms, TimeScale};
use shakedown_probes_goldenpath as _;
use shakedown_wire::http::{self, Request};
use tempfile::TempDir;

/// Not a test: what the labs here run between themselves and their server.
#[test]
#[ignore = "started by the labs of this file, with their orders on standard input"]
fn supervisor() {
    if std::io::stdin().is_terminal() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Without a lab on the other end there is nothing to supervise, which is no failure.
    let _ = runtime.block_on(shakedown_lab::supervise());
    runtime.shutdown_background();
}

/// Not a test: the application of the labs here.
#[test]
#[ignore = "started by the labs of this file, with its configuration in the environment"]
#[expect(clippy::disallowed_methods, reason = "it stands for a program")]
fn backend() {
    if std::env::var_os("K_SERVICE").is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let code = runtime.block_on(shakedown_lab::backend(std::env::vars(), std::io::stdout()));
    std::process::exit(code.into());
}

/// A running lab, and one run against it.
struct Staging {
    lab: Lab,
    environment: Arc<Environment>,
    credentials: Credentials,
    shared: Shared,
    cleanup: CleanupLedger,
    observed: Arc<Mutex<Vec<Observation>>>,
    _tmp: TempDir,
}

/// A lab with these faults, and an environment with these tables beside the lab's own.
async fn staging(faults: &str, tables: &str) -> Staging {
    let text = format!("name = \"test\"\nsummary = \"a test's own\"\n{faults}");
    let scenario: Scenario = toml::from_str(&text).unwrap();
    let tmp = tempfile::Builder::new().prefix("g").rand_bytes(5).tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(tmp.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let programs = ServerPrograms::find(None, std::env::var_os("PATH").as_deref()).unwrap();
    let entry = |name: &str| ["--ignored", "--exact", name, "--nocapture"].map(Into::into).to_vec();
    let options = LabOptions {
        tmp: tmp.path().into(),
        scenario,
        time_scale: TimeScale::new(10).unwrap(),
        supervise_args: entry("supervisor"),
        backend_args: entry("backend"),
        application: true,
        ..LabOptions::new(std::env::current_exe().unwrap(), programs)
    };
    let lab = Lab::start(&options).await.unwrap();
    let texts = [std::fs::read_to_string(lab.overlay()).unwrap(), tables.to_owned()];
    let layers = texts.map(|text| Layer { origin: "test".into(), text }).to_vec();
    let source = Source { layers, ..Source::default() };
    let environment = load(&source, &Registry::linked().unwrap().owners()).unwrap().environment;
    let mut credentials = Credentials::default();
    for (name, reference) in &environment.credentials {
        let text = std::fs::read_to_string(reference.file.as_ref().unwrap()).unwrap();
        credentials.insert(name, SecretString::from(text));
    }
    Staging {
        lab,
        environment: Arc::new(environment),
        credentials,
        shared: Shared::default(),
        cleanup: CleanupLedger::default(),
        observed: Arc::default(),
        _tmp: tmp,
    }
}

impl Staging {
    async fn ctx(&self, draws: &[shakedown_core::Draw]) -> ProbeCtx {
        let budget = self.environment.safety.budget();
        let allotment = budget.reserve(draws).await.unwrap();
        let observed = Arc::clone(&self.observed);
        ProbeCtx::builder(Arc::clone(&self.environment))
            .credentials(self.credentials.clone())
            .budget(budget)
            .allotment(allotment)
            .shared(self.shared.clone())
            .cleanup(self.cleanup.clone())
            .session("s-1")
            .listener(move |note| {
                if let Note::Observed(observation) = note {
                    observed.lock().unwrap().push(*observation);
                }
            })
            .build()
    }

    /// Runs the probe with its whole draw set aside.
    async fn run(&self, id: &str) -> Outcome {
        let registry = Registry::linked().unwrap();
        let entry = registry.probe(id).unwrap();
        let probe = (entry.build)(&self.environment).unwrap();
        let outcome = probe.run(&self.ctx(entry.meta.draws).await).await;
        outcome.unwrap_or_else(|error| panic!("{id}: {error}"))
    }

    /// The test user's tokens, asked for past the probes.
    async fn tokens(&self) -> serde_json::Value {
        let secret = |name| self.credentials.get(name).unwrap().expose_secret();
        let body = serde_json::json!({ "email": secret("user"), "password": secret("password") });
        let http = shakedown_core::id::resource::HTTP_CONNECTION;
        let ctx = self.ctx(&[shakedown_core::Draw::new(http.clone(), 1)]).await;
        let url = "https://auth.lab.shakedown.test/auth/login";
        let request = Request::post(url, "application/json", body.to_string());
        let climb = http::send(&ctx, ctx.lease(&http).await.unwrap(), &request).await;
        serde_json::from_slice(&climb.result.unwrap().body).unwrap()
    }
}

fn measured(outcome: &Outcome, name: &str) -> Option<f64> {
    outcome.measurements.iter().find(|m| m.name == name).map(|m| m.value)
}

fn first(outcome: &Outcome) -> (Option<&str>, Option<String>, Option<&str>) {
    let finding = &outcome.findings[0];
    (
        finding.rung.as_deref(),
        finding.fault.as_ref().map(shakedown_core::Fault::code),
        finding.suggests.as_ref().map(shakedown_core::id::Cause::as_str),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_lab_passes_or_is_not_exercised() {
    let staging = staging("", "[business]\narr_usd = 500000\n").await;
    for id in Registry::linked().unwrap().probes().map(|probe| probe.meta.id) {
        let outcome = staging.run(id).await;
        match id {
            "goldenpath.recovery" => {
                let Verdict::Skip { reason } = &outcome.verdict else { panic!("{outcome:?}") };
                assert!(reason.to_string().starts_with("not exercised: "), "{reason}");
            }
            _ => assert_eq!(outcome.verdict, Verdict::Pass, "{id}: {outcome:?}"),
        }
        match id {
            "goldenpath.availability" => {
                assert_eq!(measured(&outcome, "availability"), Some(1.0));
                assert_eq!(measured(&outcome, "longest_outage"), Some(0.0));
            }
            "goldenpath.login-to-response" => {
                for name in ["login", "upgrade", "greeting"] {
                    assert!(measured(&outcome, name).is_some(), "{outcome:?}");
                }
                assert_eq!(measured(&outcome, "events"), Some(15.0));
                assert!(measured(&outcome, "first_event") <= measured(&outcome, "answer"));
            }
            "goldenpath.offline-impact" => {
                assert_eq!(measured(&outcome, "session_establishment"), Some(1.0));
                assert_eq!(measured(&outcome, "agent_success"), Some(1.0));
                assert_eq!(measured(&outcome, "agent_runs"), Some(1.0), "one message a run");
                assert_eq!(measured(&outcome, "availability"), Some(1.0));
                assert_eq!(measured(&outcome, "at_risk"), Some(0.0));
            }
            "goldenpath.websocket-close" => {
                assert_eq!(measured(&outcome, "as_expected"), Some(5.0), "{outcome:?}");
            }
            _ => {}
        }
    }
    let left = "one message of the test user, left on purpose in the thread shakedown-s-1";
    assert_eq!(staging.cleanup.pending(), [left]);
    let token = staging.tokens().await["access_token"].as_str().unwrap().to_owned();
    let said = format!("{:?}", staging.observed.lock().unwrap());
    let secrets = ["password", "service_secret"];
    let secrets = secrets.map(|name| staging.credentials.get(name).unwrap().expose_secret());
    assert!(!said.contains(&token[..20]) && secrets.iter().all(|secret| !said.contains(secret)));
    staging.lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_message_it_stops_once_the_session_stands() {
    let tables = "[goldenpath]\nsend_message = false\ntoken_in = \"subprotocol\"\n\
                  subprotocols = [\"agent_chat\"]\n";
    let staging = staging("", tables).await;
    let outcome = staging.run("goldenpath.login-to-response").await;
    assert_eq!(outcome.verdict, Verdict::Pass, "{outcome:?}");
    assert!(measured(&outcome, "greeting").is_some() && measured(&outcome, "events").is_none());
    assert!(staging.cleanup.pending().is_empty(), "nothing was left");
    let impact = staging.run("goldenpath.offline-impact").await;
    assert_eq!(measured(&impact, "agent_success"), None, "{impact:?}");
    staging.lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_access_token_is_renewed_and_no_credentials_skip() {
    let mut staging = staging("", "").await;
    let tokens = staging.tokens().await;
    let none = std::mem::take(&mut staging.credentials);
    let skipped = staging.run("goldenpath.login-to-response").await;
    let Verdict::Skip { reason } = &skipped.verdict else { panic!("{skipped:?}") };
    assert!(reason.to_string().starts_with("no credentials: set [credentials.user]"), "{reason}");
    drop(none);
    // Ended in 1970.
    let expired = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.AAAA";
    staging.credentials.insert("access_token", SecretString::from(expired.to_owned()));
    let refused = staging.run("goldenpath.login-to-response").await;
    assert_eq!(first(&refused), (Some("refresh"), Some("http:401".into()), Some("auth_failure")));
    let refresh = tokens["refresh_token"].as_str().unwrap().to_owned();
    staging.credentials.insert("refresh_token", SecretString::from(refresh));
    let renewed = staging.run("goldenpath.login-to-response").await;
    assert_eq!(renewed.verdict, Verdict::Pass, "{renewed:?}");
    assert!(measured(&renewed, "refresh").is_some(), "{renewed:?}");
    let again = staging.run("goldenpath.offline-impact").await;
    let sessions = measured(&again, "session_establishment");
    assert_eq!(sessions, Some(0.8), "all but the one that was refused: {again:?}");
    staging.lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_disagree_about_the_secret() {
    let staging = staging("[[fault]]\nkind = \"jwt-mismatch\"", "").await;
    let outcome = staging.run("goldenpath.login-to-response").await;
    let refused = (Some("upgrade"), Some("http:403".into()), Some("configuration_error"));
    assert_eq!((outcome.verdict.clone(), first(&outcome)), (Verdict::Fail, refused));
    assert!(measured(&outcome, "login").is_some(), "the login itself is fine: {outcome:?}");
    let impact = staging.run("goldenpath.offline-impact").await;
    assert_eq!(impact.verdict, Verdict::Fail);
    assert_eq!(measured(&impact, "session_establishment"), Some(0.0));
    let available = staging.run("goldenpath.availability").await;
    assert_eq!(available.verdict, Verdict::Pass, "health says nothing of it: {available:?}");
    let traffic = staging.observed.lock().unwrap().iter().any(
        |observation| matches!(&observation.body, Body::Traffic(traffic) if traffic.status == 403),
    );
    assert!(traffic, "the refusals are evidence");
    staging.lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_auth_service_that_is_down_is_told_at_the_login() {
    let staging = staging("[[fault]]\nkind = \"auth-down\"", "").await;
    let outcome = staging.run("goldenpath.login-to-response").await;
    let down = (Some("login"), Some("http:503".into()), Some("dependency_unavailable"));
    assert_eq!((outcome.verdict.clone(), first(&outcome)), (Verdict::Fail, down));
    let closes = staging.run("goldenpath.websocket-close").await;
    assert_eq!(measured(&closes, "tried"), Some(3.0), "{closes:?}");
    staging.lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovery_is_timed_when_a_balancer_lets_websockets_through_again() {
    let fault = "[[fault]]\nkind = \"websocket-blocked\"\nuntil = \"40s\"";
    let patient = "[probes.\"goldenpath.recovery\"]\npatience = \"600s\"\n";
    let staging = staging(fault, patient).await;
    let since = clock::now();
    let blocked = staging.run("goldenpath.login-to-response").await;
    let refused = (Some("upgrade"), Some("http:404".into()), Some("configuration_error"));
    assert_eq!(first(&blocked), refused, "{blocked:?} after {:?}", since.elapsed());
    let recovery = staging.run("goldenpath.recovery").await;
    assert_eq!(recovery.verdict, Verdict::Degraded, "{recovery:?}");
    assert!(measured(&recovery, "recovery_first") <= measured(&recovery, "recovery_stable"));
    assert!(measured(&recovery, "outage_seen").is_some_and(|ms| ms > 0.0), "{recovery:?}");
    staging.lab.stop().await.unwrap();
}
