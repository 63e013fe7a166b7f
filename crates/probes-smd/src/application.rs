//! The table `[application]`: where a start-up can be seen, and which limits it is given.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shakedown_core::environment::HealthPath;
use shakedown_core::{SectionSpec, Setting, Span};

/// `[application]`: the application whose start-up is looked at.
///
/// Three sources, each optional: log files that are followed, a process of ours to run, health
/// endpoints that are polled. How its log reads stands in `[startup]`. Loading the file runs nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Application {
    /// Its name in `[services]`, where its health is polled; what `--allow-process` calls it; what
    /// its evidence is booked to.
    pub service: String,
    /// The paths of its health endpoints. The first one that answers 200 means "it serves".
    pub health_paths: Vec<HealthPath>,
    /// Log files to read and follow: Cloud Logging entries as JSON lines, or text, one line each. A
    /// file that is not there yet is waited for.
    pub logs: Vec<String>,
    /// Only entries of this Cloud Run service; every entry where empty.
    pub log_service: String,
    /// The program and its arguments, run as it stands, without a shell and without docker. Empty:
    /// nothing is run.
    pub command: Vec<Template>,
    /// The folder it is run in.
    pub directory: String,
    /// All of its environment; nothing of ours is passed on.
    pub environment: BTreeMap<String, Template>,
    /// How many database connections it may hold at once, out of the run's budget. Default 25, the
    /// strategy's pool per instance.
    pub draws: u32,
    /// Whether it writes to the database while it starts. Outside a lab its role must then be
    /// allowed to by `--allow-app-writes`.
    pub writes: bool,
    /// How long a connection of it waits for one of ours before it is refused as a full server would.
    pub patience: Span,
    /// When a start-up that has not ended is given up. Default 240 s, the start-up probe of the
    /// observed deployment.
    pub startup_ceiling: Setting<Span>,
    /// The limits it sets itself, by name, as its configuration has them.
    pub limits: BTreeMap<String, Setting<Span>>,
    /// Which limit runs inside which other one.
    pub inside: BTreeMap<String, String>,
    /// The same limits in other environments of the same application, for comparison.
    pub limits_elsewhere: BTreeMap<String, BTreeMap<String, Setting<Span>>>,
    /// How it repeats a start-up step that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
}

impl SectionSpec for Application {
    const NAME: &'static str = "application";
    const SUMMARY: &'static str =
        "where the application's start-up can be seen, and which limits it is given";
}

#[cfg(feature = "register")]
shakedown_core::register_section!(Application);

impl Default for Application {
    fn default() -> Self {
        let within = |name: &str| (name.to_owned(), "initialization".to_owned());
        Self {
            service: "backend".into(),
            health_paths: vec![HealthPath::default()],
            logs: Vec::new(),
            log_service: String::new(),
            command: Vec::new(),
            directory: ".".into(),
            environment: BTreeMap::new(),
            draws: 25,
            writes: false,
            patience: Span::secs(5),
            startup_ceiling: Setting::assumed(
                Span::secs(240),
                "the start-up probe of the observed deployment",
            ),
            limits: BTreeMap::new(),
            inside: ["connection", "health_check", "pool", "table_setup"].map(within).into(),
            limits_elsewhere: BTreeMap::new(),
            retries: None,
        }
    }
}

/// `[application.retries]`: attempts with growing waits in between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Retries {
    /// How many attempts in all.
    pub attempts: u32,
    /// The wait after the first attempt.
    pub base: Setting<Span>,
    /// Each wait is this many times the one before.
    #[serde(default = "twice")]
    pub factor: f64,
    /// No wait is longer than this, before jitter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<Setting<Span>>,
    /// The limit of `[application.limits]` that each attempt has.
    #[serde(default = "initialization")]
    pub of: String,
}

fn twice() -> f64 {
    2.0
}

fn initialization() -> String {
    "initialization".to_owned()
}

impl Retries {
    /// All waits together, without jitter, in seconds.
    pub fn waits_s(&self) -> f64 {
        let most = self.most.as_ref().map_or(f64::INFINITY, |most| most.value.get().as_secs_f64());
        let base = self.base.value.get().as_secs_f64();
        let waits = (0..self.attempts.saturating_sub(1).min(1000))
            .map(|n| (base * self.factor.powi(i32::try_from(n).unwrap_or(i32::MAX))).min(most));
        waits.sum()
    }
}

/// The names a [`Template`] may hold.
const PLACEHOLDERS: [&str; 6] = ["port", "socket_dir", "temp_dir", "database", "user", "password"];

/// A text with placeholders: `{port}`, a free port of this machine; `{socket_dir}`, the folder of
/// the database's Unix socket, which is ours; `{temp_dir}`, a folder that is removed afterwards;
/// `{database}`, `{user}` and `{password}` of `[database]`. A brace that is none is written twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "register", schemars(with = "String"))]
#[serde(try_from = "String", into = "String")]
pub struct Template(String);

impl Template {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it holds `{name}`.
    pub fn names(&self, name: &str) -> bool {
        parts(&self.0).any(|part| part == Ok(Part::Name(name)))
    }

    /// The text with every placeholder's value.
    pub fn fill<'a>(&self, value: impl Fn(&str) -> &'a str) -> String {
        let mut out = String::with_capacity(self.0.len() + 16);
        for part in parts(&self.0) {
            match part {
                Ok(Part::Text(text)) => out.push_str(text),
                Ok(Part::Name(name)) => out.push_str(value(name)),
                Err(_) => {}
            }
        }
        out
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = parts(&text).find_map(Result::err).map(|wrong| {
            let known = PLACEHOLDERS.map(|name| format!("{{{name}}}")).join(", ");
            format!(
                "`{{{wrong}` is no placeholder: there are {known}; a brace itself is written twice"
            )
        });
        wrong.map_or(Ok(Self(text)), Err)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// The parts of a template; what follows a brace that opens no placeholder is an error.
fn parts(text: &str) -> impl Iterator<Item = Result<Part<'_>, &str>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(at) = rest.find(['{', '}']) else {
            return Some(Ok(Part::Text(std::mem::take(&mut rest))));
        };
        if at > 0 {
            let (text, after) = rest.split_at(at);
            rest = after;
            return Some(Ok(Part::Text(text)));
        }
        let brace = &rest[..1];
        if rest[1..].starts_with(brace) {
            rest = &rest[2..];
            return Some(Ok(Part::Text(brace)));
        }
        let name = rest[1..].split('}').next().unwrap_or_default();
        if brace == "{" && rest[1 + name.len()..].starts_with('}') && PLACEHOLDERS.contains(&name) {
            rest = &rest[name.len() + 2..];
            return Some(Ok(Part::Name(name)));
        }
        let wrong = &rest[1..rest.len().min(rest.floor_char_boundary(24))];
        rest = "";
        Some(Err(wrong))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_reads_and_the_default_survives_a_round_trip() {
        let text = r#"
            service = "api"
            health_paths = ["/health", "/ready"]
            logs = ["backend.jsonl"]
            log_service = "backend-staging"
            command = ["python3", "server.py", "--port={port}"]
            directory = "app"
            environment = { PGHOST = "{socket_dir}", BRACES = "{{x}}" }
            draws = 3
            writes = true
            patience = "2s"
            startup_ceiling = "60s"
            limits = { initialization = "75s", table_setup = { value = "25s", assumed = "a note" } }
            inside = { table_setup = "initialization" }
            limits_elsewhere = { production = { initialization = "90s" } }
            retries = { attempts = 5, base = "2s", most = "30s" }
        "#;
        let section: Application = toml::from_str(text).expect("valid");
        let written = toml::to_string(&section).expect("serialises");
        assert_eq!(toml::from_str::<Application>(&written).expect("valid"), section);
        let default = Application::default();
        let written = toml::to_string(&default).expect("serialises");
        assert_eq!(toml::from_str::<Application>(&written).expect("valid"), default);
        assert!(toml::from_str::<Application>("commands = []").is_err());
    }

    #[test]
    fn placeholders_are_filled_and_unknown_ones_refused() {
        let template = |text: &str| Template::try_from(text.to_owned());
        let value = |name: &str| if name == "port" { "8080" } else { "s3cr3t" };
        for (text, filled) in [
            ("plain", "plain"),
            ("{port}", "8080"),
            ("http://127.0.0.1:{port}/x", "http://127.0.0.1:8080/x"),
            ("{{port}} {password}", "{port} s3cr3t"),
            ("", ""),
        ] {
            assert_eq!(template(text).expect(text).fill(value), filled);
        }
        for wrong in ["{prot}", "{port", "a}b", "{}", "é{ü"] {
            assert!(template(wrong).is_err(), "{wrong}");
        }
        let asks = template("x{socket_dir}y").expect("valid");
        assert!(asks.names("socket_dir") && !asks.names("port"));
    }

    #[test]
    fn waits_grow_up_to_their_most() {
        let retries = |attempts, most: Option<u64>| Retries {
            attempts,
            base: Setting::stated(Span::secs(2)),
            factor: 2.0,
            most: most.map(|most| Setting::stated(Span::secs(most))),
            of: initialization(),
        };
        assert_eq!(retries(5, None).waits_s(), 2.0 + 4.0 + 8.0 + 16.0);
        assert_eq!(retries(5, Some(10)).waits_s(), 2.0 + 4.0 + 8.0 + 10.0);
        assert_eq!(retries(1, None).waits_s(), 0.0);
        assert_eq!(retries(0, None).waits_s(), 0.0);
    }
}
