//! `cargo xtask tidy`: the invariants of ARCHITECTURE.md that a program can check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::shell;

/// A source file is one thing one can read in one sitting.
const MOST_LINES: usize = 600;

/// Who may see whom: package, what it may depend on, what its tests may besides. `*` is any probe
/// crate's name. A package that is not here may depend on no other of the workspace.
const ARROWS: &[(&str, &[&str], &[&str])] = &[
    ("shakedown-core", &[], &[]),
    ("shakedown-wire", &["shakedown-core"], &["shakedown-testkit"]),
    ("shakedown-gcp", &["shakedown-core"], &["shakedown-testkit"]),
    (
        "shakedown-probes-*",
        &["shakedown-core", "shakedown-wire", "shakedown-gcp"],
        &["shakedown-testkit"],
    ),
    ("shakedown-runner", &["shakedown-core", "shakedown-wire"], &["shakedown-testkit"]),
    // Its corpus is judged with the classifiers of every domain.
    ("shakedown-analyzer", &["shakedown-core"], &["shakedown-probes-*", "shakedown-testkit"]),
    ("shakedown-report", &["shakedown-core"], &["shakedown-testkit"]),
    ("shakedown-lab", &["shakedown-core", "shakedown-wire"], &["shakedown-testkit"]),
    ("shakedown-testkit", &["shakedown-core", "shakedown-wire"], &[]),
    ("shakedown", EVERYTHING, EVERYTHING),
    ("shakedown-bench", BENCHED, &[]),
];
const BENCHED: &[&str] = &[
    "shakedown-core",
    "shakedown-lab",
    "shakedown-report",
    "shakedown-runner",
    "shakedown-testkit",
    "shakedown-wire",
];
const EVERYTHING: &[&str] = &[
    "shakedown-analyzer",
    "shakedown-core",
    "shakedown-gcp",
    "shakedown-lab",
    "shakedown-probes-*",
    "shakedown-report",
    "shakedown-runner",
    "shakedown-testkit",
    "shakedown-wire",
];

/// Libraries with one home: who may depend on them.
const HOMES: &[(&str, &[&str])] =
    &[("clap", &["shakedown", "xtask"]), ("anyhow", &["shakedown", "xtask", "shakedown-bench"])];

/// Never in the dependency tree: rustls with ring is the one TLS library.
const BANNED: &[&str] =
    &["aws-lc-rs", "aws-lc-sys", "native-tls", "openssl", "openssl-sys", "boring", "typetag"];

/// Check the invariants of ARCHITECTURE.md: dependency arrows, registration, lints, file sizes,
/// documentation, links
#[derive(Debug, Args)]
pub(crate) struct Tidy {}

impl Tidy {
    pub(crate) fn run(self) -> Result<()> {
        let tree = Tree::read()?;
        let listed = listed_packages()?;
        let mut problems = Vec::new();
        arrows(&tree, &mut problems);
        registration(&tree, &listed, &mut problems)?;
        manifests(&tree, &mut problems)?;
        sources(&tree, &mut problems)?;
        licences(&tree, &mut problems);
        links(&tree, &mut problems)?;
        banned(&tree, &mut problems)?;
        if problems.is_empty() {
            println!("tidy: {} packages, {} files", tree.packages.len(), tree.files.len());
            return Ok(());
        }
        problems.sort();
        for problem in &problems {
            println!("{problem}");
        }
        bail!("{} to put right", problems.len());
    }
}

/// The repository as its tools see it.
struct Tree {
    root: PathBuf,
    packages: Vec<Package>,
    /// Files under version control or about to be, relative to the root.
    files: Vec<PathBuf>,
}

struct Package {
    name: String,
    manifest: PathBuf,
    /// Name and whether only tests depend on it.
    dependencies: Vec<(String, bool)>,
}

impl Tree {
    fn read() -> Result<Self> {
        let root = shell::root();
        let text =
            shell::output(&mut shell::cargo(["metadata", "--no-deps", "--format-version=1"]))?;
        let metadata: Value = serde_json::from_str(&text).context("cargo metadata")?;
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let packages = packages.map(|package| Package::read(package, &root)).collect();
        let list = ["ls-files", "--cached", "--others", "--exclude-standard"];
        let files = shell::output(Command::new("git").current_dir(&root).args(list))?;
        let files = files.lines().map(PathBuf::from).filter(|file| root.join(file).is_file());
        let files: BTreeSet<PathBuf> = files.collect();
        Ok(Self { packages, files: files.into_iter().collect(), root })
    }

    /// Files whose path passes `wanted`, with their text.
    fn texts(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, String)>> {
        let mut texts = Vec::new();
        for file in &self.files {
            let path = file.to_string_lossy().into_owned();
            if wanted(&path) {
                let text =
                    fs::read_to_string(self.root.join(file)).with_context(|| path.clone())?;
                texts.push((path, text));
            }
        }
        Ok(texts)
    }

    fn probe_packages(&self) -> impl Iterator<Item = &str> {
        let names = self.packages.iter().map(|package| package.name.as_str());
        names.filter(|name| name.starts_with("shakedown-probes-"))
    }
}

impl Package {
    fn read(package: &Value, root: &Path) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let manifest = PathBuf::from(text(&package["manifest_path"]));
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let dependencies =
            dependencies.map(|to| (text(&to["name"]), to["kind"].as_str() == Some("dev")));
        Self {
            name: text(&package["name"]),
            manifest: manifest.strip_prefix(root).map(Path::to_owned).unwrap_or(manifest),
            dependencies: dependencies.collect(),
        }
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

fn arrows(tree: &Tree, problems: &mut Vec<String>) {
    let names: BTreeSet<&str> = tree.packages.iter().map(|package| package.name.as_str()).collect();
    for Package { name, manifest, dependencies } in &tree.packages {
        let manifest = manifest.display();
        let rule = ARROWS.iter().find(|(package, ..)| fits(package, name));
        let (_, normal, tests) = rule.copied().unwrap_or(("", &[], &[]));
        for (to, dev) in dependencies {
            let allowed = |patterns: &[&str]| patterns.iter().any(|pattern| fits(pattern, to));
            let inside = names.contains(to.as_str()) && to != name;
            if inside && !(allowed(normal) || *dev && allowed(tests)) {
                problems.push(format!(
                    "{manifest}: {name} may not depend on {to}: move what is shared into \
                     shakedown-core, or what connects into shakedown-wire (ARCHITECTURE.md)"
                ));
            }
            if let Some((_, homes)) = HOMES.iter().find(|(library, _)| library == to)
                && !homes.contains(&name.as_str())
                && !dev
            {
                problems.push(format!(
                    "{manifest}: {to} is only for {}: remove it here",
                    homes.join(", ")
                ));
            }
        }
    }
}

/// The packages that `shakedown list` shows entries of, with how many probes.
fn listed_packages() -> Result<BTreeMap<String, usize>> {
    let binary = shell::build_shakedown(&["--quiet"])?;
    let text = shell::output(Command::new(binary).args(["list", "--json"]))?;
    let list: Value = serde_json::from_str(&text).context("shakedown list --json")?;
    let mut packages = BTreeMap::new();
    for group in ["sections", "classifiers", "monitors", "safety_checks"] {
        for entry in list[group].as_array().into_iter().flatten() {
            let package = entry["origin"]["package"].as_str().unwrap_or_default();
            packages.entry(package.to_owned()).or_insert(0);
        }
    }
    for probe in list["probes"].as_array().into_iter().flatten() {
        let package = probe["origin"]["package"].as_str().unwrap_or_default();
        *packages.entry(package.to_owned()).or_default() += 1;
    }
    Ok(packages)
}

fn registration(
    tree: &Tree,
    listed: &BTreeMap<String, usize>,
    problems: &mut Vec<String>,
) -> Result<()> {
    let manifest = fs::read_to_string(tree.root.join("crates/cli/Cargo.toml"))?;
    let linked = fs::read_to_string(tree.root.join("crates/cli/src/linked.rs"))?;
    for name in tree.probe_packages() {
        if !manifest.lines().any(|line| line.starts_with(&format!("{name} = "))) {
            problems
                .push(format!("crates/cli/Cargo.toml: add {name} = {{ workspace = true, .. }}"));
        }
        if !linked.contains(&format!("{} as _", name.replace('-', "_"))) {
            problems.push(format!(
                "crates/cli/src/linked.rs: add `use {} as _;`, or the linker drops the crate",
                name.replace('-', "_")
            ));
        }
        if !listed.contains_key(name) {
            problems.push(format!(
                "{name}: `shakedown list` shows no probe of it: give each \
                 `shakedown_core::register_probe!(Type);`"
            ));
        }
    }
    // One file is one probe: a file whose probe is not listed was never registered.
    for (package, count) in listed {
        let folder = format!("crates/{}/src/probes/", package.trim_start_matches("shakedown-"));
        let specs = tree.texts(|path| path.starts_with(&folder))?;
        let specs: Vec<_> =
            specs.iter().filter(|(_, text)| text.contains("impl ProbeSpec for")).collect();
        if specs.len() != *count {
            let files: Vec<&str> = specs.iter().map(|(path, _)| path.as_str()).collect();
            problems.push(format!(
                "{folder}: {} files hold a probe and {count} are listed; one probe is one file \
                 and each calls register_probe!: {}",
                specs.len(),
                files.join(", ")
            ));
        }
    }
    Ok(())
}

fn manifests(tree: &Tree, problems: &mut Vec<String>) -> Result<()> {
    for Package { manifest, .. } in &tree.packages {
        let text = fs::read_to_string(tree.root.join(manifest))?;
        let table: toml::Table = text.parse().with_context(|| manifest.display().to_string())?;
        let manifest = manifest.display();
        let inherits = |table: &toml::Table, key: &str| {
            let found = table.get(key).and_then(|value| value.get("workspace"));
            found.and_then(toml::Value::as_bool) == Some(true)
        };
        if !inherits(&table, "lints") {
            problems.push(format!("{manifest}: add [lints] workspace = true"));
        }
        let package = table.get("package").and_then(toml::Value::as_table);
        for key in ["edition", "license", "rust-version", "version"] {
            if !package.is_some_and(|package| inherits(package, key)) {
                problems.push(format!("{manifest}: set {key}.workspace = true in [package]"));
            }
        }
    }
    Ok(())
}

fn sources(tree: &Tree, problems: &mut Vec<String>) -> Result<()> {
    // Put together here, so that this file does not find itself.
    let unfinished = [["TO", "DO"], ["FIX", "ME"], ["unimple", "mented!"], ["to", "do!("]];
    let unfinished = unfinished.map(|word| word.concat());
    for (path, text) in tree.texts(|path| path.ends_with(".rs"))? {
        let source = path.starts_with("crates/") && path.contains("/src/");
        let lines = text.lines().count();
        if source && lines > MOST_LINES {
            problems.push(format!(
                "{path}: {lines} lines, {MOST_LINES} are the most: split it by what it does"
            ));
        }
        let tests = path.ends_with("/tests.rs");
        if source && !tests && !text.starts_with("//!") {
            let page = path.contains("/src/probes/");
            let says = if page { "the page users read" } else { "what the file is for" };
            problems.push(format!("{path}: begin with //! text, {says}"));
        }
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(word) = unfinished.iter().find(|word| line.contains(word.as_str())) {
                problems.push(format!("{path}:{number}: `{word}`: finish it, or take it out"));
            }
        }
    }
    Ok(())
}

fn licences(tree: &Tree, problems: &mut Vec<String>) {
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        if !tree.root.join(name).is_file() {
            problems.push(format!("{name}: missing; the packages say MIT OR Apache-2.0"));
        }
    }
}

/// Every relative link of every Markdown file leads to a file.
fn links(tree: &Tree, problems: &mut Vec<String>) -> Result<()> {
    for (path, text) in tree.texts(|path| path.ends_with(".md"))? {
        let folder = Path::new(&path).parent().unwrap_or(Path::new(""));
        let mut fenced = false;
        for (number, line) in (1..).zip(text.lines()) {
            fenced ^= line.trim_start().starts_with("```");
            let targets = line.split("](").skip(1).filter(|_| !fenced);
            for target in targets.filter_map(|rest| rest.split([')', ' ']).next()) {
                let file = target.split('#').next().unwrap_or_default();
                if file.is_empty() || file.contains(':') {
                    continue;
                }
                let wanted = normal(&folder.join(file));
                if !tree.root.join(&wanted).exists() {
                    problems.push(format!(
                        "{path}:{number}: the link `{target}` leads nowhere: there is no {}",
                        wanted.display()
                    ));
                }
            }
        }
    }
    Ok(())
}

/// `path` with its `.` and `..` worked out.
fn normal(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}

/// Every lock file, the examples' too, is up to date and holds nothing that is banned.
fn banned(tree: &Tree, problems: &mut Vec<String>) -> Result<()> {
    for lock in tree.files.iter().filter(|file| file.ends_with("Cargo.lock")) {
        let folder = tree.root.join(lock.parent().unwrap_or(Path::new("")));
        let shown = lock.display();
        let args = ["tree", "--workspace", "--all-features", "--prefix=none", "--format={p}"];
        let mut command = shell::cargo(args);
        command.current_dir(folder).args(["--edges=normal,build,dev", "--locked"]);
        let output = command.output().context("cannot start cargo")?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            let first = errors.lines().next().unwrap_or_default();
            problems.push(format!("{shown}: run cargo metadata there and commit it ({first})"));
            continue;
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let names: BTreeSet<&str> = text.lines().filter_map(|l| l.split(' ').next()).collect();
        for name in BANNED.iter().filter(|name| names.contains(*name)) {
            problems.push(format!(
                "{shown}: {name} is banned: `cargo tree --invert {name}` says who brings it; turn \
                 that feature off"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(packages: &[(&str, &[(&str, bool)])]) -> Tree {
        let package = |&(name, dependencies): &(&str, &[(&str, bool)])| Package {
            name: name.to_owned(),
            manifest: PathBuf::from(format!("{name}/Cargo.toml")),
            dependencies: dependencies.iter().map(|&(to, dev)| (to.to_owned(), dev)).collect(),
        };
        Tree {
            root: PathBuf::new(),
            packages: packages.iter().map(package).collect(),
            files: Vec::new(),
        }
    }

    #[track_caller]
    fn check(from: &str, to: &str, dev: bool, allowed: bool) {
        let mut problems = Vec::new();
        let from_to: (&str, &[(&str, bool)]) = (from, &[(to, dev)]);
        let ours = to.starts_with("shakedown");
        let tree = if ours { tree(&[from_to, (to, &[])]) } else { tree(&[from_to]) };
        arrows(&tree, &mut problems);
        assert_eq!(problems.is_empty(), allowed, "{from} -> {to}: {problems:?}");
    }

    #[test]
    fn arrows_point_one_way() {
        check("shakedown", "shakedown-probes-vpc", false, true);
        check("shakedown-probes-vpc", "shakedown-wire", false, true);
        check("shakedown-probes-vpc", "shakedown-lab", true, false);
        check("shakedown-probes-vpc", "shakedown-lab", false, false);
        check("shakedown-probes-vpc", "shakedown-probes-cloudsql", false, false);
        check("shakedown-probes-vpc", "shakedown-probes-cloudsql", true, false);
        check("shakedown-probes-new", "shakedown-runner", false, false);
        check("shakedown-probes-vpc", "clap", false, false);
        check("shakedown-report", "shakedown-runner", false, false);
        check("shakedown-core", "shakedown-wire", true, false);
        check("xtask", "shakedown-probes-vpc", false, false);
        check("xtask", "shakedown-core", false, false);
        check("xtask", "clap", false, true);
        check("shakedown-somebody", "shakedown-core", false, false);
    }

    /// Probes, monitors and classifiers cannot tell a lab from a staging: nobody they see knows it.
    #[test]
    fn only_the_command_line_and_the_tasks_see_the_lab() {
        let tree = Tree::read().unwrap();
        let sees_it =
            |package: &&Package| package.dependencies.iter().any(|(to, _)| to == "shakedown-lab");
        let who: BTreeSet<&str> =
            tree.packages.iter().filter(sees_it).map(|package| package.name.as_str()).collect();
        assert_eq!(who, BTreeSet::from(["shakedown", "shakedown-bench"]));
    }

    #[test]
    fn paths_are_worked_out() {
        assert_eq!(normal(Path::new("docs/guide/../../README.md")), Path::new("README.md"));
        assert_eq!(normal(Path::new("docs/./x.md")), Path::new("docs/x.md"));
    }
}
