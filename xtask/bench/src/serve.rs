//! What is probed: a PostgreSQL server, an HTTP and an HTTPS server.

use std::fs;
use std::path::Path;

use anyhow::Result;
use secrecy::ExposeSecret;
use serde_json::json;
use shakedown_testkit::{Authority, Identity, Peer, PgServer, Script};

use crate::{runtime, wait_for_end_of_input};

/// Two roles: one that SCRAM asks for its password, and one that is let in as it is.
pub(crate) fn postgres() -> Result<()> {
    let server = PgServer::start(40);
    let (scram, trusted) = runtime()?.block_on(async {
        let (scram, trusted) = (server.database(false).await, server.database(false).await);
        let rules = server.socket_folder().join("data/pg_hba.conf");
        let strict = fs::read_to_string(&rules)?;
        fs::write(&rules, format!("host all {} 127.0.0.1/32 trust\n{strict}", trusted.role))?;
        server.admin("postgres").await.batch_execute("select pg_reload_conf()").await?;
        anyhow::Ok((scram, trusted))
    })?;
    println!(
        "{}",
        json!({
            "port": server.port(),
            "scram": {
                "database": scram.name,
                "user": scram.role,
                "password": scram.password.expose_secret(),
            },
            "trust": { "database": trusted.name, "user": trusted.role, "password": "" },
        })
    );
    wait_for_end_of_input()
}

/// Both answer every request alike and close.
pub(crate) fn http(dir: &Path) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let authority = Authority::new();
    let ca = dir.join("ca.pem");
    authority.write(&ca);
    let answer = Script::http("200 OK", "healthy");
    let (plain, tls) = runtime.block_on(async {
        let encrypted = answer.over_tls(authority.server(Identity::Good));
        (Peer::start(answer).await, Peer::start(encrypted).await)
    });
    println!(
        "{}",
        json!({
            "http": format!("http://127.0.0.1:{}/", plain.port()),
            "https": format!("https://localhost:{}/", tls.port()),
            "ca": ca,
        })
    );
    wait_for_end_of_input()
}
