//! Asks PostgreSQL what it counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_postgres::Client;

use crate::error::LabError;
use crate::postgres::SUPERUSER;
use crate::tasks::Tasks;
use crate::truth::{ApplicationTruth, PostgresTruth};

/// `application_name` of the lab's own session.
pub(crate) const SAMPLER: &str = "shakedown-lab-sampler";
const EVERY: Duration = Duration::from_millis(50);
const COUNT: &str = "select application_name, count(*) from pg_stat_activity
    where backend_type = 'client backend' and usename <> $1 group by 1";

/// Samples `pg_stat_activity` every 50 ms, at every time scale.
#[derive(Debug)]
pub(crate) struct Sampler(Arc<Mutex<PostgresTruth>>);

impl Sampler {
    /// Uses a superuser's session until the lab ends.
    pub(crate) async fn start(client: Arc<Client>, tasks: &Tasks) -> Result<Self, LabError> {
        let sql = |source| LabError::Sql { action: "ask PostgreSQL for its limits", source };
        let limit = async |name: &str| -> Result<u32, LabError> {
            let row = client
                .query_one("select setting::int4 from pg_settings where name = $1", &[&name])
                .await;
            Ok(row.map_err(sql)?.get::<_, i32>(0).unsigned_abs())
        };
        let truth = PostgresTruth {
            max_connections: limit("max_connections").await?,
            reserved_connections: limit("superuser_reserved_connections").await?,
            ..PostgresTruth::default()
        };
        let count = client.prepare(COUNT).await.map_err(sql)?;
        let truth = Arc::new(Mutex::new(truth));
        let shared = Arc::clone(&truth);
        tasks.spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // The connection ends with the server only, and the lab notices that itself.
                let Ok(rows) = client.query(&count, &[&SUPERUSER]).await else { return };
                let counts = rows.iter().map(|row| (row.get(0), row.get::<_, i64>(1)));
                record(&mut shared.lock().unwrap_or_else(PoisonError::into_inner), counts);
            }
        });
        Ok(Self(truth))
    }

    /// What it counted.
    pub(crate) fn truth(&self) -> PostgresTruth {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn record(truth: &mut PostgresTruth, counts: impl Iterator<Item = (String, i64)>) {
    let mut families = BTreeMap::<String, u32>::new();
    let mut applications = BTreeMap::new();
    for (name, count) in counts {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let family = name.split('/').next().unwrap_or_default();
        *families.entry(family.into()).or_default() += count;
        applications.insert(name, count);
    }
    truth.sessions = applications.values().sum();
    truth.sessions_max = truth.sessions_max.max(truth.sessions);
    truth.samples += 1;
    update(&mut truth.applications, applications);
    update(&mut truth.families, families);
}

/// Who is not in the newest sample has no session now.
fn update(truths: &mut BTreeMap<String, ApplicationTruth>, counts: BTreeMap<String, u32>) {
    for truth in truths.values_mut() {
        truth.now = 0;
    }
    for (name, count) in counts {
        let truth = truths.entry(name).or_default();
        truth.now = count;
        truth.max = truth.max.max(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_at_a_time_is_kept() {
        let mut truth = PostgresTruth::default();
        record(&mut truth, [("a".to_owned(), 2), ("b".to_owned(), 1)].into_iter());
        record(&mut truth, [("b".to_owned(), 2)].into_iter());
        assert_eq!(truth.applications["a"], ApplicationTruth { now: 0, max: 2 });
        assert_eq!(truth.applications["b"], ApplicationTruth { now: 2, max: 2 });
        assert_eq!((truth.sessions, truth.sessions_max, truth.samples), (2, 3, 2));
    }

    #[test]
    fn a_family_is_summed_at_each_moment() {
        let mut truth = PostgresTruth::default();
        let sample = |counts: &[(&str, i64)]| {
            counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect::<Vec<_>>()
        };
        let first = sample(&[("tool", 1), ("tool/a", 2), ("tool-other", 7), ("", 1)]);
        record(&mut truth, first.into_iter());
        record(&mut truth, sample(&[("tool/b/7/pool", 2)]).into_iter());
        // Three at once, although every part had two at most.
        assert_eq!(truth.families["tool"], ApplicationTruth { now: 2, max: 3 });
        assert_eq!(truth.families["tool-other"], ApplicationTruth { now: 0, max: 7 });
        assert_eq!(truth.families[""], ApplicationTruth { now: 0, max: 1 });
        assert_eq!(truth.families.len(), 3);
    }
}
