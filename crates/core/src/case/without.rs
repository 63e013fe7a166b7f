//! What an application goes on without, in its own words.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, GOES_ON, Hit};

/// Shorter parts of a setting's name say little of what it is for.
const NAME: usize = 5;
/// A line that says so stands at most this much after the one it is about, in milliseconds.
const BESIDE_MS: i64 = 2000;
/// Lines about one thing follow each other so soon, in milliseconds.
const NEXT_MS: i64 = 20;

impl<'e> Hit<'e> {
    /// What it is about: its signal, and the host or the setting that it names.
    pub(super) fn about(&self) -> (&'e str, &'e str) {
        let named = ["target", "host", "setting", "other"].map(|name| self.fact.get(name));
        let named = named.into_iter().find(|name| !name.is_empty());
        (self.signal, named.unwrap_or_else(|| named_in(self.fact.get("quote"))))
    }

    /// Whether a line that stands beside it and says that the application goes on may be about the same:
    /// of a setting, which is complained of among others, only when it has a word of its name.
    fn goes_on_by(&self, words: &str) -> bool {
        let words = words.to_ascii_lowercase();
        let mut parts = self.about().1.split('_').filter(|part| part.len() >= NAME);
        self.optional() || parts.any(|part| words.contains(&part.to_ascii_lowercase()))
    }
}

impl<'e> Case<'e> {
    /// What an application says at first to go on without, or mostly, it goes on without: a line that
    /// says so, or that stands beside one that does, clears in the whole service what says the same of
    /// the same. Only of signals that say so of themselves: a module may be optional here and missing
    /// there.
    pub(super) fn tolerate(&mut self) {
        let beside = self.beside_going_on();
        let mut told: BTreeMap<(&str, &str), Vec<bool>> = BTreeMap::new();
        for (index, hit) in self.hits.iter().enumerate() {
            if !hit.fact.get("goes_on").is_empty() {
                let goes_on = hit.tolerated || beside.contains(&index);
                told.entry(hit.about()).or_default().push(goes_on);
            }
        }
        told.retain(|_, told| {
            let yes = told.iter().filter(|goes_on| **goes_on).count();
            told[0] || 2 * yes > told.len()
        });
        // Whoever dies for a setting may have gone on without it a moment before.
        let died: BTreeSet<&str> =
            self.failures().map(|(_, line, _)| line.subject.instance.as_str()).collect();
        for (index, hit) in self.hits.iter_mut().enumerate() {
            let lives = !died.contains(hit.observation.subject.instance.as_str());
            let spreads = hit.optional() || lives || beside.contains(&index);
            hit.tolerated |= spreads && told.contains_key(&hit.about());
        }
    }

    /// The hits beside which a line says that the application goes on: those that stand nearest before
    /// it, within a second or two; loggers may exchange two lines of one moment.
    fn beside_going_on(&self) -> BTreeSet<usize> {
        let ms = |hit: &Hit<'_>| hit.observation.moment.at.as_millisecond();
        let mut beside = BTreeSet::new();
        for said in self.of_kind(GOES_ON) {
            let words = said.fact.get("quote");
            let instance = said.observation.subject.instance.as_str();
            let apart = |hit: &Hit<'e>| {
                let places = hit.place().zip(said.place());
                let since = (ms(said) - ms(hit)) / NEXT_MS;
                let near = (0..=BESIDE_MS / NEXT_MS).contains(&since);
                near.then(|| places.map_or(since.unsigned_abs(), |(a, b)| a.abs_diff(b)))
            };
            let hits = self.hits.iter().enumerate().filter_map(|(index, hit)| {
                let same = hit.observation.subject.instance == instance;
                let goes_on = same && !hit.fact.get("goes_on").is_empty();
                let apart = if goes_on { apart(hit) } else { None };
                apart.filter(|_| hit.goes_on_by(words)).map(|apart| (index, apart))
            });
            let hits: Vec<(usize, u64)> = hits.collect();
            let nearest = hits.iter().map(|(_, apart)| *apart).min().unwrap_or(0);
            let near = hits.into_iter().filter(|(_, apart)| *apart <= nearest + 1);
            beside.extend(near.map(|(index, _)| index));
        }
        beside
    }
}

/// The host that a line names as an address, or who asks a server for what, else the setting that it
/// names in capitals.
fn named_in(line: &str) -> &str {
    const BEFORE: [&str; 6] = ["host='", "://", "ENOTFOUND ", "lookup ", "user \"", "database \""];
    let host = BEFORE.iter().find_map(|before| {
        let host = &line[line.find(before)? + before.len()..];
        let end = |c: char| !c.is_ascii_alphanumeric() && !".-_".contains(c);
        Some(&host[..host.find(end).unwrap_or(host.len())])
    });
    let capitals = |word: &&str| {
        word.contains('_') && word.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
    };
    let word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    host.or_else(|| line.split(word).find(capitals)).unwrap_or_default()
}
