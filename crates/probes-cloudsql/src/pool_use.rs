//! How much of the application's pools is in use, as the server counts sessions.

use shakedown_core::Sample;
use shakedown_core::environment::Database;

use crate::monitor::{POOL_BUSY, POOL_UTILIZATION, RATIO};
use crate::section::CloudSql;
use crate::server::{self, Group, Sessions};

/// Sessions of the application over what its pools may hold together: only of stated numbers.
/// Without `names` every session that is not ours is the application's.
pub(crate) fn utilization(
    names: &[String],
    sessions: &Sessions,
    section: &CloudSql,
    database: &Database,
) -> Sample {
    let (pool, instances) = (&database.pool_limit, &section.application_instances);
    let keys = [("database.pool_limit", pool), ("cloudsql.application_instances", instances)];
    let assumed: Vec<&str> =
        keys.iter().filter(|(_, setting)| setting.is_assumed()).map(|(key, _)| *key).collect();
    if !assumed.is_empty() {
        let why = format!("{} is only assumed: state it", assumed.join(" and "));
        return Sample::unavailable(POOL_UTILIZATION, RATIO, why);
    }
    let capacity = f64::from(pool.value) * f64::from(instances.value);
    if capacity == 0.0 {
        let why = "the pools are stated to hold nothing";
        return Sample::unavailable(POOL_UTILIZATION, RATIO, why);
    }
    let application = sessions.count(|group| {
        if names.is_empty() { !group.is_shakedown() } else { names.contains(&group.application) }
    });
    Sample::measured(POOL_UTILIZATION, f64::from(application) / capacity, RATIO)
}

/// Busy sessions of each application over all it has, of those that have at least a whole pool's
/// worth, one by one.
pub(crate) fn busy(sessions: &Sessions, database: &Database) -> Vec<Sample> {
    let limit = &database.pool_limit;
    let none = |why: String| vec![Sample::unavailable(POOL_BUSY, RATIO, why)];
    if limit.is_assumed() || limit.value == 0 {
        return none("database.pool_limit is only assumed, or nothing: state it".into());
    }
    let hidden = sessions.hidden();
    if hidden > 0 {
        return none(server::hidden_reason(hidden));
    }
    let application = |group: &Group| (!group.is_shakedown()).then(|| group.application.clone());
    let pools = sessions.by(application).into_iter().filter(|(_, open)| *open >= limit.value);
    let sample = |(name, open): (String, u32)| {
        let idle = |group: &Group| group.state.as_deref() == Some("idle");
        let busy = sessions.count(|group| group.application == name && !idle(group));
        let share = f64::from(busy) / f64::from(open);
        Sample::measured(POOL_BUSY, share, RATIO).label("application", name)
    };
    let samples: Vec<Sample> = pools.map(sample).collect();
    if samples.is_empty() {
        return none("no application has as many sessions as one pool may hold".into());
    }
    samples
}

#[cfg(test)]
mod tests {
    use shakedown_core::Setting;
    use shakedown_core::monitor::Reading;

    use super::*;

    fn group(application: &str, state: &str, sessions: u32) -> Group {
        let (application, state) = (application.into(), Some(state.into()));
        Group { application, hidden: false, state, wait: None, sessions }
    }

    fn database() -> Database {
        Database { pool_limit: Setting::stated(10), ..Database::default() }
    }

    #[test]
    fn configured_names_are_the_application() {
        let sessions = Sessions(vec![group("web", "idle", 9), group("psql", "idle", 5)]);
        let section = CloudSql { application_instances: Setting::stated(2), ..CloudSql::default() };
        let sample = utilization(&["web".to_owned()], &sessions, &section, &database());
        assert_eq!(sample.value, Reading::Value(0.45));
    }

    #[test]
    fn an_open_pool_is_no_busy_one() {
        let told = |groups: Vec<Group>| {
            let samples = busy(&Sessions(groups), &database());
            samples.into_iter().map(|sample| sample.value).collect::<Vec<_>>()
        };
        assert_eq!(told(vec![group("web", "idle", 10)]), [Reading::Value(0.0)]);
        let taken = vec![
            group("web", "active", 8),
            group("web", "idle in transaction", 2),
            group("shakedown/x", "active", 12),
        ];
        assert_eq!(told(taken), [Reading::Value(1.0)], "ours is no pool of the application");
        let room = vec![group("web", "active", 10), group("web", "idle", 10)];
        assert_eq!(told(room), [Reading::Value(0.5)], "another pool of it may have room");
        let [Reading::Unavailable(why)] = &told(vec![group("web", "active", 9)])[..] else {
            panic!("nine are no pool of ten");
        };
        assert!(why.contains("as many sessions"), "{why}");
    }
}
