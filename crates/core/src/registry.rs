//! The registry: what is linked into this binary.
//!
//! Entries are `const` and collected at link time behind the macros below. A crate that is only
//! named in `Cargo.toml` registers nothing: the linker drops it unless the binary says
//! `use acme_probes as _;`.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::classify::{CauseMeta, ClassifierMeta, ClassifierSpec, FailureClassifier};
use crate::environment::{Environment, Owners, TimeScale};
use crate::evidence::ObservationMeta;
use crate::meta::ProbeMeta;
use crate::monitor::{Monitor, MonitorMeta, MonitorSpec};
use crate::probe::{Probe, ProbeSpec};
use crate::safety::{SafetyCheck, SafetyMeta, SafetySpec};
use crate::section::SectionSpec;
use crate::signal::{LogSignal, SignalTable};

/// Where an entry was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The package.
    pub package: &'static str,
    /// The source file, as the compiler saw it.
    pub file: &'static str,
    /// The line.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Gives the JSON Schema of a configuration type.
pub type SchemaFn = fn(&mut SchemaGenerator) -> Schema;
/// Completes and checks a configuration table.
pub type CheckFn = fn(Table, TimeScale) -> (Table, Vec<(String, String)>);

fn check<T: Serialize + DeserializeOwned + Default>(
    user: Table,
    scale: TimeScale,
) -> (Table, Vec<(String, String)>) {
    let (table, _, errors) = crate::environment::resolve_table::<T>(user, scale);
    (table, errors)
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn config<T: DeserializeOwned + Default>(
    environment: &Environment,
    group: &str,
    id: &str,
) -> Result<T, toml::de::Error> {
    let table = environment.resolved.get(group).and_then(|group| group.get(id));
    table.map_or_else(|| Ok(T::default()), |table: &Value| table.clone().try_into())
}

macro_rules! configured_entry {
    ($(#[$doc:meta])* $entry:ident, $spec:ident, $object:ident, $meta:ident, $group:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $entry {
            /// The static description.
            pub meta: &'static $meta,
            /// Where it was registered.
            pub origin: Origin,
            /// Builds it for an environment that has been loaded with this registry.
            pub build: fn(&Environment) -> Result<Box<dyn $object>, toml::de::Error>,
            /// The JSON Schema of its configuration.
            pub schema: SchemaFn,
            /// Completes and checks its configuration table.
            pub check: CheckFn,
        }

        impl $entry {
            /// The entry of `T`.
            pub const fn of<T: $spec>(origin: Origin) -> Self
            where
                T::Config: JsonSchema,
            {
                fn build<T: $spec>(
                    environment: &Environment,
                ) -> Result<Box<dyn $object>, toml::de::Error> {
                    let config = config::<T::Config>(environment, $group, T::META.id)?;
                    Ok(Box::new(T::from_config(config)))
                }
                Self {
                    meta: &T::META,
                    origin,
                    build: build::<T>,
                    schema: schema::<T::Config>,
                    check: check::<T::Config>,
                }
            }
        }

        inventory::collect!($entry);
    };
}

configured_entry!(
    /// A registered probe.
    ProbeEntry, ProbeSpec, Probe, ProbeMeta, "probes"
);
configured_entry!(
    /// A registered monitor.
    MonitorEntry, MonitorSpec, Monitor, MonitorMeta, "monitors"
);
configured_entry!(
    /// A registered safety check.
    SafetyEntry, SafetySpec, SafetyCheck, SafetyMeta, "safety_checks"
);

/// A registered classifier.
#[derive(Clone, Copy, Debug)]
pub struct ClassifierEntry {
    /// The static description.
    pub meta: &'static ClassifierMeta,
    /// Where it was registered.
    pub origin: Origin,
    /// Builds it.
    pub build: fn() -> Box<dyn FailureClassifier>,
}

impl ClassifierEntry {
    /// The entry of `T`.
    pub const fn of<T: ClassifierSpec>(origin: Origin) -> Self {
        Self { meta: &T::META, origin, build: || Box::new(T::default()) }
    }
}

inventory::collect!(ClassifierEntry);

/// A registered configuration table.
#[derive(Clone, Copy, Debug)]
pub struct SectionEntry {
    /// The table's name.
    pub name: &'static str,
    /// What it describes.
    pub summary: &'static str,
    /// Where it was registered.
    pub origin: Origin,
    /// Its JSON Schema.
    pub schema: SchemaFn,
    /// Completes and checks it.
    pub check: CheckFn,
}

impl SectionEntry {
    /// The entry of `T`.
    pub const fn of<T: SectionSpec + JsonSchema>(origin: Origin) -> Self {
        Self { name: T::NAME, summary: T::SUMMARY, origin, schema: schema::<T>, check: check::<T> }
    }
}

inventory::collect!(SectionEntry);

/// A registered table of log signals.
#[derive(Clone, Copy, Debug)]
pub struct SignalEntry {
    /// The table.
    pub table: &'static SignalTable,
    /// Where it was registered.
    pub origin: Origin,
}

inventory::collect!(SignalEntry);

/// A registered cause, symptom or observation kind: a name with its description.
#[derive(Clone, Copy, Debug)]
pub struct TermEntry {
    /// What it is.
    pub term: Term,
    /// Where it was registered.
    pub origin: Origin,
}

/// The description of a name of an open set.
#[derive(Clone, Copy, Debug)]
pub enum Term {
    /// A cause or a symptom.
    Cause(&'static CauseMeta),
    /// An observation kind.
    Observation(&'static ObservationMeta),
}

impl Term {
    /// The name.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Cause(meta) => meta.id,
            Self::Observation(meta) => meta.kind.as_str(),
        }
    }
}

inventory::collect!(TermEntry);

/// Two entries with one id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {what} `{id}` is registered twice: at {first} and at {second}; ids are never reused, rename one"
)]
pub struct DuplicateId {
    what: &'static str,
    id: String,
    first: String,
    second: String,
}

/// Everything linked into a binary, sorted by id.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    probes: BTreeMap<&'static str, ProbeEntry>,
    monitors: BTreeMap<&'static str, MonitorEntry>,
    safety_checks: BTreeMap<&'static str, SafetyEntry>,
    classifiers: BTreeMap<&'static str, ClassifierEntry>,
    sections: BTreeMap<&'static str, SectionEntry>,
    signals: BTreeMap<&'static str, SignalEntry>,
    terms: BTreeMap<&'static str, TermEntry>,
}

/// Entries by hand, for tests and embedders.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// Probes.
    pub probes: Vec<ProbeEntry>,
    /// Monitors.
    pub monitors: Vec<MonitorEntry>,
    /// Safety checks.
    pub safety_checks: Vec<SafetyEntry>,
    /// Classifiers.
    pub classifiers: Vec<ClassifierEntry>,
    /// Sections.
    pub sections: Vec<SectionEntry>,
    /// Tables of log signals.
    pub signals: Vec<SignalEntry>,
    /// Causes, symptoms and observation kinds.
    pub terms: Vec<TermEntry>,
}

impl Registry {
    /// What the linker collected.
    ///
    /// # Errors
    ///
    /// [`DuplicateId`] naming both places.
    pub fn linked() -> Result<Self, DuplicateId> {
        Self::from_entries(Entries {
            probes: inventory::iter::<ProbeEntry>().copied().collect(),
            monitors: inventory::iter::<MonitorEntry>().copied().collect(),
            safety_checks: inventory::iter::<SafetyEntry>().copied().collect(),
            classifiers: inventory::iter::<ClassifierEntry>().copied().collect(),
            sections: inventory::iter::<SectionEntry>().copied().collect(),
            signals: inventory::iter::<SignalEntry>().copied().collect(),
            terms: inventory::iter::<TermEntry>().copied().collect(),
        })
    }

    /// A registry of exactly these entries.
    ///
    /// # Errors
    ///
    /// [`DuplicateId`] naming both places.
    pub fn from_entries(entries: Entries) -> Result<Self, DuplicateId> {
        Ok(Self {
            probes: index("probe", entries.probes, |e| (e.meta.id, e.origin))?,
            monitors: index("monitor", entries.monitors, |e| (e.meta.id, e.origin))?,
            safety_checks: index("safety check", entries.safety_checks, |e| (e.meta.id, e.origin))?,
            classifiers: index("classifier", entries.classifiers, |e| (e.meta.id, e.origin))?,
            sections: index("section", entries.sections, |e| (e.name, e.origin))?,
            signals: index("signal table", entries.signals, |e| (e.table.name, e.origin))?,
            terms: index("term", entries.terms, |e| (e.term.id(), e.origin))?,
        })
    }

    /// The probes, by id.
    pub fn probes(&self) -> impl Iterator<Item = &ProbeEntry> {
        self.probes.values()
    }

    /// The monitors, by id.
    pub fn monitors(&self) -> impl Iterator<Item = &MonitorEntry> {
        self.monitors.values()
    }

    /// The safety checks, by id.
    pub fn safety_checks(&self) -> impl Iterator<Item = &SafetyEntry> {
        self.safety_checks.values()
    }

    /// The classifiers, by id.
    pub fn classifiers(&self) -> impl Iterator<Item = &ClassifierEntry> {
        self.classifiers.values()
    }

    /// The sections, by name.
    pub fn sections(&self) -> impl Iterator<Item = &SectionEntry> {
        self.sections.values()
    }

    /// The log signals of all tables, tables by name.
    pub fn signals(&self) -> impl Iterator<Item = &'static LogSignal> {
        self.signals.values().flat_map(|entry| entry.table.signals)
    }

    /// The tables of log signals, by name.
    pub fn signal_tables(&self) -> impl Iterator<Item = &SignalEntry> {
        self.signals.values()
    }

    /// The registered causes, symptoms and observation kinds, by name.
    pub fn terms(&self) -> impl Iterator<Item = &TermEntry> {
        self.terms.values()
    }

    /// One probe.
    pub fn probe(&self, id: &str) -> Option<&ProbeEntry> {
        self.probes.get(id)
    }

    /// Who owns which tables, for [`environment::load`](crate::environment::load).
    pub fn owners(&self) -> Owners {
        let probes = self.probes().map(|e| (("probes", e.meta.id), e.check));
        let monitors = self.monitors().map(|e| (("monitors", e.meta.id), e.check));
        let safety = self.safety_checks().map(|e| (("safety_checks", e.meta.id), e.check));
        Owners {
            sections: self.sections().map(|e| (e.name, e.check)).collect(),
            items: probes.chain(monitors).chain(safety).collect(),
        }
    }
}

fn index<E>(
    what: &'static str,
    entries: Vec<E>,
    key: impl Fn(&E) -> (&'static str, Origin),
) -> Result<BTreeMap<&'static str, E>, DuplicateId> {
    let mut map: BTreeMap<&'static str, E> = BTreeMap::new();
    for entry in entries {
        let (id, origin) = key(&entry);
        if let Some(earlier) = map.get(id) {
            let mut places = [key(earlier).1.to_string(), origin.to_string()];
            places.sort();
            let [first, second] = places;
            return Err(DuplicateId { what, id: id.to_owned(), first, second });
        }
        map.insert(id, entry);
    }
    Ok(map)
}

/// Where the macro is called.
#[doc(hidden)]
#[macro_export]
macro_rules! __origin {
    () => {
        $crate::registry::Origin {
            package: ::core::env!("CARGO_PKG_NAME"),
            file: ::core::file!(),
            line: ::core::line!(),
        }
    };
}

/// Registers a [`ProbeSpec`](crate::ProbeSpec).
#[macro_export]
macro_rules! register_probe {
    ($ty:ty) => {
        $crate::__private::inventory::submit! {
            $crate::registry::ProbeEntry::of::<$ty>($crate::__origin!())
        }
    };
}

/// Registers a [`MonitorSpec`](crate::MonitorSpec).
#[macro_export]
macro_rules! register_monitor {
    ($ty:ty) => {
        $crate::__private::inventory::submit! {
            $crate::registry::MonitorEntry::of::<$ty>($crate::__origin!())
        }
    };
}

/// Registers a [`SafetySpec`](crate::SafetySpec).
#[macro_export]
macro_rules! register_safety_check {
    ($ty:ty) => {
        $crate::__private::inventory::submit! {
            $crate::registry::SafetyEntry::of::<$ty>($crate::__origin!())
        }
    };
}

/// Registers a [`ClassifierSpec`](crate::ClassifierSpec).
#[macro_export]
macro_rules! register_classifier {
    ($ty:ty) => {
        $crate::__private::inventory::submit! {
            $crate::registry::ClassifierEntry::of::<$ty>($crate::__origin!())
        }
    };
}

/// Registers a [`SectionSpec`](crate::SectionSpec).
#[macro_export]
macro_rules! register_section {
    ($ty:ty) => {
        $crate::__private::inventory::submit! {
            $crate::registry::SectionEntry::of::<$ty>($crate::__origin!())
        }
    };
}

/// Registers a cause or a symptom by its [`CauseMeta`](crate::classify::CauseMeta) constant.
#[macro_export]
macro_rules! register_cause {
    ($meta:expr) => {
        $crate::__private::inventory::submit! {
            $crate::registry::TermEntry {
                term: $crate::registry::Term::Cause(&$meta),
                origin: $crate::__origin!(),
            }
        }
    };
}

/// Registers an observation kind by its [`ObservationMeta`](crate::evidence::ObservationMeta)
/// constant.
#[macro_export]
macro_rules! register_observation {
    ($meta:expr) => {
        $crate::__private::inventory::submit! {
            $crate::registry::TermEntry {
                term: $crate::registry::Term::Observation(&$meta),
                origin: $crate::__origin!(),
            }
        }
    };
}

/// Registers a [`SignalTable`](crate::signal::SignalTable) constant.
#[macro_export]
macro_rules! register_signal {
    ($table:expr) => {
        $crate::__private::inventory::submit! {
            $crate::registry::SignalEntry { table: &$table, origin: $crate::__origin!() }
        }
    };
}
