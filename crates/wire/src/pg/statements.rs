//! Every statement that is ever sent to a target: constant, reviewed, read-only.
//!
//! A read-only session is only a default that `begin read write` overrides, so the fence is here:
//! [`Statement`] has no public constructor. To add one, say what it reads and why it is safe: what
//! it locks, what it costs on a busy server, and what it returns to a role without rights.
//!
//! Rights: without `pg_monitor` (or `pg_read_all_stats`) the state, wait and times of other roles'
//! sessions are NULL. Where that matters a column `hidden` counts them: what is hidden is unknown,
//! not zero.

use std::fmt;

use tokio_postgres::types::Type;

/// A reviewed statement.
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    sql: &'static str,
    types: &'static [Type],
    instant: bool,
}

impl Statement {
    const fn new(sql: &'static str, types: &'static [Type]) -> Self {
        Self { sql, types, instant: false }
    }

    /// One that reads nothing and waits for nothing: no backend is busy with it when its client goes
    /// away.
    const fn instant(sql: &'static str) -> Self {
        Self { sql, types: &[], instant: true }
    }

    pub(crate) const fn is_instant(&self) -> bool {
        self.instant
    }

    /// Its text, with `$1`.. for parameters.
    pub const fn sql(&self) -> &'static str {
        self.sql
    }

    /// The types of its parameters.
    pub const fn types(&self) -> &'static [Type] {
        self.types
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sql)
    }
}

/// A constant, one row `int4`. Reads nothing.
pub const PING: Statement = Statement::instant("select 1");

/// The session's own process id: `pid` (`int4`). Reads nothing.
pub const BACKEND_PID: Statement = Statement::instant("select pg_backend_pid() as pid");

/// Who and where we are: `database`, `role`, `version` (`int4`, as `server_version_num`),
/// `in_recovery` (`bool`), `address` (NULL on a Unix socket). Session information only.
pub const IDENTITY: Statement = Statement::new(
    "select current_database()::text as database, current_user::text as role,
            current_setting('server_version_num')::int4 as version,
            pg_is_in_recovery() as in_recovery, host(inet_server_addr()) as address",
    &[],
);

/// One setting by name (`text`): `setting`, `unit` (may be NULL), `source`. No row when there is no
/// such setting or the role may not see it. Reads the backend's own memory.
pub const SETTING: Statement =
    Statement::new("select setting, unit, source from pg_settings where name = $1", &[Type::TEXT]);

/// The limits on connections: `max_connections`, `superuser_reserved`, `reserved` (0 before version
/// 16), `database_limit` and `role_limit` (-1 for none), all `int4`. One row of two small catalogs.
pub const CONNECTION_LIMITS: Statement = Statement::new(
    "select current_setting('max_connections')::int4 as max_connections,
            current_setting('superuser_reserved_connections')::int4 as superuser_reserved,
            coalesce(current_setting('reserved_connections', true), '0')::int4 as reserved,
            (select datconnlimit from pg_database where datname = current_database()) as database_limit,
            (select rolconnlimit from pg_roles where rolname = current_user) as role_limit",
    &[],
);

/// Backends by type, the most first: `backend_type` (`hidden` where the role may not see it),
/// `backends` (`int8`). `pg_stat_activity` is shared memory; nothing is locked.
pub const BACKENDS_BY_TYPE: Statement = Statement::new(
    "select coalesce(backend_type, 'hidden') as backend_type, count(*) as backends
       from pg_stat_activity group by 1 order by 2 desc, 1",
    &[],
);

/// Client sessions by application, state and wait, the most first, at most 500 rows: `application`,
/// `state` and `wait_event_type` (may be NULL), `hidden` (`bool`: the role may not see state and
/// wait), `sessions` (`int8`). The asking session is among them. `pg_stat_activity` is shared
/// memory; nothing is locked.
pub const SESSIONS_BY_STATE: Statement = Statement::new(
    "select coalesce(application_name, '') as application, state, wait_event_type,
            backend_type is null as hidden, count(*) as sessions
       from pg_stat_activity
      where backend_type = 'client backend'
         or (backend_type is null and datid is not null and usesysid is not null)
      group by 1, 2, 3, 4 order by 5 desc, 1, 2, 3 limit 500",
    &[],
);

/// The longest running of the other client sessions: `query_s` and `transaction_s` (`float8`
/// seconds, NULL when nothing runs), `hidden` (`int8`: sessions whose times the role may not see).
/// `pg_stat_activity` is shared memory; nothing is locked.
pub const LONGEST_RUNNING: Statement = Statement::new(
    "select extract(epoch from max(clock_timestamp() - query_start)
                    filter (where state = 'active'))::float8 as query_s,
            extract(epoch from max(clock_timestamp() - xact_start))::float8 as transaction_s,
            count(*) filter (where backend_type is null) as hidden
       from pg_stat_activity
      where pid <> pg_backend_pid()
        and (backend_type = 'client backend'
             or (backend_type is null and datid is not null and usesysid is not null))",
    &[],
);

/// How many other sessions' application name begins with the parameter (`text`): `sessions`
/// (`int8`). The name is visible to every role. `pg_stat_activity` is shared memory; nothing is
/// locked.
pub const SESSIONS_NAMED: Statement = Statement::new(
    "select count(*) as sessions from pg_stat_activity
      where starts_with(application_name, $1) and pid <> pg_backend_pid()",
    &[Type::TEXT],
);

/// How many of these server processes (`int4[]`) still are client sessions: `sessions` (`int8`). The
/// process id is visible to every role. `pg_stat_activity` is shared memory; nothing is locked.
pub const SESSIONS_ALIVE: Statement = Statement::new(
    "select count(*) as sessions from pg_stat_activity where pid = any($1)",
    &[Type::INT4_ARRAY],
);

/// Locks: `held` and `awaited` (`int8`), `waiting_sessions` (`int8`), visible to every role.
/// `pg_locks` takes the lock manager's partition locks for an instant, the price `pg_blocking_pids`
/// has for each session.
pub const LOCKS: Statement = Statement::new(
    "select count(*) filter (where granted) as held,
            count(*) filter (where not granted) as awaited,
            count(distinct pid) filter (where not granted) as waiting_sessions
       from pg_locks",
    &[],
);

/// What the role may do: `superuser`, `sees_all_sessions` (pg_monitor or pg_read_all_stats),
/// `creates_in_database`, `creates_in_public` (all `bool`), `writable_tables` (`int8`: tables with
/// INSERT, UPDATE or DELETE, counted up to 1000). Reads catalogs; locks nothing but those.
pub const ROLE: Statement = Statement::new(
    "select (select rolsuper from pg_roles where rolname = current_user) as superuser,
            pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') as sees_all_sessions,
            has_database_privilege(current_database(), 'CREATE') as creates_in_database,
            coalesce((select has_schema_privilege(oid, 'CREATE') from pg_namespace
                       where nspname = 'public'), false) as creates_in_public,
            (select count(*) from (
                select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                 where c.relkind in ('r', 'p') and n.nspname <> 'information_schema'
                   and n.nspname not like 'pg\\_%'
                   and has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE')
                 limit 1000) as writable) as writable_tables",
    &[],
);

/// Tries to take a session's advisory lock by key (`int8`) and does not wait: `taken` (`bool`). It
/// goes with the session. No lock of this kind stands in the way of any table.
pub const TRY_LOCK: Statement =
    Statement::new("select pg_try_advisory_lock($1) as taken", &[Type::INT8]);

/// Gives an advisory lock (`int8`) back: `released` (`bool`).
pub const UNLOCK: Statement =
    Statement::new("select pg_advisory_unlock($1) as released", &[Type::INT8]);

/// Who holds an advisory lock (`int8`) of this database: `pid` (`int4`), `application`, `since`
/// (`float8` Unix seconds of the session's start; NULL where the role may not see it). At most one
/// row. Costs what [`LOCKS`] costs.
pub const LOCK_HOLDER: Statement = Statement::new(
    "select l.pid, coalesce(a.application_name, '') as application,
            extract(epoch from a.backend_start)::float8 as since
       from pg_locks l left join pg_stat_activity a on a.pid = l.pid
      where l.locktype = 'advisory' and l.granted and l.objsubid = 1
        and l.database = (select oid from pg_database where datname = current_database())
        and ((l.classid::int8 << 32) | l.objid::int8) = $1
      limit 1",
    &[Type::INT8],
);

/// Sleeps so many seconds (`float8`) at the server, bounded by the statement timeout. Holds a
/// session and nothing else.
pub const SLEEP: Statement = Statement::new("select 1 from pg_sleep($1)", &[Type::FLOAT8]);

/// So many rows (`int4`) of 64 KiB of the letter x each, for measuring throughput with
/// [`stream_bytes`](super::PgConnection::stream_bytes). Made one by one; reads nothing.
pub const THROUGHPUT: Statement =
    Statement::new("select repeat('x', 65536) from generate_series(1, $1)", &[Type::INT4]);

/// Opens a transaction of the session's default mode. Only [`write_attempt`](super::write_attempt)
/// sends it, and ends it.
pub(crate) const BEGIN: Statement = Statement::new("begin", &[]);

/// Opens a transaction that may write. Only sent as [`BEGIN`].
pub(crate) const BEGIN_READ_WRITE: Statement = Statement::new("begin read write", &[]);

/// A write that would be harmless even if it stayed. Only sent between [`BEGIN`] and [`ROLLBACK`];
/// nothing here commits.
pub(crate) const CREATE_TABLE: Statement =
    Statement::new("create table shakedown_write_check (x int)", &[]);

/// Undoes everything since [`BEGIN`].
pub(crate) const ROLLBACK: Statement = Statement::new("rollback", &[]);
