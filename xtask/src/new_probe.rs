//! `cargo xtask new-probe`: one new probe that builds, passes its tests and is found by `list`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::shell;

/// The probe that is written: a small true one, to be replaced piece by piece.
const TEMPLATE: &str = include_str!("new_probe.rs.txt");

/// Words that are no module names.
const KEYWORDS: &str = "abstract as async await become box break const continue crate do dyn else enum extern \
     false final fn for gen if impl in let loop macro match mod move mut override priv pub ref \
     return self static struct super trait true try type typeof unsafe unsized use virtual where \
     while yield";

/// Add a probe to a crate: one file with documentation, configuration and tests that pass
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  cargo xtask new-probe vpc dns-answers      the probe vpc.dns-answers

What to fill in: docs/guide/add-a-probe.md")]
pub(crate) struct NewProbe {
    /// The probe crate: what follows `probes-` in crates/, which is also the first part of the id
    #[arg(value_name = "CRATE", required_unless_present = "self_test")]
    domain: Option<String>,
    /// The second part of the id: lower case words joined by dashes
    #[arg(required_unless_present = "self_test")]
    name: Option<String>,
    /// Make one in a copy of this repository, in CRATE or else in every crate with probes, then build,
    /// lint and test it there
    #[arg(long, conflicts_with = "name")]
    self_test: bool,
}

impl NewProbe {
    pub(crate) fn run(self) -> Result<()> {
        let (domain, name) = match (self.domain, self.name) {
            (Some(domain), Some(name)) => (domain, name),
            (only, _) => return self_test(only.as_deref()),
        };
        let root = shell::root();
        let file = write(&root, &domain, &name)?;
        println!(
            "\
wrote {file}

It builds, its tests pass, and it asks a small true question of its own. Next:
  1. edit {file}: the //! page, META, the configuration, run, the tests
     (docs/guide/add-a-probe.md says what belongs where)
  2. cargo test -p shakedown-probes-{domain} {module}
  3. cargo xtask run-suite {domain}.{name}
  4. cargo xtask codegen       writes docs/probes/{domain}.{name}.md",
            module = name.replace('-', "_"),
        );
        Ok(())
    }
}

/// Writes the probe into the repository at `root`; gives its file, relative to that.
fn write(root: &Path, domain: &str, name: &str) -> Result<String> {
    check_name(name)?;
    let known = domains(root)?;
    ensure!(
        known.iter().any(|known| known == domain),
        "there is no crates/probes-{domain}/src/probes: the crates with probes are {}",
        known.join(", ")
    );
    let module = name.replace('-', "_");
    let folder = format!("crates/probes-{domain}/src/probes");
    let file = format!("{folder}/{module}.rs");
    ensure!(!root.join(&file).exists(), "{file} exists: choose another name, or edit it");
    let id = format!("{domain}.{name}");
    let neighbours = sources(&root.join(&folder))?;
    if let Some((path, _)) = neighbours.iter().find(|(_, text)| text.contains(&format!("\"{id}\"")))
    {
        bail!("the id {id} is taken by {}: ids are never reused", path.display());
    }
    let list = root.join(&folder).join("mod.rs");
    let modules = fs::read_to_string(&list).with_context(|| list.display().to_string())?;
    let ty = camel_case(name);
    let text = TEMPLATE
        .replace("{{id}}", &id)
        .replace("{{Type}}", &ty)
        .replace("{{Phase}}", phase(&neighbours));
    fs::write(root.join(&file), text).with_context(|| file.clone())?;
    let public = modules.lines().any(|line| line.starts_with("pub mod "));
    let visible = if public { "pub mod " } else { "mod " };
    let modules = insert_sorted(&modules, visible, &format!("{visible}{module};"));
    let modules =
        insert_sorted(&modules, "pub use ", &format!("pub use {module}::{{{ty}, {ty}Config}};"));
    fs::write(&list, modules)?;
    // Long names break lines elsewhere. Without rustfmt the file is as good, only not as tidy.
    let _ = Command::new("rustfmt").arg("--edition=2024").arg(root.join(&file)).status();
    Ok(file)
}

fn check_name(name: &str) -> Result<()> {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    ensure!(
        name.split('-').all(word),
        "`{name}` is not a probe's name: lower case words joined by dashes, such as dns-answers"
    );
    let keyword = KEYWORDS.split_whitespace().any(|keyword| keyword == name);
    ensure!(
        !keyword,
        "`{name}` is a word of the language: add a second one, such as {name}-answers"
    );
    Ok(())
}

/// The first parts of the ids: what follows `probes-` in `crates/`, where there are probes.
fn domains(root: &Path) -> Result<Vec<String>> {
    let mut domains = Vec::new();
    for entry in fs::read_dir(root.join("crates"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().join("src/probes/mod.rs").is_file() {
            domains.extend(name.strip_prefix("probes-").map(str::to_owned));
        }
    }
    domains.sort();
    Ok(domains)
}

fn sources(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push((path.clone(), fs::read_to_string(&path)?));
        }
    }
    Ok(sources)
}

/// The run phase of the crate: the one its other probes are in.
fn phase(neighbours: &[(PathBuf, String)]) -> &'static str {
    let phases = ["Network", "Database", "Startup", "Impact"];
    let used = |phase: &&str| {
        let phase = format!("RunPhase::{phase},");
        neighbours.iter().filter(|(_, text)| text.contains(&phase)).count()
    };
    phases.into_iter().rev().max_by_key(used).unwrap_or("Network")
}

/// `dns-answers` as `DnsAnswers`.
fn camel_case(name: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('-').map(capital).collect()
}

/// Puts `line` into the first block of lines that begin with `prefix`, in sorted place.
fn insert_sorted(text: &str, prefix: &str, line: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let start = lines.iter().position(|line| line.starts_with(prefix)).unwrap_or(lines.len());
    let block = lines[start..].iter().take_while(|line| line.starts_with(prefix));
    let after = block.take_while(|present| **present < line).count();
    lines.insert(start + after, line);
    lines.join("\n") + "\n"
}

/// Makes a probe in a copy of this repository, in which nothing can be spoilt, and tests it there.
fn self_test(only: Option<&str>) -> Result<()> {
    let root = shell::root();
    let copy = shell::target_dir().join("tmp/new-probe-self-test");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    let list = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let files = shell::output(Command::new("git").current_dir(&root).args(list))?;
    for file in files.lines() {
        let (from, to) = (root.join(file), copy.join(file));
        // A file that is deleted but not yet committed is still listed.
        if from.is_file() {
            fs::create_dir_all(to.parent().expect("it is inside the copy"))?;
            fs::copy(&from, &to)?;
            let modified = fs::metadata(&from)?.modified()?;
            fs::File::options().write(true).open(&to)?.set_modified(modified)?;
        }
    }
    let domains = domains(&copy)?;
    if let Some(only) = only {
        ensure!(domains.iter().any(|d| d == only), "there are no probes in crates/probes-{only}");
    }
    for domain in domains.iter().filter(|domain| only.is_none_or(|only| only == *domain)) {
        let file = write(&copy, domain, "made-by-self-test")?;
        let again = write(&copy, domain, "made-by-self-test");
        ensure!(again.is_err(), "{file} was written a second time");
        let package = format!("shakedown-probes-{domain}");
        let cargo = |task: &str, args: &[&str]| {
            let mut command = shell::cargo([task, "--package", &package, "--locked"]);
            command.args(args);
            command.current_dir(&copy).env("CARGO_TARGET_DIR", shell::target_dir());
            command
        };
        shell::run(cargo("clippy", &["--quiet", "--all-targets"]).args(["--", "-Dwarnings"]))?;
        // As an embedder has it.
        let args = ["--quiet", "--no-default-features", "--features=live"];
        shell::run(&mut cargo("check", &args))?;
        let said = shell::output(&mut cargo("test", &["--lib", "made_by_self_test"]))?;
        let passed = said.contains(" passed; 0 failed") && !said.contains(" 0 passed;");
        ensure!(passed, "the tests of {file} did not run:\n{said}");
        println!("{file}: builds with and without the registry, lints are silent, tests pass");
    }
    fs::remove_dir_all(&copy)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_joined_by_dashes() {
        for good in ["dns-answers", "lag", "ipv6-path"] {
            check_name(good).expect(good);
        }
        for bad in [
            "",
            "Dns",
            "dns_answers",
            "-dns",
            "dns-",
            "dns--x",
            "6to4",
            "../x",
            "match",
            "dns answers",
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_goes_to_its_sorted_place_in_the_first_block() {
        let text = "//! Doc.\n\npub mod a;\npub mod c;\n\nmod z;\n";
        let with = |line| insert_sorted(text, "pub mod ", line);
        assert_eq!(
            with("pub mod b;"),
            "//! Doc.\n\npub mod a;\npub mod b;\npub mod c;\n\nmod z;\n"
        );
        assert_eq!(
            with("pub mod d;"),
            "//! Doc.\n\npub mod a;\npub mod c;\npub mod d;\n\nmod z;\n"
        );
        assert_eq!(insert_sorted("//! Doc.\n", "mod ", "mod a;"), "//! Doc.\nmod a;\n");
    }

    #[test]
    fn a_new_probe_joins_the_phase_of_its_crate() {
        let with = |text: &str| vec![(PathBuf::new(), text.to_owned())];
        assert_eq!(phase(&with("RunPhase::Startup,")), "Startup");
        assert_eq!(phase(&[]), "Network");
        assert_eq!(camel_case("dns-answers"), "DnsAnswers");
    }

    #[test]
    fn an_unknown_crate_is_answered_with_the_known_ones() {
        let error = write(&shell::root(), "nope", "x").expect_err("there is no such crate");
        assert!(error.to_string().contains("vpc"), "{error}");
    }
}
