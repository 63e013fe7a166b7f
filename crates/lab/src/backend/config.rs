//! What the backend is told by its environment, as a container of Cloud Run is.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use shakedown_core::Span;

/// Everything the process reads from its environment. It knows faults, never scenarios.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// `PORT`, default 8000. 0 takes a free one.
    pub(crate) port: u16,
    /// `LAB_APP=auth`: the auth service instead of the backend.
    pub(crate) is_auth: bool,
    /// `ENVIRONMENT`, default `staging`: the word in messages.
    pub(crate) environment: String,
    pub(crate) database: Database,
    pub(crate) redis: Redis,
    pub(crate) limits: Limits,
    pub(crate) retries: Option<Retries>,
    pub(crate) faults: Faults,
    /// `LAB_JWT_SECRET`: what tokens are signed with (HS256).
    pub(crate) jwt_secret: Option<SecretString>,
    /// All variables, for code beside this file.
    pub(crate) variables: Variables,
}

/// The process's environment; values may be secrets, so it never shows them.
#[derive(Clone, Default)]
pub(crate) struct Variables(BTreeMap<String, String>);

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Variables {
    /// The value, when it is there and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn parse<T: FromStr>(&self, name: &str, default: T) -> Result<T, String>
    where
        T::Err: std::fmt::Display,
    {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.parse().map_err(|error| format!("{name}={value:?}: {error}"))
    }

    /// A duration such as `2.5s`.
    pub(crate) fn span(&self, name: &str, default: Duration) -> Result<Duration, String> {
        self.parse(name, Span(default)).map(|span| span.0)
    }

    fn secret(&self, name: &str) -> Option<SecretString> {
        self.get(name).map(SecretString::from)
    }
}

/// `POSTGRES_*`: where the database is and who asks.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// `POSTGRES_HOST`: a folder (of a Unix socket) or a host.
    pub(crate) host: String,
    /// `POSTGRES_PORT`, default 5432.
    pub(crate) port: u16,
    /// `POSTGRES_DB`, exactly as it is there.
    pub(crate) name: String,
    /// `POSTGRES_USER`.
    pub(crate) user: String,
    /// `POSTGRES_PASSWORD`.
    pub(crate) password: Option<SecretString>,
    /// `LAB_POOL_SIZE`, default 25.
    pub(crate) pool_size: usize,
    /// `LAB_POOL_RECYCLE`: how old a pooled connection gets. Default an hour.
    pub(crate) recycle: Duration,
}

/// `REDIS_HOST` (none: no cache configured) and `REDIS_PORT`, default 6379.
#[derive(Debug, Clone)]
pub(crate) struct Redis {
    pub(crate) host: Option<String>,
    pub(crate) port: u16,
}

/// `LAB_LIMIT_*`. Defaults are those in force in the observed application's staging when the 75 s
/// limit was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// `LAB_LIMIT_INITIALIZATION`, 75 s: opening the pool.
    pub(crate) initialization: Duration,
    /// `LAB_LIMIT_TABLE_SETUP`, 25 s: checking the tables.
    pub(crate) table_setup: Duration,
    /// `LAB_LIMIT_CONNECTION`, 35 s: one connection.
    pub(crate) connection: Duration,
    /// `LAB_LIMIT_POOL`, 45 s: waiting for a pooled connection.
    pub(crate) pool: Duration,
    /// `LAB_LIMIT_HEALTH_CHECK`, 20 s: the check at the end of the start-up.
    pub(crate) health_check: Duration,
    /// `LAB_LIMIT_CACHE`, 5 s: reaching the cache.
    pub(crate) cache: Duration,
    /// `LAB_LIMIT_READINESS`, 2 s: the database in a readiness check.
    pub(crate) readiness: Duration,
    /// `LAB_LIMIT_VALIDATION`, 15 s: the auth service's only check of its database.
    pub(crate) validation: Duration,
}

/// `LAB_RETRIES`: so many attempts to open the pool, each with its own limit, with a back-off between
/// them and a circuit breaker. Without it the pool is opened in one wait, as in the versions before.
/// Defaults are the observed application's for Cloud SQL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retries {
    pub(crate) attempts: u32,
    /// `LAB_RETRY_BASE`, 2 s: the first back-off.
    pub(crate) base: Duration,
    /// `LAB_RETRY_CAP`, 30 s: the longest one.
    pub(crate) cap: Duration,
    /// `LAB_CIRCUIT_RECOVERY`, 60 s: how long the open circuit lets nobody through.
    pub(crate) recovery: Duration,
}

/// What is wrong with this process, if anything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// `LAB_DEFECT`: a defect of the code, by where it strikes.
    pub(crate) defect: Option<Defect>,
    /// `LAB_ENGINE=lazy`: the pool opens nothing by itself, and migrations run at the start, as in
    /// the versions before the eager pool.
    pub(crate) lazy_engine: bool,
    /// `LAB_LIFESPAN=swallow`: a failed start-up is logged and served on.
    pub(crate) swallow: bool,
    /// `LAB_SLOW_QUERIES`: so many pooled connections are busy from the end of the start-up on.
    pub(crate) slow_queries: usize,
    /// `LAB_SERVER=uvicorn`: bare uvicorn, which binds its port after the start-up. Default gunicorn,
    /// whose master binds before.
    pub(crate) bare_uvicorn: bool,
}

/// A defect of the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// A module is missing: the worker dies while it boots.
    Import,
    /// A call on nothing, in the phase SERVICES.
    Services,
    /// A call on nothing whenever a WebSocket needs its manager.
    WebsocketManager,
}

impl FromStr for Defect {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "import" => Ok(Self::Import),
            "services" => Ok(Self::Services),
            "websocket-manager" => Ok(Self::WebsocketManager),
            _ => Err("there are import, services and websocket-manager".into()),
        }
    }
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// One sentence about the first variable that cannot be read.
    pub(crate) fn from_variables(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, String> {
        let variables = Variables(variables.into_iter().collect());
        let text = |name: &str, default: &str| variables.get(name).unwrap_or(default).to_owned();
        let seconds = |name: &str, default: u64| variables.span(name, Duration::from_secs(default));
        let defect = variables.get("LAB_DEFECT").map(|defect| {
            defect.parse().map_err(|error| format!("LAB_DEFECT={defect:?}: {error}"))
        });
        let retries = Retries {
            attempts: variables.parse("LAB_RETRIES", 0)?,
            base: seconds("LAB_RETRY_BASE", 2)?,
            cap: seconds("LAB_RETRY_CAP", 30)?,
            recovery: seconds("LAB_CIRCUIT_RECOVERY", 60)?,
        };
        Ok(Self {
            retries: (retries.attempts > 0).then_some(retries),
            port: variables.parse("PORT", 8000)?,
            is_auth: variables.get("LAB_APP") == Some("auth"),
            environment: text("ENVIRONMENT", "staging"),
            database: Database {
                host: text("POSTGRES_HOST", "127.0.0.1"),
                port: variables.parse("POSTGRES_PORT", 5432)?,
                name: text("POSTGRES_DB", "staging"),
                user: text("POSTGRES_USER", "app"),
                password: variables.secret("POSTGRES_PASSWORD"),
                pool_size: variables.parse("LAB_POOL_SIZE", 25_usize)?.max(1),
                recycle: seconds("LAB_POOL_RECYCLE", 3600)?,
            },
            redis: Redis {
                host: variables.get("REDIS_HOST").map(str::to_owned),
                port: variables.parse("REDIS_PORT", 6379)?,
            },
            limits: Limits {
                initialization: seconds("LAB_LIMIT_INITIALIZATION", 75)?,
                table_setup: seconds("LAB_LIMIT_TABLE_SETUP", 25)?,
                connection: seconds("LAB_LIMIT_CONNECTION", 35)?,
                pool: seconds("LAB_LIMIT_POOL", 45)?,
                health_check: seconds("LAB_LIMIT_HEALTH_CHECK", 20)?,
                cache: seconds("LAB_LIMIT_CACHE", 5)?,
                readiness: seconds("LAB_LIMIT_READINESS", 2)?,
                validation: seconds("LAB_LIMIT_VALIDATION", 15)?,
            },
            faults: Faults {
                defect: defect.transpose()?,
                lazy_engine: variables.get("LAB_ENGINE") == Some("lazy"),
                swallow: variables.get("LAB_LIFESPAN") == Some("swallow"),
                slow_queries: variables.parse("LAB_SLOW_QUERIES", 0)?,
                bare_uvicorn: variables.get("LAB_SERVER") == Some("uvicorn"),
            },
            jwt_secret: variables.secret("LAB_JWT_SECRET"),
            variables,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<Config, String> {
        Config::from_variables(pairs.iter().map(|&(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn the_defaults_are_those_of_the_75_s_limit() {
        let config = config(&[]).unwrap();
        assert_eq!(config.limits.initialization, Duration::from_secs(75));
        assert_eq!((config.port, config.database.pool_size), (8000, 25));
    }

    #[test]
    fn a_wrong_value_names_its_variable() {
        assert!(config(&[("PORT", "x")]).unwrap_err().starts_with("PORT=\"x\": "));
        assert!(config(&[("LAB_DEFECT", "x")]).unwrap_err().contains("import, services and"));
        assert!(config(&[("LAB_LIMIT_POOL", "fast")]).unwrap_err().contains("LAB_LIMIT_POOL"));
    }

    #[test]
    fn values_are_never_shown_and_a_stray_newline_stays() {
        let pairs = [("POSTGRES_PASSWORD", "hunter2"), ("POSTGRES_DB", "staging\n")];
        let config = config(&pairs).unwrap();
        assert_eq!(config.database.name, "staging\n");
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
