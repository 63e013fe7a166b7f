//! The user's path through the labs' services.

use std::sync::Mutex;

use secrecy::{ExposeSecret, SecretString};
use shakedown_core::cleanup::CleanupLedger;
use shakedown_core::context::Shared;
use shakedown_core::evidence::{Body, Observation};
use shakedown_core::{Outcome, Registry, Verdict, clock};
use shakedown_testkit::probe;
use shakedown_wire::http::{self, Request};

use crate::staging::{Staging, scenario};

/// One run against a lab with its application.
struct User {
    staging: Staging,
    shared: Shared,
    cleanup: CleanupLedger,
    observed: Mutex<Vec<Observation>>,
}

/// A lab with these faults, and an environment with these tables beside the lab's own.
async fn user(faults: &str, tables: &str) -> User {
    User {
        staging: Staging::with(scenario(faults), tables, |lab| lab.application = true).await,
        shared: Shared::default(),
        cleanup: CleanupLedger::default(),
        observed: Mutex::default(),
    }
}

impl User {
    /// Runs the probe with its whole draw set aside.
    async fn run(&self, id: &str) -> Outcome {
        let ran = probe::run(id, &self.staging.environment, |context| {
            context
                .credentials(self.staging.credentials.clone())
                .shared(self.shared.clone())
                .cleanup(self.cleanup.clone())
                .session("s-1")
        });
        let ran = ran.await.unwrap_or_else(|error| panic!("{id}: {error}"));
        self.observed.lock().unwrap().extend(ran.observed);
        ran.outcome
    }

    /// The test user's tokens, asked for past the probes.
    async fn tokens(&self) -> serde_json::Value {
        let secret = |name| self.staging.credentials.get(name).unwrap().expose_secret();
        let body = serde_json::json!({ "email": secret("user"), "password": secret("password") });
        let http = shakedown_core::id::resource::HTTP_CONNECTION;
        let ctx = self.staging.ctx(&[shakedown_core::Draw::new(http.clone(), 1)]).await;
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
    let user = user("", "[business]\narr_usd = 500000\n").await;
    for id in Registry::linked()
        .unwrap()
        .probes()
        .map(|probe| probe.meta.id)
        .filter(|id| id.starts_with("goldenpath."))
    {
        let outcome = user.run(id).await;
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
    assert_eq!(user.cleanup.pending(), [left]);
    let token = user.tokens().await["access_token"].as_str().unwrap().to_owned();
    let said = format!("{:?}", user.observed.lock().unwrap());
    let secrets = ["password", "service_secret"];
    let secrets = secrets.map(|name| user.staging.credentials.get(name).unwrap().expose_secret());
    assert!(!said.contains(&token[..20]) && secrets.iter().all(|secret| !said.contains(secret)));
    user.staging.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_message_it_stops_once_the_session_stands() {
    let tables = "[goldenpath]\nsend_message = false\ntoken_in = \"subprotocol\"\n\
                  subprotocols = [\"agent_chat\"]\n";
    let user = user("", tables).await;
    let outcome = user.run("goldenpath.login-to-response").await;
    assert_eq!(outcome.verdict, Verdict::Pass, "{outcome:?}");
    assert!(measured(&outcome, "greeting").is_some() && measured(&outcome, "events").is_none());
    assert!(user.cleanup.pending().is_empty(), "nothing was left");
    let impact = user.run("goldenpath.offline-impact").await;
    assert_eq!(measured(&impact, "agent_success"), None, "{impact:?}");
    user.staging.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_access_token_is_renewed_and_no_credentials_skip() {
    let mut user = user("", "").await;
    let tokens = user.tokens().await;
    let none = std::mem::take(&mut user.staging.credentials);
    let skipped = user.run("goldenpath.login-to-response").await;
    let Verdict::Skip { reason } = &skipped.verdict else { panic!("{skipped:?}") };
    assert!(reason.to_string().starts_with("no credentials: set [credentials.user]"), "{reason}");
    drop(none);
    // Ended in 1970.
    let expired = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.AAAA";
    user.staging.credentials.insert("access_token", SecretString::from(expired.to_owned()));
    let refused = user.run("goldenpath.login-to-response").await;
    assert_eq!(first(&refused), (Some("refresh"), Some("http:401".into()), Some("auth_failure")));
    let refresh = tokens["refresh_token"].as_str().unwrap().to_owned();
    user.staging.credentials.insert("refresh_token", SecretString::from(refresh));
    let renewed = user.run("goldenpath.login-to-response").await;
    assert_eq!(renewed.verdict, Verdict::Pass, "{renewed:?}");
    assert!(measured(&renewed, "refresh").is_some(), "{renewed:?}");
    let again = user.run("goldenpath.offline-impact").await;
    let sessions = measured(&again, "session_establishment");
    assert_eq!(sessions, Some(0.8), "all but the one that was refused: {again:?}");
    user.staging.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_disagree_about_the_secret() {
    let user = user("[[fault]]\nkind = \"jwt-mismatch\"", "").await;
    let outcome = user.run("goldenpath.login-to-response").await;
    let refused = (Some("upgrade"), Some("http:403".into()), Some("configuration_error"));
    assert_eq!((outcome.verdict.clone(), first(&outcome)), (Verdict::Fail, refused));
    assert!(measured(&outcome, "login").is_some(), "the login itself is fine: {outcome:?}");
    let impact = user.run("goldenpath.offline-impact").await;
    assert_eq!(impact.verdict, Verdict::Fail);
    assert_eq!(measured(&impact, "session_establishment"), Some(0.0));
    let available = user.run("goldenpath.availability").await;
    assert_eq!(available.verdict, Verdict::Pass, "health says nothing of it: {available:?}");
    let traffic = user.observed.lock().unwrap().iter().any(
        |observation| matches!(&observation.body, Body::Traffic(traffic) if traffic.status == 403),
    );
    assert!(traffic, "the refusals are evidence");
    user.staging.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_auth_service_that_is_down_is_told_at_the_login() {
    let user = user("[[fault]]\nkind = \"auth-down\"", "").await;
    let outcome = user.run("goldenpath.login-to-response").await;
    let down = (Some("login"), Some("http:503".into()), Some("dependency_unavailable"));
    assert_eq!((outcome.verdict.clone(), first(&outcome)), (Verdict::Fail, down));
    let closes = user.run("goldenpath.websocket-close").await;
    assert_eq!(measured(&closes, "tried"), Some(3.0), "{closes:?}");
    user.staging.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovery_is_timed_when_a_balancer_lets_websockets_through_again() {
    let fault = "[[fault]]\nkind = \"websocket-blocked\"\nuntil = \"40s\"";
    let patient = "[probes.\"goldenpath.recovery\"]\npatience = \"600s\"\n";
    let user = user(fault, patient).await;
    let since = clock::now();
    let blocked = user.run("goldenpath.login-to-response").await;
    let refused = (Some("upgrade"), Some("http:404".into()), Some("configuration_error"));
    assert_eq!(first(&blocked), refused, "{blocked:?} after {:?}", since.elapsed());
    let recovery = user.run("goldenpath.recovery").await;
    assert_eq!(recovery.verdict, Verdict::Degraded, "{recovery:?}");
    assert!(measured(&recovery, "recovery_first") <= measured(&recovery, "recovery_stable"));
    assert!(measured(&recovery, "outage_seen").is_some_and(|ms| ms > 0.0), "{recovery:?}");
    user.staging.stop().await;
}
