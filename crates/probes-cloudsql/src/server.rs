//! What the server says of itself, read with wire's statements.

use std::collections::BTreeMap;
use std::error::Error;

use shakedown_core::Fault;
use shakedown_wire::pg::statements::{CONNECTION_LIMITS, SESSIONS_BY_STATE};
use shakedown_wire::pg::{FromSql, PgConnection, PgTarget, Row};

/// A column of a row, or the fault of a server that answers otherwise than PostgreSQL.
pub(crate) fn column<'r, T: FromSql<'r>>(row: &'r Row, name: &str) -> Result<T, Fault> {
    row.try_get(name).map_err(|error| {
        let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        Fault::Protocol { message: format!("column `{name}`: {why}") }
    })
}

/// The one row of an answer.
pub(crate) fn only(rows: &[Row]) -> Result<&Row, Fault> {
    rows.first().ok_or_else(|| Fault::Protocol { message: "one row expected, none came".into() })
}

/// The limits on connections, as the server has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// `max_connections`.
    pub(crate) max: u32,
    /// Slots an ordinary role never gets.
    pub(crate) reserved: u32,
    /// The limit of this database, if it has one of its own.
    pub(crate) database: Option<u32>,
    /// The limit of this role, if it has one of its own.
    pub(crate) role: Option<u32>,
}

impl Limits {
    pub(crate) async fn read(connection: &mut PgConnection) -> Result<Self, Fault> {
        let rows = connection.query(CONNECTION_LIMITS, &[]).await?;
        let row = only(&rows)?;
        let count = |name: &str| Ok::<_, Fault>(u32::try_from(column::<i32>(row, name)?).ok());
        Ok(Self {
            max: count("max_connections")?.unwrap_or(0),
            reserved: count("superuser_reserved")?.unwrap_or(0) + count("reserved")?.unwrap_or(0),
            database: count("database_limit")?,
            role: count("role_limit")?,
        })
    }

    /// Slots that ordinary roles share.
    pub(crate) fn usable(&self) -> u32 {
        self.max.saturating_sub(self.reserved)
    }

    /// The most that one role can ever have: the least of all limits.
    pub(crate) fn capacity(&self) -> u32 {
        [Some(self.usable()), self.database, self.role].into_iter().flatten().min().unwrap_or(0)
    }
}

/// Sessions that share application, state and wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) application: String,
    /// `None` where it is hidden or the session has none.
    pub(crate) state: Option<String>,
    pub(crate) wait: Option<String>,
    /// The role may not see state and wait.
    pub(crate) hidden: bool,
    pub(crate) sessions: u32,
}

impl Group {
    /// Whether these are sessions of shakedown, of this run or of another.
    pub(crate) fn is_shakedown(&self) -> bool {
        let rest = self.application.strip_prefix(PgTarget::APPLICATION);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether a transaction is open and nothing happens in it.
    pub(crate) fn is_idle_in_transaction(&self) -> bool {
        self.state.as_deref().is_some_and(|state| state.starts_with("idle in transaction"))
    }
}

/// The client sessions of the server, the asking one included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sessions(pub(crate) Vec<Group>);

impl Sessions {
    pub(crate) async fn read(connection: &mut PgConnection) -> Result<Self, Fault> {
        let rows = connection.query(SESSIONS_BY_STATE, &[]).await?;
        rows.iter().map(group).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn count(&self, which: impl Fn(&Group) -> bool) -> u32 {
        self.0.iter().filter(|group| which(group)).map(|group| group.sessions).sum()
    }

    pub(crate) fn total(&self) -> u32 {
        self.count(|_| true)
    }

    /// Sessions whose state the role may not see.
    pub(crate) fn hidden(&self) -> u32 {
        self.count(|group| group.hidden)
    }

    /// Sessions by what `key` gives, the most first.
    pub(crate) fn by<K: Ord>(&self, key: impl Fn(&Group) -> Option<K>) -> Vec<(K, u32)> {
        let mut counts = BTreeMap::new();
        for group in &self.0 {
            if let Some(key) = key(group) {
                *counts.entry(key).or_default() += group.sessions;
            }
        }
        let mut counts: Vec<(K, u32)> = counts.into_iter().collect();
        counts.sort_by_key(|&(_, sessions)| std::cmp::Reverse(sessions));
        counts
    }
}

fn group(row: &Row) -> Result<Group, Fault> {
    Ok(Group {
        application: column(row, "application")?,
        state: column(row, "state")?,
        wait: column(row, "wait_event_type")?,
        hidden: column(row, "hidden")?,
        sessions: u32::try_from(column::<i64>(row, "sessions")?).unwrap_or(u32::MAX),
    })
}

/// `5 web, 2 worker, 1 without a name`; at most `most` of them, then how many more.
pub(crate) fn list(counts: &[(String, u32)], most: usize) -> String {
    let name = |text: &str| if text.is_empty() { "without a name" } else { text }.to_owned();
    let mut words: Vec<String> =
        counts.iter().take(most).map(|(text, count)| format!("{count} {}", name(text))).collect();
    let rest: u32 = counts.iter().skip(most).map(|(_, count)| count).sum();
    if rest > 0 {
        words.push(format!("{rest} others"));
    }
    words.join(", ")
}

/// Why the state of sessions is not known.
pub(crate) fn hidden_reason(hidden: u32) -> String {
    format!(
        "the role may not see the state of {hidden} sessions of other roles: grant it pg_monitor"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(application: &str, state: Option<&str>, hidden: bool, sessions: u32) -> Group {
        Group {
            application: application.into(),
            state: state.map(Into::into),
            wait: None,
            hidden,
            sessions,
        }
    }

    #[test]
    fn sessions_are_ours_by_their_whole_first_word() {
        for (application, ours) in [
            ("shakedown", true),
            ("shakedown/cloudsql.guard", true),
            ("shakedown-lab", false),
            ("shakedowns", false),
            ("", false),
        ] {
            assert_eq!(group(application, None, false, 1).is_shakedown(), ours, "{application}");
        }
    }

    #[test]
    fn hidden_sessions_are_counted_apart() {
        let sessions = Sessions(vec![
            group("web", Some("active"), false, 4),
            group("web", Some("idle in transaction (aborted)"), false, 2),
            group("worker", None, true, 3),
            group("", Some("idle"), false, 1),
        ]);
        assert_eq!((sessions.total(), sessions.hidden()), (10, 3));
        assert_eq!(sessions.count(Group::is_idle_in_transaction), 2);
        let applications = sessions.by(|group| Some(group.application.clone()));
        assert_eq!(list(&applications, 2), "6 web, 3 worker, 1 others");
        assert_eq!(list(&applications, 9), "6 web, 3 worker, 1 without a name");
        let states = sessions.by(|group| group.state.clone());
        assert_eq!(states.iter().map(|(_, count)| count).sum::<u32>(), 7, "hidden ones have none");
    }

    #[test]
    fn the_least_limit_counts() {
        let limits = Limits { max: 100, reserved: 3, database: None, role: None };
        assert_eq!((limits.usable(), limits.capacity()), (97, 97));
        assert_eq!(Limits { role: Some(10), database: Some(50), ..limits }.capacity(), 10);
        assert_eq!(Limits { max: 2, ..limits }.usable(), 0);
    }
}
