//! Whether the configured command may be run against this target.

use shakedown_core::id::resource;
use shakedown_core::{Allotment, ProbeCtx, ProbeError, Tier};
use shakedown_wire::pg::statements::ROLE;
use shakedown_wire::pg::{self, PgConnection, PgTarget};

use crate::application::Application;

/// Why the command is not run here, before anything was asked of the target; `None` when it may.
/// In a lab everything may be run. Elsewhere somebody must have named the application on the command
/// line and raised the budget to what it draws.
pub(crate) fn refused(ctx: &ProbeCtx, section: &Application, leases: u32) -> Option<String> {
    let environment = ctx.environment();
    if environment.identity.tier == Tier::Lab {
        return None;
    }
    let (name, consent) = (&section.service, &environment.consent);
    if !consent.processes.contains(name) {
        return Some(format!(
            "[application] command is not run outside a lab unless it is named: --allow-process {name}"
        ));
    }
    if section.writes && !consent.application_writes {
        return Some(format!("{name} writes to the database: --allow-app-writes allows it"));
    }
    let free = free(ctx);
    (leases > free).then(|| {
        format!(
            "it draws {leases} database connections and the budget has {free} left: raise it with \
             --set safety.database_connections=N, or lower application.draws"
        )
    })
}

/// The database connections the budget has beside those in use.
pub(crate) fn free(ctx: &ProbeCtx) -> u32 {
    let usage = ctx.budget().usage();
    let usage = usage.iter().find(|usage| usage.resource == resource::DATABASE_CONNECTION);
    usage.map_or(0, |usage| usage.ceiling.saturating_sub(usage.in_use))
}

/// Why the role it would log in with may not be handed to a process of ours; `None` when it cannot
/// write, or may by name. Asked of the server, over one lease of `allotment`.
pub(crate) async fn role_refused(
    ctx: &ProbeCtx,
    allotment: &Allotment,
    target: &PgTarget,
) -> Result<Option<String>, ProbeError> {
    let environment = ctx.environment();
    if environment.identity.tier == Tier::Lab || environment.consent.application_writes {
        return Ok(None);
    }
    let lease = ctx.guard(allotment.lease(&resource::DATABASE_CONNECTION)).await??;
    let climb = pg::connect(ctx, lease, target).await.uninterrupted()?;
    let unchecked = |why: String| {
        format!(
            "whether the role `{}` can write could not be checked ({why}): run it when the database \
             answers, or name --allow-app-writes",
            target.user
        )
    };
    let mut connection = match climb.result {
        Ok(connection) => connection,
        Err(fault) => return Ok(Some(unchecked(fault.to_string()))),
    };
    let writes = writes(&mut connection).await;
    connection.close().await;
    Ok(match writes {
        Ok(false) => None,
        Ok(true) => Some(format!(
            "the role `{}` can write: give the application one with CONNECT only, or name \
             --allow-app-writes",
            target.user
        )),
        Err(why) => Some(unchecked(why)),
    })
}

async fn writes(connection: &mut PgConnection) -> Result<bool, String> {
    let rows = connection.query(ROLE, &[]).await.map_err(|fault| fault.to_string())?;
    let row = rows.first().ok_or("the server named no role")?;
    let may = |name: &str| row.try_get::<_, bool>(name).map_err(|error| error.to_string());
    let tables: i64 = row.try_get("writable_tables").map_err(|error| error.to_string())?;
    Ok(may("superuser")? || may("creates_in_database")? || may("creates_in_public")? || tables > 0)
}
