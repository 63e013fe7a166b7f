//! Why a database may be what broke. Probes suggest these; only classifiers claim them.

shakedown_core::terms! {
    /// The application's own pool has no connection to give, while the server would have some.
    POOL_EXHAUSTION: Cause = "cloud_sql_pool_exhaustion", POOL_EXHAUSTION_META,
        "The application's connection pool is exhausted",
        "requests get a connection from the application's pool without waiting for another to be given back";
    /// The server has no slot left: SQLSTATE 53300.
    MAX_CONNECTIONS: Cause = "cloud_sql_max_connections", MAX_CONNECTIONS_META,
        "The server's connection slots are taken",
        "the server has slots for every pool of the application at its limit, and some to spare";
    /// Nobody answers as PostgreSQL, or the answer ends before a session is there.
    UNREACHABLE: Cause = "cloud_sql_unreachable", UNREACHABLE_META,
        "The database cannot be reached",
        "a login at the database is carried through to its first answer";
    /// It answers, later than the application waits.
    SLOW: Cause = "cloud_sql_slow", SLOW_META,
        "The database answers too slowly",
        "logins and simple queries end well within the limits their callers set";
}
