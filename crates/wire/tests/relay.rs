//! The relay between an application that is not ours and a real PostgreSQL.

use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use shakedown_core::id::resource;
use shakedown_core::{Draw, ProbeCtx};
use shakedown_testkit::postgres::{PgServer, TestDatabase};
use shakedown_wire::pg::{OUR_LIMIT, PgTarget, Relay, RelaySettings};
use tokio_postgres::{Client, NoTls};

struct Place {
    ctx: ProbeCtx,
    database: TestDatabase,
    dir: tempfile::TempDir,
}

impl Place {
    async fn new() -> Self {
        let server = PgServer::shared();
        let database = server.database(false).await;
        let toml = format!(
            "[database]\nhost = {:?}\nport = {}\nname = {:?}\nuser = {:?}\n[safety]\nlinger = \"200ms\"\n",
            server.socket_folder(),
            server.port(),
            database.name,
            database.role,
        );
        let secret = database.password.expose_secret().to_owned();
        let ctx = shakedown_testkit::ctx(&toml, &[("database", &secret)]);
        Self { ctx, database, dir: tempfile::tempdir().expect("a folder") }
    }

    async fn relay(&self, leases: u32, only_user: Option<&str>) -> Relay {
        let draw = [Draw::new(resource::DATABASE_CONNECTION, leases)];
        let allotment = self.ctx.budget().reserve(&draw).await.expect("within the budget");
        let settings = RelaySettings {
            target: PgTarget::of(&self.ctx).expect("configured"),
            patience: Duration::from_millis(100),
            only_user: only_user.map(Into::into),
        };
        Relay::bind(self.dir.path(), allotment, settings).expect("a socket")
    }

    async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        connect(self.dir.path(), &self.database).await
    }

    fn in_use(&self) -> u32 {
        let usage = self.ctx.budget().usage();
        let usage = usage.iter().find(|usage| usage.resource == resource::DATABASE_CONNECTION);
        usage.expect("the budget has it").in_use
    }
}

async fn connect(dir: &Path, database: &TestDatabase) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::Config::new()
        .host_path(dir)
        .user(&database.role)
        .password(database.password.expose_secret())
        .dbname(&database.name)
        .connect(NoTls)
        .await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Runs `work` while the relay serves.
async fn served<T>(place: &Place, relay: &Relay, work: impl Future<Output = T>) -> T {
    tokio::select! {
        () = relay.serve(&place.ctx) => unreachable!("it serves until it is dropped"),
        done = work => done,
    }
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_is_over_the_budget_is_refused_as_a_full_server_would_and_says_whose_limit_it_was() {
    let place = Place::new().await;
    let relay = place.relay(2, None).await;
    served(&place, &relay, async {
        let first = place.connect().await.expect("the first");
        let _second = place.connect().await.expect("the second");
        let row = first.query_one("select pg_backend_pid()", &[]).await.expect("an answer");
        assert!(relay.report().backends.contains(&row.get::<_, i32>(0)));
        assert_eq!(place.in_use(), 2, "each connection holds a lease");

        let Err(third) = place.connect().await else { panic!("a third was let in") };
        let third = third.as_db_error().expect("refused as a server refuses");
        assert_eq!(third.code().code(), "53300");
        assert_eq!(third.message(), OUR_LIMIT);

        // What the application closes comes back.
        drop(first);
        until(|| relay.report().open == 1).await;
        let _again = place.connect().await.expect("a free lease");
        let report = relay.report();
        assert_eq!((report.accepted, report.ready, report.refused, report.peak), (4, 3, 1, 2));
        assert!(report.limited());
    })
    .await;
    drop(relay);
    assert!(!place.dir.path().join(".s.PGSQL.5432").exists(), "the socket goes with the relay");
}

#[tokio::test]
async fn another_role_than_the_checked_one_is_refused() {
    let place = Place::new().await;
    let relay = place.relay(1, Some("somebody_else")).await;
    served(&place, &relay, async {
        let Err(refused) = place.connect().await else { panic!("it was let in") };
        assert_eq!(refused.as_db_error().expect("an answer").code().code(), "28000");
    })
    .await;
    assert_eq!((relay.report().other_role, relay.report().ready, place.in_use()), (1, 0, 0));
}

#[tokio::test]
async fn a_server_that_is_not_there_closes_the_client_and_gives_the_lease_back() {
    let place = Place::new().await;
    let draw = [Draw::new(resource::DATABASE_CONNECTION, 1)];
    let allotment = place.ctx.budget().reserve(&draw).await.expect("within the budget");
    let mut target = PgTarget::of(&place.ctx).expect("configured");
    target.endpoint = shakedown_wire::pg::Endpoint::Unix { path: place.dir.path().join("none") };
    let settings = RelaySettings { target, patience: Duration::from_secs(1), only_user: None };
    let relay = Relay::bind(place.dir.path(), allotment, settings).expect("a socket");
    served(&place, &relay, async {
        let Err(closed) = place.connect().await else { panic!("nobody was there") };
        assert!(closed.as_db_error().is_none(), "closed without a word, as the proxy does");
        until(|| place.in_use() == 0).await;
    })
    .await;
    assert_eq!(relay.report().failed, 1);
    assert!(relay.report().fault.is_some());
}
