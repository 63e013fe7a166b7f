//! Asks PostgreSQL what it counts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_postgres::Client;

use crate::error::LabError;
use crate::postgres::SUPERUSER;
use crate::tasks::Tasks;
use crate::truth::PostgresTruth;

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
    for application in truth.applications.values_mut() {
        application.now = 0;
    }
    truth.sessions = 0;
    for (name, count) in counts {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let application = truth.applications.entry(name).or_default();
        application.now = count;
        application.max = application.max.max(count);
        truth.sessions += count;
    }
    truth.sessions_max = truth.sessions_max.max(truth.sessions);
    truth.samples += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::ApplicationTruth;

    #[test]
    fn the_most_at_a_time_is_kept() {
        let mut truth = PostgresTruth::default();
        record(&mut truth, [("a".to_owned(), 2), ("b".to_owned(), 1)].into_iter());
        record(&mut truth, [("b".to_owned(), 2)].into_iter());
        assert_eq!(truth.applications["a"], ApplicationTruth { now: 0, max: 2 });
        assert_eq!(truth.applications["b"], ApplicationTruth { now: 2, max: 2 });
        assert_eq!((truth.sessions, truth.sessions_max, truth.samples), (2, 3, 2));
    }
}
