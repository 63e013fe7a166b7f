//! Roles, database and rows.

use secrecy::{ExposeSecret, SecretString};

use super::server::Server;
use crate::error::LabError;
use crate::random;
use crate::settings::DatabaseSettings;

/// The role of the sessions that take slots away from the application.
pub(crate) const NEIGHBOUR: &str = "lab_neighbour";

/// Passwords of the ordinary roles.
#[derive(Debug, Clone)]
pub(crate) struct Roles {
    pub(crate) application: SecretString,
    pub(crate) neighbour: SecretString,
}

impl Roles {
    /// Makes the application's and the neighbour's role, the database and its rows.
    pub(crate) async fn create(
        server: &Server,
        settings: &DatabaseSettings,
    ) -> Result<Self, LabError> {
        let password = || random::password().map_err(LabError::files("read", "/dev/urandom"));
        let roles = Self { application: password()?, neighbour: password()? };
        let DatabaseSettings { name, user, role_can_write, .. } = settings;
        let sql = |action| move |source| LabError::Sql { action, source };

        let client = server
            .superuser("postgres", "shakedown-lab")
            .await
            .map_err(sql("connect to the new server"))?;
        // Names are letters, digits, '-' and '_' (checked), passwords are hex: nothing to escape.
        let make_roles = format!(
            "create role \"{user}\" login password '{}';
             grant pg_monitor to \"{user}\";
             create role {NEIGHBOUR} login password '{}';",
            roles.application.expose_secret(),
            roles.neighbour.expose_secret(),
        );
        client.batch_execute(&make_roles).await.map_err(sql("create the lab's roles"))?;
        client
            .batch_execute(&format!("create database \"{name}\""))
            .await
            .map_err(sql("create the lab's database"))?;

        let client = server
            .superuser(name, "shakedown-lab")
            .await
            .map_err(sql("connect to the lab's database"))?;
        let rights = if *role_can_write { "select, insert, update, delete" } else { "select" };
        let fill = format!(
            "revoke all on database \"{name}\" from public;
             revoke create on schema public from public;
             grant connect on database \"{name}\" to \"{user}\", {NEIGHBOUR};
             {ROWS}
             grant {rights} on all tables in schema public to \"{user}\";"
        );
        client.batch_execute(&fill).await.map_err(sql("fill the lab's database"))?;
        Ok(roles)
    }
}

/// A small chat application's tables: 100 users, 200 threads, 2,000 messages, 50 runs.
const ROWS: &str = "
    create table users (id int primary key, email text not null unique, created_at timestamptz not null);
    create table threads (id int primary key, user_id int not null references users, title text not null);
    create table messages (id int primary key, thread_id int not null references threads, role text not null,
                           body text not null, created_at timestamptz not null);
    create index on messages (thread_id);
    create table runs (id int primary key, thread_id int not null references threads, status text not null);
    insert into users select i, 'user' || i || '@lab.shakedown.test', timestamptz '2025-09-01' + i * interval '1 hour'
        from generate_series(1, 100) i;
    insert into threads select i, 1 + i % 100, 'thread ' || i from generate_series(1, 200) i;
    insert into messages select i, 1 + i % 200, case when i % 2 = 0 then 'user' else 'assistant' end,
        repeat('word ', 10 + i % 40), timestamptz '2025-09-10' + i * interval '1 minute' from generate_series(1, 2000) i;
    insert into runs select i, i, case when i % 10 = 0 then 'failed' else 'completed' end from generate_series(1, 50) i;
    analyze;";
