//! A lab with its environment, and contexts for what is run against it.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use shakedown_core::budget::Draw;
use shakedown_core::{
    Budget, Credentials, Environment, Monitor, Outcome, ProbeCtx, ProbeSpec, SafetyCheck,
};
use shakedown_lab::{Lab, LabOptions, Scenario, ServerPrograms, TimeScale};
use shakedown_testkit::probe::linked_environment;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// How much faster than real time every lab here is: the strategy's 30 s become 3 s.
const TIME_SCALE: u32 = 10;
/// Nothing takes that long: what is waited for this long will not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What an operator of the lab states, in the time of the staging it stands for.
const STATED: &str = r#"
    [environment]
    session_prefix = "test"
    [database]
    connect_timeout = "30s"
    statement_timeout = "300s"
    pool_limit = 25
    [cloudsql]
    instance = "lab-db"
    max_connections = 50
    reserved_connections = 3
    application_instances = 1
    [vpc]
    name = "lab-vpc-connector"
"#;

/// A running lab and the environment that leads to it.
pub(crate) struct Staging {
    pub(crate) lab: Lab,
    pub(crate) environment: Arc<Environment>,
    pub(crate) credentials: Credentials,
    pub(crate) budget: Budget,
    _tmp: TempDir,
}

/// A scenario of the test's own, from its faults.
pub(crate) fn scenario(faults: &str) -> Scenario {
    toml::from_str(&format!("name = \"test\"\nsummary = \"a test's own\"\n{faults}")).unwrap()
}

impl Staging {
    /// A lab with `scenario`, and without the application, whose connections would be counted.
    pub(crate) async fn start(scenario: Scenario, change: impl FnOnce(&mut LabOptions)) -> Self {
        Self::with(scenario, "", change).await
    }

    /// As [`start`](Self::start), with `tables` beside those that the lab states of itself.
    pub(crate) async fn with(
        scenario: Scenario,
        tables: &str,
        change: impl FnOnce(&mut LabOptions),
    ) -> Self {
        let tmp = tempfile::Builder::new().prefix("p").rand_bytes(5).tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(tmp.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let path = std::env::var_os("PATH");
        let programs = ServerPrograms::find(None, path.as_deref()).unwrap();
        let mut options = LabOptions {
            tmp: tmp.path().into(),
            scenario,
            time_scale: TimeScale::new(TIME_SCALE).unwrap(),
            ..LabOptions::new(env!("CARGO_BIN_EXE_shakedown").into(), programs)
        };
        change(&mut options);
        let lab = Lab::start(&options).await.unwrap();
        let overlay = std::fs::read_to_string(lab.overlay()).unwrap();
        let environment = linked_environment(&[STATED, &overlay, tables]);
        let mut credentials = Credentials::default();
        for (name, reference) in &environment.credentials {
            let secret = std::fs::read_to_string(reference.file.as_ref().unwrap()).unwrap();
            credentials.insert(name, SecretString::from(secret.trim_end().to_owned()));
        }
        let budget = environment.safety.budget();
        Self { lab, environment: Arc::new(environment), credentials, budget, _tmp: tmp }
    }

    pub(crate) async fn healthy() -> Self {
        Self::start(Scenario::healthy(), |_| {}).await
    }

    pub(crate) async fn named(scenario: &str) -> Self {
        Self::start(Scenario::find(scenario).unwrap(), |_| {}).await
    }

    /// A context with `draws` set aside of the one budget, as the runner makes them.
    pub(crate) async fn ctx(&self, draws: &[Draw]) -> ProbeCtx {
        let allotment = self.budget.reserve(draws).await.unwrap();
        ProbeCtx::builder(Arc::clone(&self.environment))
            .credentials(self.credentials.clone())
            .budget(self.budget.clone())
            .allotment(allotment)
            .build()
    }

    /// Runs a probe with its default configuration, scaled as the environment has it.
    pub(crate) async fn run<P: ProbeSpec>(&self) -> Outcome {
        let table = self.environment.resolved["probes"][P::META.id].clone();
        let probe = P::from_config(table.try_into().unwrap());
        let ctx = self.ctx(P::META.draws).await;
        let ended = tokio::time::timeout(PATIENCE, probe.run(&ctx)).await;
        ended.expect("it ends").unwrap_or_else(|error| panic!("{}: {error}", probe.meta().id))
    }

    pub(crate) async fn monitor(&self, monitor: &impl Monitor) -> ProbeCtx {
        self.ctx(monitor.meta().draws).await
    }

    pub(crate) async fn guard(&self, guard: &impl SafetyCheck) -> ProbeCtx {
        self.ctx(guard.meta().draws).await
    }

    /// A superuser's session, straight at the server.
    pub(crate) async fn superuser(&self) -> Client {
        let password = std::fs::read_to_string(self.lab.dir().join("secrets/superuser")).unwrap();
        self.session("lab_superuser", &password, "shakedown-test").await
    }

    /// A session of the application's role, straight at the server.
    pub(crate) async fn application(&self, name: &str) -> Client {
        let password = std::fs::read_to_string(self.lab.dir().join("secrets/database")).unwrap();
        self.session("app", &password, name).await
    }

    async fn session(&self, user: &str, password: &str, application: &str) -> Client {
        let address = self.lab.addresses().postgres;
        let (client, connection) = tokio_postgres::Config::new()
            .hostaddr(address.ip())
            .port(address.port())
            .user(user)
            .password(password.trim_end())
            .dbname("staging")
            .application_name(application)
            .connect(NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    /// Sessions of shakedown the server has now, as its superuser counts them.
    pub(crate) async fn sessions(&self, superuser: &Client) -> i64 {
        let count =
            "select count(*) from pg_stat_activity where application_name like 'shakedown/%'";
        superuser.query_one(count, &[]).await.unwrap().get(0)
    }

    /// A context as another tool has it: no runner, no allotment.
    pub(crate) fn embedded(&self) -> ProbeCtx {
        ProbeCtx::builder(Arc::clone(&self.environment))
            .credentials(self.credentials.clone())
            .build()
    }

    /// Waits until only the lab's sampler and `superuser` are left of what the lab's start did.
    pub(crate) async fn settle(&self, superuser: &Client) {
        let count = "select count(*) from pg_stat_activity where backend_type = 'client backend'";
        let two = async || superuser.query_one(count, &[]).await.unwrap().get::<_, i64>(0) == 2;
        eventually("the lab's start is over", two).await;
    }

    pub(crate) async fn stop(self) {
        self.lab.stop().await.unwrap();
    }
}

/// The text of everything a probe said.
pub(crate) fn words(outcome: &Outcome) -> String {
    let summaries: Vec<_> = outcome.findings.iter().map(|f| f.summary.as_str()).collect();
    format!("{}: {}", outcome.verdict.as_str(), summaries.join(" | "))
}

/// A number of an outcome.
pub(crate) fn number(outcome: &Outcome, name: &str) -> f64 {
    let found = outcome.measurements.iter().find(|measurement| measurement.name == name);
    found.unwrap_or_else(|| panic!("no {name}: {outcome:?}")).value
}

/// Waits until it holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "never: {what}");
}
