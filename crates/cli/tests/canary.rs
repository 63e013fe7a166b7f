//! A password and an API key, set through every input there is, turn up in no file of a run and in no
//! output, however they are encoded.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{TestLab, output, shakedown};

const PASSWORD: &str = "c4n4ry/p@ss+w0rd?\"x";
const API_KEY: &str = "c4n4ry-key-81f3a9";

/// Every form a secret could leak in: raw, percent-encoded, JSON-escaped, and the parts of base64 that
/// do not depend on what stands around it.
fn forms() -> Vec<String> {
    let mut forms = vec![
        PASSWORD.to_owned(),
        "c4n4ry%2Fp%40ss%2Bw0rd%3F%22x".to_owned(),
        "c4n4ry%2fp%40ss%2bw0rd%3f%22x".to_owned(),
        r#"c4n4ry/p@ss+w0rd?\"x"#.to_owned(),
        API_KEY.to_owned(),
    ];
    for secret in [PASSWORD, API_KEY] {
        for lead in 0..3 {
            let text = format!("{}{secret}", " ".repeat(lead));
            let encoded = base64(text.as_bytes());
            forms.push(encoded[(lead * 8).div_ceil(6)..text.len() * 8 / 6].to_owned());
        }
    }
    forms
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes
        .chunks(3)
        .flat_map(|chunk| {
            let word = chunk.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte))
                << (8 * (3 - chunk.len()));
            (0..=chunk.len())
                .map(move |i| char::from(ALPHABET[(word >> (18 - 6 * i) & 63) as usize]))
        })
        .collect()
}

fn assert_clean(what: &str, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    for form in forms() {
        assert!(!text.contains(&form), "{what} holds {form}:\n{text}");
    }
}

fn assert_output_clean(what: &str, output: &Output) {
    assert_clean(&format!("standard output of {what}"), &output.stdout);
    assert_clean(&format!("standard error of {what}"), &output.stderr);
}

fn assert_folder_clean(dir: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files += assert_folder_clean(&path);
        } else {
            assert_clean(&path.display().to_string(), &fs::read(&path).expect("a file"));
            files += 1;
        }
    }
    files
}

/// The lab's environment under another tier, so that the strategy's variables have an effect.
fn as_staging(lab: &TestLab, dir: &Path) -> std::path::PathBuf {
    let text = fs::read_to_string(lab.dir.join("environment.toml")).expect("the overlay");
    let mut table: toml::Table = text.parse().expect("TOML");
    table.remove("lab");
    table["environment"]["tier"] = "staging".into();
    let credentials = table["credentials"].as_table_mut().expect("a table");
    credentials.clear();
    let mut api_key = toml::Table::new();
    api_key.insert("env".into(), "STAGING_API_KEY".into());
    api_key.insert("header".into(), "X-API-Key".into());
    credentials.insert("api_key".into(), api_key.into());
    let path = dir.join("staging.toml");
    fs::write(&path, table.to_string()).expect("written");
    path
}

fn with_secrets(command: &mut Command) -> &mut Command {
    command.env("POSTGRES_PASSWORD", PASSWORD).env("STAGING_API_KEY", API_KEY)
}

#[test]
fn no_secret_reaches_an_output() {
    let lab = TestLab::start("healthy");
    let dir = tempfile::tempdir().expect("a folder");
    let results = dir.path().join("results");
    let environment = as_staging(&lab, dir.path());
    let environment = environment.to_str().expect("UTF-8");
    let url = "postgresql+asyncpg://app:c4n4ry%2Fp%40ss%2Bw0rd%3F%22x@/staging";

    let selection = ["vpc.direct-connectivity", "vpc.service-endpoints", "cloudsql.connect-timing"];
    for format in ["human", "detailed", "json", "junit"] {
        let mut command = shakedown(&["run", "--env", environment, "-vv", "--collect-metrics"]);
        command.args(["--output-format", format]).args(selection);
        command.arg("--results-dir").arg(&results);
        let output = output(with_secrets(&mut command).env("DATABASE_URL", url));
        // The password is wrong for this lab: the errors of the refusal are what could leak it.
        assert_eq!(output.status.code(), Some(10), "{}", String::from_utf8_lossy(&output.stderr));
        assert_output_clean(format, &output);
    }
    let files = assert_folder_clean(&results);
    assert!(files >= 4 * 7, "{files} files were looked at");

    for arguments in [vec!["plan", "--env", environment], vec!["doctor", "--env", environment]] {
        let mut command = shakedown(&arguments);
        assert_output_clean(arguments[0], &output(with_secrets(&mut command)));
    }

    // On the command line a secret is refused, and the refusal does not repeat it.
    for given in [
        format!("credentials.database.value={PASSWORD}"),
        format!("database.password={PASSWORD}"),
        "database.url=postgresql://app:c4n4ry%2Fp%40ss%2Bw0rd%3F%22x@h/d".to_owned(),
        format!("vpc.note=api_key={API_KEY}"),
    ] {
        let output = output(&mut shakedown(&["plan", "--env", environment, "--set", &given]));
        assert_eq!(output.status.code(), Some(2), "{given}");
        assert_output_clean(&given, &output);
    }

    // So it is in a file.
    let text = format!("{}\n", fs::read_to_string(environment).expect("written"));
    let text = text.replace("[database]", &format!("[database]\nurl = \"{url}\""));
    let leaky = dir.path().join("leaky.toml");
    fs::write(&leaky, text).expect("written");
    let output = output(shakedown(&["plan", "--env"]).arg(&leaky));
    assert_eq!(output.status.code(), Some(2));
    assert_output_clean("a file with a password", &output);
}

#[test]
fn the_labs_own_password_stays_in_its_file() {
    let lab = TestLab::start("wrong-password");
    let secret = fs::read_to_string(lab.dir.join("secrets/database")).expect("a password");
    let secret = secret.trim();
    assert!(secret.len() >= 8);
    let results = tempfile::tempdir().expect("a folder");
    let output = output(&mut common::run_in(&lab, results.path(), &["-vv", "--phase", "1"]));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(!stdout.contains(secret), "{stdout}");
    let session =
        fs::read_dir(results.path()).expect("a folder").next().expect("one").expect("one");
    for file in fs::read_dir(session.path()).expect("a folder") {
        let path = file.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("text");
        assert!(!text.contains(secret), "{}", path.display());
    }
}
