//! Tests of loading an environment.

use secrecy::ExposeSecret;

use super::*;
use crate::environment::SslMode;
use crate::units::Span;

fn source(text: &str) -> Source {
    let layer = Layer { origin: "test.toml".into(), text: text.into() };
    Source { layers: vec![layer], ..Source::default() }
}

fn errors(source: &Source) -> String {
    load(source, &Owners::default()).expect_err("has errors").to_string()
}

const STAGING: &str = "[environment]\nname = \"s\"\n[database]\nhost = \"/cloudsql/p:r:i\"\n";

#[test]
fn every_error_is_reported_with_file_line_key_and_allowed_keys() {
    let text = "\
[environment]
nmae = \"x\"
tier = \"prod\"

[database]
host = \"h\"
port = 99999
connect_timeout = \"30\"

[services.backend]
health_path = \"health\"
";
    insta::assert_snapshot!(errors(&source(text)), @r#"
    test.toml:2: `environment.nmae`: unknown field `nmae`, expected one of `name`, `aliases`, `tier`, `project`, `region`, `zone`, `vantage`, `session_prefix`
    test.toml:3: `environment.tier`: unknown variant `prod`, expected one of `lab`, `staging`, `production`
    test.toml:8: `database.connect_timeout`: `30` is not a duration: write "250ms", "30s", "5min" or "2h"
    test.toml:7: `database.port`: invalid value: integer `99999`, expected u16
    test.toml:11: `services.backend.health_path`: `health` is not a path: it starts with `/` and has no spaces
    "#);
}

#[test]
fn a_text_that_is_not_toml_is_located() {
    assert!(errors(&source("[database]\nport = = 3\n")).starts_with("test.toml:2: "));
}

#[test]
fn a_quoted_part_of_a_key_keeps_its_dots() {
    fn check(user: Table, _: TimeScale) -> (Table, Vec<(String, String)>) {
        (user, Vec::new())
    }
    let mut source = source(STAGING);
    source.overrides = vec!["probes.\"vpc.throughput\".transfer_bytes=65536".into()];
    let items = [(("probes", "vpc.throughput"), check as CheckTable)].into();
    let loaded = load(&source, &Owners { items, ..Owners::default() }).expect("valid");
    let set = &loaded.environment.resolved["probes"]["vpc.throughput"]["transfer_bytes"];
    assert_eq!(set.as_integer(), Some(65_536));
    assert_eq!(loaded.notes, Vec::<String>::new());
}

#[test]
fn variables_win_over_files_and_overrides_over_both() {
    let mut source = source(STAGING);
    source.variables =
        [("POSTGRES_PORT", "6000"), ("POSTGRES_DB", "d"), ("POSTGRES_PASSWORD", "x")]
            .map(|(k, v)| (k.into(), v.into()))
            .to_vec();
    source.overrides = vec!["database.port=7000".into(), "safety.linger=1s".into()];
    let loaded = load(&source, &Owners::default()).expect("valid");
    let database = loaded.environment.database.expect("given");
    assert_eq!((database.port, database.name.as_str()), (7000, "d"));
    assert_eq!(loaded.environment.safety.linger, Span::secs(1));
    let reference = loaded.environment.credentials["database"].env.as_deref();
    assert_eq!(reference, Some("POSTGRES_PASSWORD"));
}

#[test]
fn a_lab_is_never_redirected_by_variables() {
    let mut source = source("[environment]\ntier = \"lab\"\n[database]\nhost = \"/lab\"\n");
    source.variables = vec![("POSTGRES_HOST".into(), "staging.example".into())];
    let loaded = load(&source, &Owners::default()).expect("valid");
    assert_eq!(loaded.environment.database.expect("given").host, "/lab");
    assert!(loaded.notes[0].contains("POSTGRES_HOST"), "{:?}", loaded.notes);
}

#[test]
fn a_database_url_is_taken_apart_and_its_password_kept_out() {
    let mut source = source(STAGING);
    let url = "postgresql+asyncpg://app:s3cr%21t@/db?host=/cloudsql/a:b:c&sslmode=require";
    source.variables = vec![("DATABASE_URL".into(), url.into())];
    let loaded = load(&source, &Owners::default()).expect("valid");
    let database = loaded.environment.database.clone().expect("given");
    assert_eq!(database.socket_path().as_deref(), Some("/cloudsql/a:b:c/.s.PGSQL.5432"));
    assert_eq!(database.ssl_mode, SslMode::Require);
    assert!(loaded.notes[0].contains("as libpq does"), "{:?}", loaded.notes);
    assert_eq!(loaded.secrets.get("database").expect("kept").expose_secret(), "s3cr!t");
    assert!(!format!("{:?}", loaded).contains("s3cr"));
}

#[test]
fn secrets_are_refused_in_files_and_on_the_command_line() {
    let mut with_url = source(STAGING);
    with_url.layers[0].text += "url = \"postgresql://u:hunter22@h/d\"\n";
    with_url.overrides = vec![
        "database.url=postgresql://u:hunter22@h/d".into(),
        "credentials.database.value=hunter22".into(),
        "vpc.note=password=hunter22".into(),
    ];
    let errors = errors(&with_url);
    assert_eq!(errors.lines().count(), 4, "{errors}");
    assert!(!errors.contains("hunter22"), "{errors}");
}

#[test]
fn the_time_scale_reaches_defaults_and_is_for_labs_only() {
    let text = "[environment]\ntier = \"lab\"\n[lab]\ntime_scale = 10\n";
    let loaded = load(&source(text), &Owners::default()).expect("valid");
    assert_eq!(loaded.environment.monitoring.cadence, Span::secs(1));
    assert_eq!(loaded.environment.safety.connect_timeout, Span::secs(3));
    let staging = format!("{STAGING}[lab]\ntime_scale = 10\n");
    assert!(errors(&source(&staging)).contains("only a lab has this table"));
}

#[test]
fn a_table_without_owner_is_a_note_that_names_it() {
    let loaded =
        load(&source(&format!("{STAGING}[smd]\nx = 1\n")), &Owners::default()).expect("valid");
    assert!(loaded.notes[0].starts_with("[smd] (test.toml:5) has no owner"));
    assert_eq!(loaded.environment.resolved["smd"]["x"], Value::Integer(1));
}

#[test]
fn only_a_person_raises_what_a_staging_bears() {
    let mut greedy = source(&format!("{STAGING}[safety]\nwebsockets = 11\n"));
    assert!(errors(&greedy).contains("--set safety.websockets=11"), "{}", errors(&greedy));
    greedy.layers[0].text = STAGING.into();
    greedy.overrides = vec!["safety.websockets=11".into()];
    let loaded = load(&greedy, &Owners::default()).expect("somebody said so");
    assert_eq!(loaded.environment.safety.websockets, 11);
    let lab = "[environment]\ntier = \"lab\"\n[safety]\nwebsockets = 11\n";
    load(&source(lab), &Owners::default()).expect("a lab is nobody else's");
}
