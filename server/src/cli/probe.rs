//! What `/readyz` asks: the database with its schema, without which nothing is served, and the log archive, without which
//! logs wait and everything else goes on.

use std::time::Duration;

use futures::FutureExt;

use crate::db::{Pools, migrate};
use crate::http::{Check, Probe};
use crate::logs::Archive;

const DEADLINE: Duration = Duration::from_secs(2);

pub fn of(pools: Pools, archive: Archive) -> Probe {
    Box::new(move || {
        let (pools, archive) = (pools.clone(), archive.clone());
        async move {
            let database = database_check(&pools).await;
            let archive = archive_check(&archive, database.ok).await;
            vec![database, archive]
        }
        .boxed()
    })
}

async fn database_check(pools: &Pools) -> Check {
    let asked = tokio::time::timeout(DEADLINE, migrate::check(&pools.api)).await;
    let message = match asked {
        Ok(Ok(())) => None,
        Ok(Err(error @ migrate::SchemaError::Behind { .. })) => Some(error.to_string()),
        Ok(Err(error)) => {
            tracing::warn!(cause = %anyhow::Error::from(error), "not ready");
            Some("the database cannot be read".to_owned())
        }
        Err(_) => Some("the database does not answer within 2 s".to_owned()),
    };
    Check {
        check: "database",
        ok: message.is_none(),
        needed: true,
        message: message.unwrap_or_default(),
    }
}

/// Which logs wait is a matter of rows: nothing is asked of a database that was just found wanting.
async fn archive_check(archive: &Archive, can_ask: bool) -> Check {
    let asked = match can_ask {
        true => tokio::time::timeout(DEADLINE, archive.failing()).await.ok(),
        false => None,
    };
    let message = match asked {
        Some(Ok(None)) => None,
        Some(Ok(Some(failing))) => Some(failing.to_string()),
        Some(Err(_)) | None => Some("not known without the database".to_owned()),
    };
    Check {
        check: "archive",
        ok: message.is_none(),
        needed: false,
        message: message.unwrap_or_default(),
    }
}
