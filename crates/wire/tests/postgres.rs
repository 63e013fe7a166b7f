//! The ladder, statements and leases against a real server.

use std::time::Duration;

use shakedown_core::environment::SslMode;
use shakedown_core::id::resource;
use shakedown_core::{Fault, Lease, ProbeCtx};
use shakedown_testkit::{PgServer, TestDatabase};
use shakedown_wire::Climb;
use shakedown_wire::pg::{self, Endpoint, PgConnection, PgTarget, WriteAttempt, statements};

/// A server, a database of the test's own, a context and a target with a name of the test's own.
async fn setup(monitor: bool) -> (TestDatabase, ProbeCtx, PgTarget) {
    let server = PgServer::shared();
    let database = server.database(monitor).await;
    let ctx = server.ctx(&database);
    let target = PgTarget::of(&ctx).unwrap().named(&database.name);
    (database, ctx, target)
}

async fn lease(ctx: &ProbeCtx) -> Lease {
    ctx.lease(&resource::DATABASE_CONNECTION).await.unwrap()
}

async fn connect(ctx: &ProbeCtx, target: &PgTarget) -> PgConnection {
    pg::connect(ctx, lease(ctx).await, target).await.result.unwrap()
}

fn rungs<T>(climb: &Climb<T>) -> Vec<&str> {
    climb.steps.iter().map(|step| step.rung.as_str()).collect()
}

fn sqlstate<T>(result: &Result<T, Fault>) -> &str {
    match result {
        Err(Fault::Sql { sqlstate, .. }) => sqlstate,
        Err(other) => panic!("not of SQL: {other}"),
        Ok(_) => "",
    }
}

/// Leases that are out or linger.
fn in_use(ctx: &ProbeCtx) -> u32 {
    let usage = ctx.budget().usage();
    usage.iter().find(|usage| usage.resource == resource::DATABASE_CONNECTION).unwrap().in_use
}

#[tokio::test]
async fn a_socket_and_an_address_are_climbed_rung_by_rung() {
    let (_, ctx, socket) = setup(false).await;
    let climb = pg::connect(&ctx, lease(&ctx).await, &socket).await;
    assert_eq!(rungs(&climb), ["connect", "startup", "auth", "ready"]);
    let mut connection = climb.result.unwrap();
    assert!(connection.backend_pid() > 0);
    assert!(connection.server_version().unwrap() >= 90_600);
    let rows = connection.query(statements::IDENTITY, &[]).await.unwrap();
    assert_eq!(rows[0].get::<_, String>("role"), socket.user);
    assert_eq!(rows[0].get::<_, Option<String>>("address"), None);

    let tcp = PgTarget::tcp_of(&ctx).unwrap().unwrap();
    let climb = pg::connect(&ctx, lease(&ctx).await, &tcp).await;
    assert_eq!(rungs(&climb), ["resolve", "connect", "startup", "auth", "ready"]);
    assert!(climb.steps.iter().all(shakedown_core::Step::is_ok));
    assert!(climb.steps.is_sorted_by_key(|step| step.at));
    assert!(climb.elapsed_ms("auth").unwrap() <= climb.total_ms());
    let mut connection = climb.result.unwrap();
    let rows = connection.query(statements::IDENTITY, &[]).await.unwrap();
    assert_eq!(rows[0].get::<_, Option<&str>>("address"), Some("127.0.0.1"));
}

#[tokio::test]
async fn the_session_has_its_name_and_its_limits() {
    let (_, ctx, mut target) = setup(false).await;
    target.statement_timeout = Duration::from_secs(7);
    let mut connection = connect(&ctx, &target).await;
    connection.query(statements::PING, &[]).await.unwrap();
    let mut setting = async |name: &str| {
        let rows = connection.query(statements::SETTING, &[&name]).await.unwrap();
        rows[0].get::<_, String>("setting")
    };
    assert_eq!(setting("application_name").await, target.application_name);
    assert_eq!(setting("statement_timeout").await, "7000");
    assert_eq!(setting("lock_timeout").await, "5000");
    assert_eq!(setting("idle_in_transaction_session_timeout").await, "7000");
    assert_eq!(setting("default_transaction_read_only").await, "on");
    if connection.server_version().unwrap() >= 140_000 && cfg!(target_os = "linux") {
        let rows = connection.query(statements::SETTING, &[&"client_connection_check_interval"]);
        assert_eq!(rows.await.unwrap()[0].get::<_, String>("setting"), "2000");
    }
}

/// What the server refuses, the rung it says so at, and the lease that comes back with it.
#[tokio::test]
async fn a_refusal_is_booked_to_its_rung_and_gives_the_lease_back() {
    let (_, ctx, good) = setup(false).await;
    let wrong = |change: fn(&mut PgTarget)| {
        let mut target = good.clone();
        change(&mut target);
        target
    };
    let cases = [
        (wrong(|target| target.password = Some("wrong".into())), "auth", "28P01"),
        (wrong(|target| target.user = "nobody_of_this_name".into()), "auth", "28P01"),
        (wrong(|target| target.database = "no_such_database".into()), "ready", "3D000"),
    ];
    for (target, rung, code) in cases {
        let climb = pg::connect(&ctx, lease(&ctx).await, &target).await;
        let step = climb.failed_step().unwrap();
        assert_eq!(step.rung, rung, "{step:?}");
        assert_eq!(sqlstate(&climb.result), code);
        assert_eq!(in_use(&ctx), 0, "{code}: the server has closed its end");
    }
    let nothing = wrong(|target| target.password = None);
    let climb = pg::connect(&ctx, lease(&ctx).await, &nothing).await;
    let Err(Fault::Protocol { message }) = &climb.result else { panic!("{:?}", climb.result) };
    assert!(message.contains("password"), "{message}");
    connect(&ctx, &good).await.close().await;
    assert_eq!(pg::Logins::of(&ctx).failed_of(), (4, 5));
}

#[tokio::test]
async fn a_role_without_access_from_here_is_refused_before_any_password() {
    let (database, ctx, mut target) = setup(false).await;
    target.endpoint = Endpoint::Unix { path: "/nonexistent/.s.PGSQL.5432".into() };
    let climb = pg::connect(&ctx, lease(&ctx).await, &target).await;
    assert_eq!(rungs(&climb), ["connect"]);
    assert!(matches!(climb.result, Err(Fault::Os { errno: 2, .. })), "{:?}", climb.result);
    assert_eq!(in_use(&ctx), 0);

    // A replication connection of a role that may not: the server's own words.
    let admin = PgServer::shared().admin("postgres").await;
    let close = format!("alter role {} nologin", database.role);
    admin.batch_execute(&close).await.unwrap();
    let target = PgTarget::of(&ctx).unwrap();
    let climb = pg::connect(&ctx, lease(&ctx).await, &target).await;
    assert_eq!(sqlstate(&climb.result), "28000");
}

#[tokio::test]
async fn slots_that_are_all_taken_are_53300_at_the_rung_they_are_refused_at() {
    let server = PgServer::start(6);
    let database = server.database(false).await;
    let ctx = server.ctx(&database);
    let target = PgTarget::of(&ctx).unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(connect(&ctx, &target).await);
    }
    // Three are reserved for superusers: an ordinary role learns that once it is known.
    let climb = pg::connect(&ctx, lease(&ctx).await, &target).await;
    assert_eq!(sqlstate(&climb.result), "53300");
    assert_eq!(climb.failed_step().unwrap().rung, "ready");
    assert_eq!(in_use(&ctx), 3);

    let mut admins = Vec::new();
    for _ in 0..3 {
        admins.push(server.admin("postgres").await);
    }
    // Now nobody gets in, and the server says so at once.
    let climb = pg::connect(&ctx, lease(&ctx).await, &target).await;
    assert_eq!(sqlstate(&climb.result), "53300");
    assert_eq!(climb.failed_step().unwrap().rung, "startup");
    drop(admins);

    for connection in held {
        assert!(connection.close().await.is_ok());
    }
    assert_eq!(in_use(&ctx), 0);
    let mut again = connect(&ctx, &target).await;
    again.query(statements::PING, &[]).await.unwrap();
}

#[tokio::test]
async fn a_lease_comes_back_when_the_server_has_forgotten_us() {
    let (_, ctx, target) = setup(false).await;
    let server = PgServer::shared();
    let mut connection = connect(&ctx, &target).await;
    connection.query(statements::PING, &[]).await.unwrap();
    assert_eq!(server.sessions(&target.application_name).await, 1);
    assert_eq!(in_use(&ctx), 1);
    let step = connection.close().await;
    assert_eq!((step.rung.as_str(), &step.fault), ("close", &None));
    assert_eq!(in_use(&ctx), 0);
    assert_eq!(server.sessions(&target.application_name).await, 0);

    // Dropped: nobody knows yet, so the slot stays taken for a while.
    let connection = connect(&ctx, &target).await;
    drop(connection);
    assert_eq!(in_use(&ctx), 1);
}

#[tokio::test]
async fn a_statement_ends_at_its_timeout_and_the_session_lives_on() {
    let (_, ctx, mut target) = setup(false).await;
    target.statement_timeout = Duration::from_millis(100);
    let mut connection = connect(&ctx, &target).await;
    let (step, result) = connection.timed(statements::SLEEP, &[&5.0f64]).await;
    assert_eq!(sqlstate(&result), "57014");
    assert_eq!(step.rung, "query");
    assert!(step.elapsed_ms >= 100.0);
    assert_eq!(step.fault, result.err());
    connection.query(statements::PING, &[]).await.unwrap();
    assert!(connection.close().await.is_ok());
}

#[tokio::test]
async fn a_session_that_the_server_ends_says_so() {
    let (_, ctx, target) = setup(false).await;
    let mut connection = connect(&ctx, &target).await;
    let admin = PgServer::shared().admin("postgres").await;
    let end = "select pg_terminate_backend($1)";
    admin.query(end, &[&connection.backend_pid()]).await.unwrap();
    // Asked again and again, since the server may still be about to end it.
    let last = loop {
        if let Err(fault) = connection.query(statements::PING, &[]).await {
            break fault;
        }
    };
    assert_eq!(last.code(), "sqlstate:57P01");
    let after = connection.query(statements::PING, &[]).await;
    assert!(matches!(&after, Err(Fault::Closed | Fault::Reset | Fault::Sql { .. })), "{after:?}");
    assert!(connection.is_ended());
    connection.close().await;
    assert_eq!(in_use(&ctx), 0, "the server is known to have closed its end");
}

#[tokio::test]
async fn answers_are_capped_and_streams_are_not_kept() {
    let (_, ctx, target) = setup(false).await;
    let mut connection = connect(&ctx, &target).await;
    let (step, read) = connection.stream_bytes(statements::THROUGHPUT, 200, 64 << 20).await;
    let pg::Streamed { bytes, arrivals } = read.unwrap();
    assert!(bytes > 200 * 65_536 && bytes < 201 * 65_536, "{bytes}");
    assert_eq!(arrivals.len(), 200, "one stamp per row");
    assert!(arrivals.is_sorted_by_key(|arrival| (arrival.after, arrival.bytes)));
    assert!(arrivals[0].bytes < bytes / 2 && arrivals[199].bytes <= bytes);
    assert!(step.is_ok());
    assert!(connection.bytes_read() > bytes);
    connection.query(statements::PING, &[]).await.unwrap();

    let (_, bytes) = connection.stream_bytes(statements::THROUGHPUT, 200, 1 << 20).await;
    let Err(Fault::TooLarge { bytes, cap }) = bytes else { panic!("{bytes:?}") };
    assert!(bytes > cap && cap == 1 << 20);
    assert!(connection.is_ended());
    let mut connection = connect(&ctx, &target).await;
    let rows = connection.query(statements::THROUGHPUT, &[&200i32]).await;
    assert!(matches!(rows, Err(Fault::TooLarge { cap: pg::ANSWER_CAP_BYTES, .. })), "{rows:?}");
}

#[tokio::test]
async fn writes_are_refused_by_default_and_never_stay() {
    let (database, ctx, target) = setup(false).await;
    let mut connection = connect(&ctx, &target).await;
    let refused = |sqlstate: &str| WriteAttempt::Refused { sqlstate: sqlstate.into() };
    assert_eq!(pg::write_attempt(&mut connection).await, Ok(refused("25006")));
    let could = pg::write_attempt_read_write(&mut connection).await.unwrap();
    let admin = PgServer::shared().admin(&database.name).await;
    let grant = format!("grant create on schema public to {}", database.role);
    admin.batch_execute(&grant).await.unwrap();
    let version = connection.server_version().unwrap();
    if version >= 150_000 {
        // Before 15 everybody may write to `public`.
        assert_eq!(could, refused("42501"));
    }
    assert_eq!(pg::write_attempt_read_write(&mut connection).await, Ok(WriteAttempt::Allowed));
    let left = "select count(*) from pg_class where relname = 'shakedown_write_check'";
    assert_eq!(admin.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    let role = connection.query(statements::ROLE, &[]).await.unwrap();
    assert!(role[0].get::<_, bool>("creates_in_public"));
    assert!(!role[0].get::<_, bool>("superuser"));
}

/// Every statement runs, on this server's version, as an ordinary role and as a monitoring one.
#[tokio::test]
async fn every_statement_runs_and_hides_what_the_role_may_not_see() {
    for monitor in [false, true] {
        let (_, ctx, target) = setup(monitor).await;
        let mut connection = connect(&ctx, &target).await;
        let other = connect(&ctx, &target).await;
        for statement in [
            statements::PING,
            statements::BACKEND_PID,
            statements::CONNECTION_LIMITS,
            statements::BACKENDS_BY_TYPE,
            statements::LONGEST_RUNNING,
            statements::LOCKS,
        ] {
            let rows = connection.query(statement, &[]).await;
            assert!(!rows.unwrap_or_else(|error| panic!("{statement}: {error}")).is_empty());
        }
        let role = connection.query(statements::ROLE, &[]).await.unwrap();
        assert_eq!(role[0].get::<_, bool>("sees_all_sessions"), monitor);
        assert_eq!(role[0].get::<_, i64>("writable_tables"), 0);

        let admin = PgServer::shared().admin("postgres").await;
        let sessions = connection.query(statements::SESSIONS_BY_STATE, &[]).await.unwrap();
        let of = |name: &str| {
            let rows = sessions.iter().filter(|row| row.get::<_, &str>("application") == name);
            rows.map(|row| (row.get::<_, bool>("hidden"), row.get::<_, i64>("sessions")))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&target.application_name).iter().map(|(_, count)| count).sum::<i64>(), 2);
        let (hidden, _) = of("testkit")[0];
        assert_eq!(hidden, !monitor, "sessions of another role");
        drop(admin);

        let named = [&target.application_name.as_str() as &(dyn pg::ToSql + Sync)];
        let ours = connection.query(statements::SESSIONS_NAMED, &named).await.unwrap();
        assert_eq!(ours[0].get::<_, i64>(0), 1, "our own session is not counted");
        drop(other);
    }
}

#[tokio::test]
async fn advisory_locks_are_held_by_one() {
    let (_, ctx, target) = setup(true).await;
    let (mut one, mut two) = (connect(&ctx, &target).await, connect(&ctx, &target).await);
    for key in [1_278i64, -1, i64::MIN] {
        let taken = one.query(statements::TRY_LOCK, &[&key]).await.unwrap();
        assert!(taken[0].get::<_, bool>("taken"));
        let taken = two.query(statements::TRY_LOCK, &[&key]).await.unwrap();
        assert!(!taken[0].get::<_, bool>("taken"));
        let holder = two.query(statements::LOCK_HOLDER, &[&key]).await.unwrap();
        assert_eq!(holder[0].get::<_, i32>("pid"), one.backend_pid());
        assert_eq!(holder[0].get::<_, &str>("application"), target.application_name);
        assert!(holder[0].get::<_, Option<f64>>("since").is_some());
        let released = one.query(statements::UNLOCK, &[&key]).await.unwrap();
        assert!(released[0].get::<_, bool>("released"));
        assert!(two.query(statements::LOCK_HOLDER, &[&key]).await.unwrap().is_empty());
    }
}

/// The modes as libpq has them, on a server whose certificate is for `localhost` and 127.0.0.1.
#[tokio::test]
async fn tls_is_spoken_and_verified_as_the_mode_says() {
    let (database, ctx, _) = setup(false).await;
    let server = PgServer::shared();
    let stranger = tempfile::NamedTempFile::new().unwrap();
    shakedown_testkit::Authority::called("a stranger").write(stranger.path());
    let toml = server.toml(&database);
    let known = server.ca_file().display().to_string();
    let unknown = toml.replace(&known, &stranger.path().display().to_string());
    let elsewhere = format!(
        "{toml}[network.resolve]\n\"db.shakedown.test\" = \"127.0.0.1:{}\"\n",
        server.port()
    );
    let password = secrecy::ExposeSecret::expose_secret(&database.password);
    let context = |toml: &str| shakedown_testkit::ctx(toml, &[("database", password)]);
    let (unknown, elsewhere) = (context(&unknown), context(&elsewhere));

    let cases = [
        (&ctx, "127.0.0.1", SslMode::Disable, ""),
        (&ctx, "127.0.0.1", SslMode::Prefer, "tls"),
        (&ctx, "127.0.0.1", SslMode::Require, "tls"),
        (&ctx, "127.0.0.1", SslMode::VerifyCa, "tls"),
        (&ctx, "127.0.0.1", SslMode::VerifyFull, "tls"),
        (&unknown, "127.0.0.1", SslMode::Require, "tls"),
        (&unknown, "127.0.0.1", SslMode::VerifyCa, "tls:unknown-issuer"),
        (&unknown, "127.0.0.1", SslMode::VerifyFull, "tls:unknown-issuer"),
        (&elsewhere, "db.shakedown.test", SslMode::VerifyCa, "tls"),
        (&elsewhere, "db.shakedown.test", SslMode::VerifyFull, "tls:not-valid-for-name"),
    ];
    for (ctx, host, mode, expected) in cases {
        let mut target = PgTarget::of(ctx).unwrap();
        target.endpoint = Endpoint::Tcp { host: host.into(), port: server.port() };
        target.ssl_mode = mode;
        let climb = pg::connect(ctx, lease(ctx).await, &target).await;
        let found = match &climb.result {
            Ok(_) => climb.steps.iter().find(|step| step.rung == "tls").map_or("", |_| "tls"),
            Err(fault) => &fault.code(),
        };
        assert_eq!(found, expected, "{host} {mode:?}");
    }
}

/// A server that does not speak TLS at all.
#[tokio::test]
async fn tls_that_is_not_offered() {
    use shakedown_testkit::{Act, Peer, Script};
    let script = Script::new([Act::Read(8), Act::Send(b"N".to_vec()), Act::Hold]);
    let peer = Peer::start(script).await;
    let ctx = shakedown_testkit::ctx("[safety]\nconnect_timeout = \"300ms\"\n", &[]);
    let mut target = PgTarget {
        endpoint: Endpoint::Tcp { host: "127.0.0.1".into(), port: peer.port() },
        database: "x".into(),
        user: "x".into(),
        password: None,
        ssl_mode: SslMode::Prefer,
        connect_timeout: Duration::from_secs(1),
        statement_timeout: Duration::from_secs(1),
        application_name: "shakedown/test".into(),
        read_only: true,
    };
    let climb = pg::connect(&ctx, lease(&ctx).await, &target).await;
    assert_eq!(rungs(&climb), ["resolve", "connect", "tls", "startup"]);
    assert!(climb.steps[2].is_ok(), "prefer goes on without");
    for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        target.ssl_mode = mode;
        let climb = pg::connect(&ctx, lease(&ctx).await, &target).await;
        assert_eq!(climb.result.unwrap_err().code(), "tls:not-supported", "{mode:?}");
    }
}
