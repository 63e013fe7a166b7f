//! The program against a real PostgreSQL, and against nobody.

use std::fs;
use std::process::{Command, Output};

use secrecy::ExposeSecret as _;
use shakedown_testkit::PgServer;

fn embed(environment: &str) -> Output {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("environment.toml");
    fs::write(&path, environment).expect("written");
    Command::new(env!("CARGO_BIN_EXE_embed-one-probe"))
        .arg(path)
        .env_clear()
        .output()
        .expect("the program starts")
}

#[tokio::test]
async fn it_says_how_long_logins_take() {
    let server = PgServer::shared();
    let database = server.database(false).await;
    let password = tempfile::NamedTempFile::new().expect("a file");
    fs::write(password.path(), database.password.expose_secret()).expect("written");
    let environment = format!(
        "{}[credentials.database]\nfile = \"{}\"\n",
        server.toml(&database),
        password.path().display()
    );
    let output = embed(&environment);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("pass\n") && said.contains("total_p50"), "{said}");
}

#[test]
fn a_database_that_is_not_there_is_a_verdict_not_an_error() {
    let environment = "[database]\nhost = \"/nowhere\"\nuser = \"nobody\"\nname = \"none\"\n";
    let output = embed(environment);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("fail\n"), "{said}");
}

#[test]
fn the_section_of_the_probe_is_read_without_registry() {
    let environment =
        "[database]\nhost = \"/nowhere\"\nuser = \"nobody\"\n[cloudsql]\nnonsense = 1\n";
    let output = embed(environment);
    assert!(!output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("nonsense"), "{said}");
}

#[test]
fn the_whole_program_is_small() {
    let lines = include_str!("../src/main.rs").lines().count();
    assert!(lines < 40, "{lines} lines");
}
