//! From layers of text to one environment: merge, scale, check, report every error.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::Environment;
use super::error::{LoadError, LoadErrors};
use super::scale::TimeScale;
use super::tables::{Identity, Lab, Tier};
use super::url::DatabaseUrl;
use crate::credentials::Credentials;
use crate::redact::Redactor;

/// One TOML text, and where it came from.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its path, or another name to report errors under.
    pub origin: String,
    /// The text.
    pub text: String,
}

/// Everything an environment is made of. Later layers win over earlier ones, `variables` over
/// layers, `overrides` over all.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// TOML texts.
    pub layers: Vec<Layer>,
    /// The process environment, as pairs. Only the strategy's variables are looked at.
    pub variables: Vec<(String, String)>,
    /// `key.path=value`, as given with `--set`.
    pub overrides: Vec<String>,
}

/// Checks and completes one table: the user's table and the time scale in, the resolved table and
/// the errors (path inside the table, message) out.
pub type CheckTable = fn(Table, TimeScale) -> (Table, Vec<(String, String)>);

/// Who owns which tables besides core's.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// Section name to check.
    pub sections: BTreeMap<&'static str, CheckTable>,
    /// `probes`, `monitors`, `safety_checks`: item id to check.
    pub items: BTreeMap<(&'static str, &'static str), CheckTable>,
}

/// A loaded environment.
#[derive(Debug)]
pub struct Loaded {
    /// The environment.
    pub environment: Environment,
    /// Secrets that came inside a URL, by credential name.
    pub secrets: Credentials,
    /// What a person should know: tables without an owner, keys without effect.
    pub notes: Vec<String>,
}

/// The strategy's variables and the keys they set. Outside this table no variable has an effect.
const VARIABLES: &[(&str, &str)] = &[
    ("GCP_PROJECT", "environment.project"),
    ("STAGING_BACKEND_URL", "services.backend.url"),
    ("STAGING_AUTH_URL", "services.auth.url"),
    ("STAGING_FRONTEND_URL", "services.frontend.url"),
    ("STAGING_WEBSOCKET_URL", "services.backend.websocket"),
    ("POSTGRES_HOST", "database.host"),
    ("POSTGRES_PORT", "database.port"),
    ("POSTGRES_DB", "database.name"),
    ("POSTGRES_USER", "database.user"),
    ("POSTGRES_SSL_MODE", "database.ssl_mode"),
    ("GOOGLE_APPLICATION_CREDENTIALS", "credentials.google.file"),
];

/// Variables that hold a secret: the key that refers to them by name.
const SECRET_VARIABLES: &[(&str, &str)] = &[
    ("POSTGRES_PASSWORD", "credentials.database.env"),
    ("STAGING_API_KEY", "credentials.api_key.env"),
];

/// The origin of what stands on the command line.
const OVERRIDE: &str = "--set";

/// Tables of tables owned item by item.
const ITEM_TABLES: &[&str] = &["probes", "monitors", "safety_checks"];

/// Merges and checks `source`. Pure: no file, no variable, no clock is read.
///
/// # Errors
///
/// Every error of every table at once, each naming its file and line, its key and the remedy.
pub fn load(source: &Source, owners: &Owners) -> Result<Loaded, LoadErrors> {
    let mut loader = Loader { redactor: Redactor::default(), ..Loader::default() };
    for layer in &source.layers {
        loader.layer(layer);
    }
    loader.variables(&source.variables);
    for text in &source.overrides {
        loader.set(text);
    }
    let environment = loader.environment(owners);
    if !loader.errors.is_empty() {
        return Err(LoadErrors(loader.errors));
    }
    let Loader { secrets, notes, .. } = loader;
    Ok(Loaded { environment, secrets, notes })
}

#[derive(Default)]
struct Loader {
    merged: Table,
    /// Where each leaf came from, by its path.
    origins: BTreeMap<String, String>,
    errors: Vec<LoadError>,
    notes: Vec<String>,
    secrets: Credentials,
    redactor: Redactor,
}

impl Loader {
    fn error(&mut self, origin: impl Into<String>, key: &str, message: impl Into<String>) {
        let message = self.redactor.redact(&message.into()).into_owned();
        self.errors.push(LoadError { origin: origin.into(), key: key.to_owned(), message });
    }

    fn layer(&mut self, layer: &Layer) {
        let table: Table = match layer.text.parse() {
            Ok(table) => table,
            Err(error) => {
                let at = error.span().map_or(0, |span| line_of(&layer.text, &span));
                return self.error(format!("{}:{at}", layer.origin), "", error.message());
            }
        };
        for (path, span) in spans(&layer.text) {
            let line = line_of(&layer.text, &span);
            self.origins.insert(path, format!("{}:{line}", layer.origin));
        }
        merge(&mut self.merged, table);
        self.database_url(&layer.origin);
    }

    /// Replaces `database.url` by its parts.
    fn database_url(&mut self, origin: &str) {
        let Some(Value::Table(database)) = self.merged.get_mut("database") else { return };
        let Some(url) = database.remove("url") else { return };
        let parsed = url.as_str().ok_or(()).map(str::parse::<DatabaseUrl>);
        match parsed {
            Ok(Ok(url)) if url.password.is_some() => self.error(
                origin,
                "database.url",
                "a password does not belong into a file: leave it out of the URL and name where it \
                 is found in [credentials.database] (env = \"...\" or file = \"...\")",
            ),
            Ok(Ok(url)) => self.put_url(url, origin),
            Ok(Err(error)) => self.error(origin, "database.url", error.to_string()),
            Err(()) => self.error(origin, "database.url", "expected a string"),
        }
    }

    fn put_url(&mut self, url: DatabaseUrl, origin: &str) {
        let ssl_mode = url.ssl_mode.and_then(|mode| Value::try_from(mode).ok());
        let parts = [
            ("database.host", url.host.map(Value::String)),
            ("database.port", url.port.map(|port| Value::Integer(port.into()))),
            ("database.name", url.name.map(Value::String)),
            ("database.user", url.user.map(Value::String)),
            ("database.ssl_mode", ssl_mode),
        ];
        for (key, value) in parts {
            if let Some(value) = value {
                self.put(key, value, origin);
            }
        }
        if let Some(password) = url.password {
            self.secrets.insert("database", password);
        }
    }

    fn put(&mut self, key: &str, value: Value, origin: &str) {
        let mut table = &mut self.merged;
        let path = parts(key);
        let mut parts = path.iter().peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                table.insert(part.clone(), value);
                self.origins.insert(path.join("."), origin.to_owned());
                return;
            }
            let next = table.entry(part.clone()).or_insert_with(|| Value::Table(Table::new()));
            match next {
                Value::Table(inner) => table = inner,
                _ => return self.error(origin, key, format!("`{part}` is a value, not a table")),
            }
        }
    }

    fn variables(&mut self, variables: &[(String, String)]) {
        let get = |name: &str| {
            let found = variables.iter().find(|(key, value)| key == name && !value.is_empty());
            found.map(|(_, value)| value.clone())
        };
        let ours = VARIABLES.iter().chain(SECRET_VARIABLES).map(|&(name, _)| name);
        let ours = ours.chain(["DATABASE_URL", "TESTING_MODE"]);
        if self.tier() == Some(Tier::Lab) {
            let ignored: Vec<&str> = ours.filter(|name| get(name).is_some()).collect();
            if !ignored.is_empty() {
                let names = ignored.join(", ");
                self.notes.push(format!("a lab is not redirected by variables: {names} ignored"));
            }
            return;
        }
        if let Some(url) = get("DATABASE_URL") {
            match url.parse::<DatabaseUrl>() {
                Ok(url) => self.put_url(url, "DATABASE_URL"),
                Err(error) => {
                    self.error("DATABASE_URL", "database", error.to_string());
                }
            }
        }
        for &(name, key) in VARIABLES {
            if let Some(text) = get(name) {
                let value = match text.parse::<i64>() {
                    Ok(port) if key.ends_with("port") => Value::Integer(port),
                    _ => Value::String(text),
                };
                self.put(key, value, name);
            }
        }
        for &(name, key) in SECRET_VARIABLES {
            if get(name).is_some() {
                self.put(key, Value::String(name.to_owned()), name);
            }
        }
        match get("TESTING_MODE").as_deref() {
            None => {}
            Some("staging_remote") => {
                self.put("environment.vantage", Value::String("laptop".into()), "TESTING_MODE");
            }
            Some(_) => self
                .notes
                .push("TESTING_MODE has no effect: only `staging_remote` is known".to_owned()),
        }
    }

    fn tier(&self) -> Option<Tier> {
        let tier = self.merged.get("environment")?.get("tier")?;
        tier.clone().try_into().ok()
    }

    fn set(&mut self, text: &str) {
        let Some((key, raw)) = text.split_once('=') else {
            return self.error(OVERRIDE, "", "expected key=value");
        };
        let key = key.trim();
        let last = key.rsplit('.').next().unwrap_or_default();
        let reference = matches!(last, "env" | "file" | "header" | "purpose");
        let secret_name = ["password", "secret", "token", "api_key", "url"].contains(&last)
            && (last != "url" || raw.parse::<DatabaseUrl>().is_ok_and(|u| u.password.is_some()));
        if secret_name
            || (key.starts_with("credentials.") && !reference)
            || self.redactor.finds(raw)
        {
            let message = "secrets are refused on the command line, where every process can read \
                           them: use an environment variable or a file and name it with \
                           credentials.NAME.env or credentials.NAME.file";
            return self.error(OVERRIDE, key, message);
        }
        if parts(key).iter().any(String::is_empty) {
            return self.error(OVERRIDE, key, "expected a key path such as database.port");
        }
        let value = format!("v = {raw}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("v"))
            .unwrap_or_else(|| Value::String(raw.to_owned()));
        self.put(key, value, OVERRIDE);
        self.database_url(OVERRIDE);
    }

    fn environment(&mut self, owners: &Owners) -> Environment {
        let mut merged = std::mem::take(&mut self.merged);
        let lab: Lab = self.table(&mut merged, "lab", TimeScale::default(), &mut Table::new());
        let scale = lab.time_scale;
        let mut resolved = Table::new();
        let out = &mut resolved;
        let identity: Identity = self.table(&mut merged, "environment", scale, out);
        if identity.tier != Tier::Lab && lab != Lab::default() {
            let tier = identity.tier.as_str();
            self.error(
                self.origin("lab"),
                "lab",
                format!("only a lab has this table, and the tier is `{tier}`: remove it"),
            );
        }
        let database = merged.contains_key("database");
        let mut environment = Environment {
            database: Some(self.table(&mut merged, "database", scale, out)).filter(|_| database),
            services: self.entries(&mut merged, "services", scale, out),
            network: self.table(&mut merged, "network", scale, out),
            load_balancer: self.table(&mut merged, "load_balancer", scale, out),
            tls: self.table(&mut merged, "tls", scale, out),
            credentials: self.entries(&mut merged, "credentials", scale, out),
            safety: self.table(&mut merged, "safety", scale, out),
            monitoring: self.table(&mut merged, "monitoring", scale, out),
            results: self.table(&mut merged, "results", scale, out),
            identity,
            lab,
            resolved: Table::new(),
            consent: super::Consent::default(),
        };
        if !database {
            resolved.remove("database");
        }
        self.sections(&mut merged, scale, owners, &mut resolved);
        self.check(&environment);
        environment.resolved = resolved;
        environment
    }

    /// Checks that span tables.
    fn check(&mut self, environment: &Environment) {
        use super::tables::SslMode::{Disable, Prefer};
        self.ceilings(environment);
        let Some(database) = &environment.database else { return };
        if database.host.is_empty() {
            let message = "missing: a host name, an address, or a socket directory such as \
                           /cloudsql/PROJECT:REGION:INSTANCE";
            self.error(self.origin("database"), "database.host", message);
        }
        if database.is_socket() && !matches!(database.ssl_mode, Disable | Prefer) {
            let note = "database.ssl_mode is ignored over a Unix socket, as libpq does: the Auth \
                        Proxy encrypts the way from the socket to the instance";
            self.notes.push(note.to_owned());
        }
        if let Some(path) = database.socket_path().filter(|path| path.len() > 103) {
            let message = format!(
                "the socket's path `{path}` has {} bytes and 103 are the most that every system \
                 accepts: choose a shorter directory",
                path.len()
            );
            self.error(self.origin("database.host"), "database.host", message);
        }
    }

    /// What a target that others use bears at once is raised by a person for one run, never by a file.
    fn ceilings(&mut self, environment: &Environment) {
        if environment.identity.tier == Tier::Lab {
            return;
        }
        for (name, asked, most) in environment.safety.raised() {
            let key = format!("safety.{name}");
            let origin = self.origin(&key);
            if origin != OVERRIDE {
                let message = format!(
                    "{asked} is more than {most}, the most outside a lab: raise it for one run with \
                     {OVERRIDE} {key}={asked}"
                );
                self.error(origin, &key, message);
            }
        }
    }

    fn sections(&mut self, merged: &mut Table, scale: TimeScale, owners: &Owners, out: &mut Table) {
        for (&name, check) in &owners.sections {
            let user = self.take(merged, name);
            let (table, errors) = check(user, scale);
            self.report(name, errors);
            out.insert(name.to_owned(), Value::Table(table));
        }
        for &group in ITEM_TABLES {
            let mut users = self.take(merged, group);
            let mut items = Table::new();
            for (&(_, id), check) in owners.items.iter().filter(|((g, _), _)| *g == group) {
                let user = self.take(&mut users, id);
                let (table, errors) = check(user, scale);
                self.report(&format!("{group}.{id}"), errors);
                items.insert(id.to_owned(), Value::Table(table));
            }
            for id in users.keys() {
                self.notes.push(format!("[{group}.\"{id}\"] has no owner in this binary: ignored"));
            }
            out.insert(group.to_owned(), Value::Table(items));
        }
        let known: Vec<&str> = out.keys().map(String::as_str).collect();
        let known = known.join(", ");
        for name in merged.keys() {
            let origin = self.origin(name);
            self.notes.push(format!(
                "[{name}] ({origin}) has no owner in this binary and is not checked; known tables: {known}"
            ));
        }
        // A program that embeds one probe without registry still reads the probe's section.
        scale.table(merged);
        out.extend(std::mem::take(merged));
    }

    fn take(&mut self, merged: &mut Table, name: &str) -> Table {
        match merged.remove(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.error(self.origin(name), name, format!("expected a table [{name}]"));
                Table::new()
            }
        }
    }

    fn table<T>(&mut self, merged: &mut Table, name: &str, scale: TimeScale, out: &mut Table) -> T
    where
        T: Serialize + DeserializeOwned + Default,
    {
        let user = self.take(merged, name);
        let (table, value, errors) = resolve::<T>(user, scale);
        self.report(name, errors);
        out.insert(name.to_owned(), Value::Table(table));
        value
    }

    fn entries<T>(
        &mut self,
        merged: &mut Table,
        name: &str,
        scale: TimeScale,
        out: &mut Table,
    ) -> BTreeMap<String, T>
    where
        T: Serialize + DeserializeOwned + Default,
    {
        let mut users = self.take(merged, name);
        let mut tables = Table::new();
        let names: Vec<String> = users.keys().cloned().collect();
        let mut entries = BTreeMap::new();
        for key in names {
            let user = match users.remove(&key) {
                Some(Value::Table(user)) => user,
                _ => {
                    let path = format!("{name}.{key}");
                    self.error(self.origin(&path), &path, format!("expected a table [{path}]"));
                    continue;
                }
            };
            let (table, value, errors) = resolve::<T>(user, scale);
            self.report(&format!("{name}.{key}"), errors);
            tables.insert(key.clone(), Value::Table(table));
            entries.insert(key, value);
        }
        out.insert(name.to_owned(), Value::Table(tables));
        entries
    }

    fn report(&mut self, table: &str, errors: Vec<(String, String)>) {
        for (path, message) in errors {
            let key = if path.is_empty() { table.to_owned() } else { format!("{table}.{path}") };
            self.error(self.origin(&key), &key, message);
        }
    }

    /// Where a key was written: the longest known prefix of its path.
    fn origin(&self, key: &str) -> String {
        let mut key = key;
        loop {
            if let Some(origin) = self.origins.get(key) {
                return origin.clone();
            }
            match key.rfind(['.', '[']) {
                Some(end) => key = &key[..end],
                None => return "the environment".to_owned(),
            }
        }
    }
}

/// Completes a user's table with the defaults of `T`, scales it and reads it, collecting every
/// error: a key that does not fit is set aside and the rest is tried again.
pub(crate) fn resolve<T>(user: Table, scale: TimeScale) -> (Table, T, Vec<(String, String)>)
where
    T: Serialize + DeserializeOwned + Default,
{
    let defaults = to_table(&T::default());
    let mut table = defaults.clone();
    merge(&mut table, user);
    scale.table(&mut table);
    let mut errors = Vec::new();
    loop {
        match Value::Table(table.clone()).try_into::<T>() {
            Ok(value) => return (to_table(&value), value, errors),
            Err(error) => {
                let message = error.message().trim().to_owned();
                let mut path = place(&error);
                if let Some(field) = unknown_field(&message)
                    && !path.ends_with(field)
                {
                    path =
                        if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
                }
                let removed = remove(&mut table, &path);
                errors.push((path, message));
                if !removed {
                    return (defaults, T::default(), errors);
                }
            }
        }
    }
}

/// The dotted key an error is about, empty for the table itself. Only its display tells it.
fn place(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let said = text.strip_prefix(error.message()).unwrap_or_default().trim();
    let keys = said.strip_prefix("in `").and_then(|keys| keys.strip_suffix('`'));
    keys.unwrap_or_default().to_owned()
}

fn unknown_field(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

fn remove(table: &mut Table, path: &str) -> bool {
    let first = path.split(['.', '[']).next().unwrap_or_default();
    let rest = path.strip_prefix(first).unwrap_or_default();
    match (table.get_mut(first), rest.strip_prefix('.')) {
        (Some(Value::Table(inner)), Some(rest)) if !inner.contains_key("value") => {
            remove(inner, rest) || table.remove(first).is_some()
        }
        (Some(_), _) => table.remove(first).is_some(),
        (None, _) => false,
    }
}

fn to_table<T: Serialize>(value: &T) -> Table {
    Table::try_from(value).unwrap_or_default()
}

/// Puts `over` on top of `under`. A table with a `value` key is one setting, not a table.
fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over))
                if !over.contains_key("value") && !under.contains_key("value") =>
            {
                merge(under, over);
            }
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    text.get(..span.start).map_or(0, |before| before.matches('\n').count() + 1)
}

/// Where every key of a TOML text stands.
/// The parts of a dotted key, as TOML has it: `probes."vpc.throughput".transfer_bytes` has three.
fn parts(key: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = None;
    for c in key.chars() {
        match (c, quoted) {
            ('"' | '\'', None) => quoted = Some(c),
            (_, Some(quote)) if c == quote => quoted = None,
            ('.', None) => parts.push(String::new()),
            _ => {
                if let Some(part) = parts.last_mut() {
                    part.push(c);
                }
            }
        }
    }
    parts
}

fn spans(text: &str) -> Vec<(String, Range<usize>)> {
    fn walk(table: &toml::de::DeTable<'_>, prefix: &str, spans: &mut Vec<(String, Range<usize>)>) {
        for (key, value) in table {
            let path = match prefix {
                "" => key.get_ref().to_string(),
                prefix => format!("{prefix}.{}", key.get_ref()),
            };
            spans.push((path.clone(), key.span()));
            if let toml::de::DeValue::Table(inner) = value.get_ref() {
                walk(inner, &path, spans);
            }
        }
    }
    let mut found = Vec::new();
    if let Ok(table) = toml::de::DeTable::parse(text) {
        walk(table.get_ref(), "", &mut found);
    }
    found
}

#[cfg(test)]
mod tests;
