//! Why a database may be what broke. Probes suggest these; only classifiers claim them.

use shakedown_core::classify::CauseMeta;
use shakedown_core::id::Cause;

/// Declares a cause with its description and registers it.
macro_rules! cause {
    ($(#[$doc:meta])* $name:ident, $meta:ident, $id:literal, $title:literal, $good_state:literal) => {
        $(#[$doc])*
        pub const $name: Cause = Cause::new($id);
        #[doc = concat!("The description of `", $id, "`.")]
        pub const $meta: CauseMeta =
            CauseMeta { id: $id, symptom: false, title: $title, good_state: $good_state };
        #[cfg(feature = "register")]
        shakedown_core::register_cause!($meta);
    };
}

cause!(
    /// The application's own pool has no connection to give, while the server would have some.
    POOL_EXHAUSTION,
    POOL_EXHAUSTION_META,
    "cloud_sql_pool_exhaustion",
    "The application's connection pool is exhausted",
    "requests get a connection from the application's pool without waiting for another to be given back"
);
cause!(
    /// The server has no slot left: SQLSTATE 53300.
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_META,
    "cloud_sql_max_connections",
    "The server's connection slots are taken",
    "the server has slots for every pool of the application at its limit, and some to spare"
);
cause!(
    /// Nobody answers as PostgreSQL, or the answer ends before a session is there.
    UNREACHABLE,
    UNREACHABLE_META,
    "cloud_sql_unreachable",
    "The database cannot be reached",
    "a login at the database is carried through to its first answer"
);
cause!(
    /// It answers, later than the application waits.
    SLOW,
    SLOW_META,
    "cloud_sql_slow",
    "The database answers too slowly",
    "logins and simple queries end well within the limits their callers set"
);
