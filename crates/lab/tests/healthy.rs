//! One healthy lab, looked at from all sides.

mod common;

use std::os::unix::fs::MetadataExt;

use common::{config, eventually, options, session, tmp};
use shakedown_lab::{Lab, Scenario, Truth};
use tokio::net::{TcpSocket, UnixSocket};
use tokio_postgres::NoTls;

#[tokio::test]
async fn healthy_from_all_sides() {
    let tmp = tmp();
    let lab = Lab::start(&options(tmp.path(), Scenario::healthy(), 10)).await.unwrap();
    counts_sessions(&lab).await;
    application_role_reads_only(&lab).await;
    passwords_are_asked_for(&lab).await;
    files_and_status(&lab, tmp.path());
    let dir = lab.dir().to_owned();
    lab.stop().await.unwrap();
    assert!(!dir.exists());
}

async fn counts_sessions(lab: &Lab) {
    let stream = UnixSocket::new_stream().unwrap().connect(&lab.addresses().socket).await.unwrap();
    let (socket, connection) = config(lab, "by-socket").connect_raw(stream, NoTls).await.unwrap();
    tokio::spawn(connection);
    let tcp = [session(lab, "by-tcp").await, session(lab, "by-tcp").await];
    let count = async |client: &tokio_postgres::Client| -> i64 {
        client.query_one("select count(*) from messages", &[]).await.unwrap().get(0)
    };
    assert_eq!((count(&socket).await, count(&tcp[0]).await), (2000, 2000));
    eventually("three sessions", || lab.truth().postgres.sessions == 3).await;
    assert_eq!(lab.truth().connector.open, 3);
    drop((socket, tcp));
    eventually("no session", || lab.truth().postgres.sessions == 0).await;
    let truth = lab.truth();
    assert_eq!(truth.postgres.applications["by-tcp"].max, 2);
    assert_eq!(truth.postgres.sessions_max, 3);
    assert_eq!((truth.postgres.max_connections, truth.postgres.reserved_connections), (50, 3));
    let file = lab.dir().join("truth.json");
    let written = || serde_json::from_slice::<Truth>(&std::fs::read(&file).unwrap()).unwrap();
    eventually("the file says so", || {
        written().postgres.applications == truth.postgres.applications
            && written().ready_at_ms.is_some()
    })
    .await;
}

async fn application_role_reads_only(lab: &Lab) {
    let client = session(lab, "role").await;
    for statement in
        ["create table mine ()", "create temporary table mine ()", "delete from messages"]
    {
        let error = client.batch_execute(statement).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{statement}");
    }
    let monitor = "select pg_has_role('pg_monitor', 'usage')";
    assert!(client.query_one(monitor, &[]).await.unwrap().get::<_, bool>(0));
}

async fn passwords_are_asked_for(lab: &Lab) {
    let stream = TcpSocket::new_v4().unwrap().connect(lab.addresses().connector).await.unwrap();
    let mut config = config(lab, "wrong");
    config.password("wrong");
    let Err(error) = config.connect_raw(stream, NoTls).await else {
        panic!("a wrong password was taken")
    };
    assert_eq!(error.code().unwrap().code(), "28P01");
    let pg = std::fs::read_to_string(lab.dir().join("pg/data/pg_hba.conf")).unwrap();
    assert!(!pg.contains("trust"));
}

fn files_and_status(lab: &Lab, tmp: &std::path::Path) {
    let dir = lab.dir();
    let mode = |name: &str| dir.join(name).metadata().unwrap().mode() & 0o777;
    let names =
        ["database", "superuser", "user", "password", "service-id", "service-secret", "jwt"];
    assert!(names.iter().all(|name| mode(&format!("secrets/{name}")) == 0o600));
    assert_eq!(lab.addresses().socket.metadata().unwrap().mode() & 0o777, 0o777);
    let secrets = ["database", "superuser", "password", "service-secret", "jwt"]
        .map(|name| std::fs::read_to_string(dir.join("secrets").join(name)).unwrap());
    for name in [
        "environment.toml",
        "scenario.toml",
        "lab.json",
        "truth.json",
        "logs/postgresql.log",
        "logs/proxy.log",
    ] {
        let text = std::fs::read_to_string(dir.join(name)).unwrap();
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "{name} holds a secret");
    }
    let found = shakedown_lab::status(tmp);
    assert_eq!(found.len(), 1);
    let info = found[0].info.as_ref().unwrap();
    assert_eq!(
        (info.pid, &*info.scenario, info.time_scale.into()),
        (std::process::id(), "healthy", 10_u32)
    );
    assert_eq!(&info.addresses, lab.addresses());
    assert!(found[0].truth.is_some());
}
