//! What an export really holds: the first thing every diagnosis says.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::dedup::MAX_IDS;
use crate::entry::{Entry, FileId, Origin, PayloadKind};
use crate::severity::Severity;
use crate::template::Templates;

/// Row limits that people and tools set: a list of exactly so many rows was probably cut.
const LIMITS: [u64; 9] = [50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000];

/// How many services are told apart; beyond it they count under no name.
const MAX_SERVICES: usize = 4096;

/// A span of time, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
}

impl Window {
    /// Its length, in seconds.
    pub fn seconds(&self) -> f64 {
        self.to.duration_since(self.from).as_secs_f64()
    }

    fn with(window: Option<Self>, at: Timestamp) -> Option<Self> {
        Some(window.map_or(Self { from: at, to: at }, |window| Self {
            from: window.from.min(at),
            to: window.to.max(at),
        }))
    }

    fn merged(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        other.map_or(one, |other| Self::with(Self::with(one, other.from), other.to))
    }
}

/// How much is held of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Entries, each counted once however often it was exported.
    pub entries: u64,
    /// Of them, entries whose words were left out by whoever saved them.
    pub without_payload: u64,
    /// From the first to the last entry with a time. What lies between need not be complete.
    pub window: Option<Window>,
}

impl Held {
    fn add(&mut self, at: Option<Timestamp>, payload: bool) {
        self.entries += 1;
        self.without_payload += u64::from(!payload);
        if let Some(at) = at {
            self.window = Window::with(self.window, at);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.entries += other.entries;
        self.without_payload += other.without_payload;
        self.window = Window::merged(self.window, other.window);
    }
}

/// A list that ends at a number of rows people set as a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowLimit {
    /// The file.
    pub file: FileId,
    /// The severity whose list it is; `None` for the whole file.
    pub severity: Option<Severity>,
    /// How many rows it has.
    pub rows: u64,
}

/// What was read, and what was not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coverage {
    /// Everything.
    pub all: Held,
    /// Per severity.
    pub severities: BTreeMap<Severity, Held>,
    /// Per service and severity.
    pub services: BTreeMap<String, BTreeMap<Severity, Held>>,
    /// Copies of entries that were read already.
    pub duplicates: u64,
    /// Entries without a time.
    pub without_time: u64,
    /// Entries whose time had no zone and was taken as the options say.
    pub zone_assumed: u64,
    /// Rows of summaries, not entries: counts and times of them are somebody's words.
    pub summaries: u64,
    /// Results of tests.
    pub test_results: u64,
    /// Entries whose message was cut by whoever saved them.
    pub cut_messages: u64,
    /// Records that could not be read.
    pub broken: u64,
    /// Objects that are no entries where entries were expected.
    pub not_entries: u64,
    /// Lists that were probably cut at a row limit.
    pub row_limits: Vec<RowLimit>,
    /// The windows that files say they cover, as far as they say so.
    pub claimed: Vec<(FileId, Window)>,
    /// Distinct message templates; at least so many where `approximations` says so.
    pub templates: u64,
    /// What was not exact, and why, for people.
    pub approximations: Vec<String>,
}

impl Coverage {
    /// The share of entries without payload, between 0 and 1.
    pub fn share_without_payload(&self) -> f64 {
        if self.all.entries == 0 {
            return 0.0;
        }
        self.all.without_payload as f64 / self.all.entries as f64
    }

    /// Everything held of one service.
    pub fn service(&self, name: &str) -> Held {
        let mut held = Held::default();
        for part in self.services.get(name).into_iter().flat_map(BTreeMap::values) {
            held.merge(part);
        }
        held
    }
}

/// What a thread counted of one service and severity.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    held: Held,
    /// Entries whose payload came with a later copy, perhaps after another thread counted them.
    completed: u64,
}

/// One thread's part of the coverage.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    index: HashMap<String, usize>,
    services: Vec<(String, [Cell; Severity::COUNT])>,
    last: usize,
    pub(crate) templates: Templates,
    /// Rows per file and severity of the list; the last is for lists without one.
    rows: BTreeMap<FileId, [u64; Severity::COUNT + 1]>,
    without_time: u64,
    summaries: u64,
    test_results: u64,
    cut_messages: u64,
    services_beyond: u64,
    pub(crate) zone_assumed: u64,
    pub(crate) duplicates: u64,
    pub(crate) broken: u64,
    pub(crate) not_entries: u64,
}

impl Tally {
    /// Counts one entry.
    #[inline]
    pub(crate) fn add(&mut self, entry: &Entry<'_>) {
        let service = self.service(entry.service);
        let payload = entry.payload != PayloadKind::None;
        let cell = &mut self.services[service].1[entry.severity as usize];
        self.templates.add(entry.template);
        if entry.completes {
            cell.completed += 1;
            return;
        }
        cell.held.add(entry.time, payload);
        self.without_time += u64::from(entry.time.is_none());
        self.cut_messages += u64::from(entry.cut);
        match entry.origin {
            Origin::Log => {}
            Origin::Summary => self.summaries += 1,
            Origin::TestResult => self.test_results += 1,
        }
    }

    /// Counts rows as the file has them, duplicates too.
    pub(crate) fn add_rows(&mut self, file: FileId, list: Option<Severity>, rows: u64) {
        let at = list.map_or(Severity::COUNT, |severity| severity as usize);
        self.rows.entry(file).or_default()[at] += rows;
    }

    #[inline]
    fn service(&mut self, name: &str) -> usize {
        if self.services.get(self.last).is_none_or(|(last, _)| last != name) {
            // Most exports are of a few services, whose entries alternate.
            let near = self.services.iter().take(4).position(|(known, _)| known == name);
            self.last = near.unwrap_or_else(|| self.find_service(name));
        }
        self.last
    }

    fn find_service(&mut self, name: &str) -> usize {
        if let Some(at) = self.index.get(name) {
            return *at;
        }
        let name = if self.services.len() < MAX_SERVICES {
            name
        } else {
            self.services_beyond += 1;
            if let Some(at) = self.index.get("") {
                return *at;
            }
            ""
        };
        self.services.push((name.to_owned(), <[Cell; Severity::COUNT]>::default()));
        self.index.insert(name.to_owned(), self.services.len() - 1);
        self.services.len() - 1
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (name, cells) in &other.services {
            let at = self.find_service(name);
            for (mine, theirs) in self.services[at].1.iter_mut().zip(cells) {
                mine.held.merge(&theirs.held);
                mine.completed += theirs.completed;
            }
        }
        for (file, rows) in &other.rows {
            let mine = self.rows.entry(*file).or_default();
            for (mine, theirs) in mine.iter_mut().zip(rows) {
                *mine += theirs;
            }
        }
        self.templates.merge(&other.templates);
        self.without_time += other.without_time;
        self.summaries += other.summaries;
        self.test_results += other.test_results;
        self.cut_messages += other.cut_messages;
        self.services_beyond += other.services_beyond;
        self.zone_assumed += other.zone_assumed;
        self.duplicates += other.duplicates;
        self.broken += other.broken;
        self.not_entries += other.not_entries;
    }

    /// The coverage that all threads' parts make.
    pub(crate) fn finish(self, claimed: Vec<(FileId, Window)>, ids_beyond: u64) -> Coverage {
        let mut coverage = Coverage {
            duplicates: self.duplicates,
            without_time: self.without_time,
            zone_assumed: self.zone_assumed,
            summaries: self.summaries,
            test_results: self.test_results,
            cut_messages: self.cut_messages,
            broken: self.broken,
            not_entries: self.not_entries,
            row_limits: row_limits(&self.rows),
            claimed,
            templates: self.templates.distinct(),
            ..Coverage::default()
        };
        for (name, cells) in self.services {
            for (severity, Cell { mut held, completed }) in Severity::ALL.into_iter().zip(cells) {
                if held.entries == 0 {
                    continue;
                }
                held.without_payload = held.without_payload.saturating_sub(completed);
                coverage.all.merge(&held);
                coverage.severities.entry(severity).or_default().merge(&held);
                coverage.services.entry(name.clone()).or_default().insert(severity, held);
            }
        }
        let mut say = |many: u64, text: String| {
            if many > 0 {
                coverage.approximations.push(text);
            }
        };
        say(
            ids_beyond,
            format!(
                "duplicates are found among the first {MAX_IDS} ids; {ids_beyond} more were taken as new"
            ),
        );
        say(
            self.templates.beyond(),
            format!(
                "message templates beyond {} were not told apart ({} entries)",
                Templates::MAX,
                self.templates.beyond()
            ),
        );
        say(
            self.services_beyond,
            format!("services beyond {MAX_SERVICES} are counted without their names"),
        );
        coverage
    }
}

fn row_limits(rows: &BTreeMap<FileId, [u64; Severity::COUNT + 1]>) -> Vec<RowLimit> {
    let mut limits = Vec::new();
    for (file, rows) in rows {
        let lists = Severity::ALL.into_iter().map(Some).chain([None]).zip(rows);
        limits.extend(
            lists.filter(|(_, rows)| LIMITS.contains(rows)).map(|(severity, rows)| RowLimit {
                file: *file,
                severity,
                rows: *rows,
            }),
        );
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_exactly_fifty_or_a_thousand_rows_was_probably_cut() {
        let mut tally = Tally::default();
        tally.add_rows(FileId(0), Some(Severity::Error), 50);
        tally.add_rows(FileId(0), Some(Severity::Notice), 13);
        tally.add_rows(FileId(1), None, 1000);
        tally.add_rows(FileId(2), None, 107);
        let limits = tally.finish(Vec::new(), 0).row_limits;
        assert_eq!(
            limits,
            [
                RowLimit { file: FileId(0), severity: Some(Severity::Error), rows: 50 },
                RowLimit { file: FileId(1), severity: None, rows: 1000 },
            ]
        );
    }
}
