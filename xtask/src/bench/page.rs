//! `docs/benchmarks.md`, section by section.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::stats::{Summary, summary};
use crate::shell;

const HEAD: &str = "\
# Benchmarks

Written by `cargo xtask bench`. In each round everything is measured once, ours and the peers' in
turns; a figure is the median of the rounds with the 95 % bootstrap interval of that median. A ratio
is formed within each round. *met*: the median reaches the target. *open*: it does not, but the
interval holds the target. *missed*: neither. *not above*: met when the interval holds the target or
is below it.
";

/// What a figure should reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// The interval holds this or is below it: not shown to be more.
    NotAbove(f64),
    /// No target: for the reader.
    None,
}

impl Target {
    fn verdict(self, figure: Summary) -> &'static str {
        let (reached, within) = match self {
            Self::None => return "",
            Self::AtMost(most) => (figure.median <= most, figure.low <= most),
            Self::AtLeast(least) => (figure.median >= least, figure.high >= least),
            Self::NotAbove(most) => (figure.low <= most, false),
        };
        match (reached, within) {
            (true, _) => "met",
            (false, true) => "open",
            (false, false) => "missed",
        }
    }
}

/// One line of a section's table.
pub(crate) struct Row {
    what: String,
    figure: Summary,
    unit: &'static str,
    target: Target,
}

/// What one bench has to say.
#[derive(Default)]
pub(crate) struct Section {
    title: &'static str,
    about: &'static str,
    rows: Vec<Row>,
    /// Programs measured, with their versions.
    versions: Vec<String>,
    skipped: Vec<String>,
    rounds: u32,
}

impl Section {
    pub(crate) fn new(title: &'static str, about: &'static str, rounds: u32) -> Self {
        Self { title, about, rounds, ..Self::default() }
    }

    pub(crate) fn row(
        &mut self,
        what: impl Into<String>,
        values: &[f64],
        unit: &'static str,
        target: Target,
    ) {
        self.rows.push(Row { what: what.into(), figure: summary(values), unit, target });
    }

    pub(crate) fn version(&mut self, version: impl Into<String>) {
        self.versions.push(version.into());
    }

    /// A peer that is not here.
    pub(crate) fn skip(&mut self, peer: &str, why: &str) {
        eprintln!("  {peer} is skipped: {why}");
        self.skipped.push(format!("{peer}: {why}"));
    }

    pub(crate) fn missed(&self) -> usize {
        let missed = |row: &&Row| row.target.verdict(row.figure) == "missed";
        self.rows.iter().filter(missed).count()
    }

    pub(crate) fn render(&self) -> String {
        let mut text = format!(
            "## {}\n\n{}\n\n| | median | 95 % interval | target | |\n|---|---|---|---|---|\n",
            self.title, self.about
        );
        for Row { what, figure: figure @ Summary { median, low, high }, unit, target } in &self.rows
        {
            let limit = match target {
                Target::AtMost(most) => format!("at most {}", number(*most)),
                Target::AtLeast(least) => format!("at least {}", number(*least)),
                Target::NotAbove(most) => format!("not above {}", number(*most)),
                Target::None => String::new(),
            };
            text.push_str(&format!(
                "| {what} | {} {unit} | {} to {} | {limit} | {} |\n",
                number(*median),
                number(*low),
                number(*high),
                target.verdict(*figure)
            ));
        }
        text.push_str(&format!("\n{} rounds, {}.", self.rounds, machine()));
        if !self.versions.is_empty() {
            text.push_str(&format!(" {}.", self.versions.join("; ")));
        }
        if !self.skipped.is_empty() {
            text.push_str(&format!(" Skipped: {}.", self.skipped.join("; ")));
        }
        text + "\n"
    }
}

/// Three digits that tell.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Date, processor, system, load.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let said = |program: &str, arg: &str| {
        shell::output(Command::new(program).arg(arg)).unwrap_or_default().trim().to_owned()
    };
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let load = read("/proc/loadavg");
    format!(
        "{}, {cores} cores of {}, {}, load average {} at the end, commit {}",
        said("date", "+%Y-%m-%d"),
        model.map_or("an unnamed processor", |(_, model)| model),
        said("uname", "-sr"),
        load.split(' ').next().unwrap_or("unknown"),
        commit(),
    )
}

fn commit() -> String {
    let args = ["describe", "--always", "--dirty"];
    let said = shell::output(Command::new("git").current_dir(shell::root()).args(args));
    said.map_or_else(|_| "unknown".to_owned(), |said| said.trim().to_owned())
}

/// The page: what stands between two marks is one bench's.
pub(crate) struct Page {
    path: PathBuf,
    sections: BTreeMap<String, String>,
}

impl Page {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = if path.exists() { fs::read_to_string(path)? } else { String::new() };
        let parts = text.split("<!-- bench ").skip(1);
        let sections = parts.filter_map(|part| {
            let (name, section) = part.split_once(" -->\n")?;
            Some((name.to_owned(), section.trim().to_owned() + "\n"))
        });
        Ok(Self { path: path.to_owned(), sections: sections.collect() })
    }

    pub(crate) fn put(&mut self, name: &str, section: &Section) {
        self.sections.insert(name.to_owned(), section.render());
    }

    pub(crate) fn write(&self, order: &[&str]) -> Result<()> {
        let mut text = HEAD.to_owned();
        for name in order {
            if let Some(section) = self.sections.get(*name) {
                text.push_str(&format!("\n<!-- bench {name} -->\n{section}"));
            }
        }
        fs::write(&self.path, text).with_context(|| self.path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_open_or_missed() {
        let figure = Summary { median: 1.1, low: 1.0, high: 1.2 };
        for (target, verdict) in [
            (Target::AtMost(1.1), "met"),
            (Target::AtMost(1.05), "open"),
            (Target::AtMost(0.9), "missed"),
            (Target::AtLeast(1.0), "met"),
            (Target::AtLeast(1.15), "open"),
            (Target::AtLeast(2.0), "missed"),
            (Target::NotAbove(1.05), "met"),
            (Target::NotAbove(0.9), "missed"),
            (Target::None, ""),
        ] {
            assert_eq!(target.verdict(figure), verdict, "{target:?}");
        }
    }

    #[test]
    fn a_section_that_is_not_measured_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("page.md");
        let mut page = Page::read(&path).expect("none yet");
        let mut old = Section::new("Old", "About.", 5);
        old.row("thing", &[1.0; 5], "ms", Target::AtMost(2.0));
        page.put("a", &old);
        page.put("b", &Section::new("B", "About.", 5));
        page.write(&["b", "a"]).expect("written");
        let mut page = Page::read(&path).expect("there");
        page.put("b", &Section::new("New", "About.", 5));
        page.write(&["b", "a"]).expect("written");
        let text = fs::read_to_string(&path).expect("there");
        assert!(text.contains("## New") && !text.contains("## B"), "{text}");
        assert!(text.contains("| thing | 1.00 ms | 1.00 to 1.00 | at most 2.00 | met |"), "{text}");
    }
}
