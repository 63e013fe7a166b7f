//! What was asked and answered, per path and status.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::{Equivalent, HashMap};
use shakedown_core::attempt::{Quote, RequestKind, Traffic};
use shakedown_core::redact::{quotable, quotable_part};

use super::SourceName;
use super::line::{Counted, Line, line_of, request_kind, source};
use crate::entry::Entry;
use crate::signals::AccessLine;

/// Paths told apart per service.
const PATHS: usize = 256;
/// Minutes told apart per path and status: four hours.
const MINUTES: usize = 240;

/// The answers of one service.
#[derive(Debug, Default)]
pub(super) struct Answers(HashMap<Answer<String>, Given>);

/// One kind of answer. The path is as the entry has it, cut to what can be quoted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Answer<P> {
    request: RequestKind,
    access: bool,
    browser: bool,
    status: u16,
    path: P,
}

impl Equivalent<Answer<String>> for Answer<&str> {
    fn equivalent(&self, key: &Answer<String>) -> bool {
        let Answer { request, access, browser, status, ref path } = *key;
        (self.request, self.access, self.browser, self.status, self.path)
            == (request, access, browser, status, path)
    }
}

impl From<Answer<&str>> for Answer<String> {
    fn from(Answer { request, access, browser, status, path }: Answer<&str>) -> Self {
        Self { request, access, browser, status, path: path.to_owned() }
    }
}

/// How often it was given, in which minutes, and the first time in the entry's words.
#[derive(Debug, Default)]
struct Given {
    counted: Counted,
    sample: Option<Line>,
    minutes: Minutes,
}

/// The minutes of what may be failures; none once they are too many.
#[derive(Debug, Default)]
struct Minutes {
    of: BTreeSet<i64>,
    last: Option<i64>,
    over: bool,
}

impl Minutes {
    fn add(&mut self, minute: i64) {
        if self.over || self.last.replace(minute) == Some(minute) {
            return;
        }
        self.of.insert(minute);
        if self.of.len() > MINUTES {
            self.over = true;
            self.of.clear();
        }
    }

    fn merge(&mut self, other: Self) {
        if other.over {
            *self = other;
            return;
        }
        for minute in other.of {
            self.add(minute);
        }
    }
}

impl Given {
    fn merge(&mut self, other: Self) {
        self.minutes.merge(other.minutes);
        self.counted.add(other.counted.count, other.counted.first, other.counted.last);
        self.sample = self.sample.take().into_iter().chain(other.sample).min();
    }
}

impl Answers {
    /// Takes the answer an entry is about, if it is.
    pub(super) fn take(&mut self, entry: &Entry<'_>, access: Option<AccessLine<'_>>) {
        let (method, path, status, websocket, access) = match (&entry.http, access) {
            (Some(http), _) if http.status > 0 => {
                (&*http.method, http.path(), http.status, false, false)
            }
            (_, Some(line)) => (line.method, line.path, line.status, line.websocket, true),
            _ => return,
        };
        // Who else asks gives its own name.
        let agent = entry.http.as_ref().map_or("", |http| &*http.user_agent);
        let by_browser = agent.is_empty() || agent.starts_with("Mozilla/");
        let request = match request_kind(path) {
            _ if websocket => RequestKind::Websocket,
            RequestKind::Other if method == "OPTIONS" && by_browser => RequestKind::Preflight,
            kind => kind,
        };
        let changes = matches!(method, "POST" | "PUT" | "PATCH" | "DELETE");
        let browser = request == RequestKind::Other && changes && by_browser;
        let path = quotable_part(path);
        let mut answer = Answer { request, access, browser, status, path };
        if self.0.len() >= PATHS && !self.0.contains_key(&answer) {
            answer.path = "";
        }
        let Given { counted, sample, minutes } = match self.0.get_mut(&answer) {
            Some(given) => given,
            None => self.0.entry(answer.into()).or_default(),
        };
        counted.add(entry.repeat.max(1), entry.time, entry.time);
        if let Some(time) = entry.time.filter(|_| status >= 400) {
            minutes.add(time.as_second().div_euclid(60));
        }
        if sample.as_ref().is_some_and(|sample| sample.at < entry.time) {
            return;
        }
        let words = match &entry.http {
            Some(http) if entry.message.is_empty() => format!("{} {path} {status}", http.method),
            Some(http) => format!("{} {path} {status}: {}", http.method, entry.message),
            None => entry.message.to_string(),
        };
        let line = line_of(entry, words.trim());
        if sample.as_ref().is_none_or(|sample| line < *sample) {
            *sample = Some(line);
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (answer, given) in other.0 {
            self.0.entry(answer).or_default().merge(given);
        }
    }

    /// The answers, in order. Paths that differ only in what is not quoted are one.
    pub(super) fn finish(self, names: &SourceName<'_>) -> Vec<Traffic> {
        let mut quoted: BTreeMap<Answer<String>, Given> = BTreeMap::new();
        for (mut answer, given) in self.0 {
            answer.path = quotable(&answer.path);
            quoted.entry(answer).or_default().merge(given);
        }
        let traffic =
            quoted.into_iter().map(|(answer, Given { counted, sample, minutes })| Traffic {
                request: answer.request,
                path: answer.path,
                access: answer.access,
                browser: answer.browser,
                status: answer.status,
                count: counted.count,
                first: counted.first,
                last: counted.last,
                minutes: minutes.of.into_iter().collect(),
                quote: sample.map_or_else(Quote::default, |line| Quote {
                    at: line.at,
                    source: source(names, &line),
                    text: line.text,
                }),
            });
        traffic.collect()
    }
}
