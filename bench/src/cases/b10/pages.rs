//! Walks over a list, page by page, through the API and by the bare query.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use qwex_suite::Server;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use crate::bench::address;
use crate::load::Client;
use crate::sql;
use crate::wire::{self, Wire};

/// Runs a page.
const PAGE: usize = 50;
/// A walk goes so many pages deep and begins anew.
const DEEPEST: u32 = 100;
/// Pages whose content is compared.
const COMPARED: usize = 5;

/// One way to narrow the list.
#[derive(Debug, Clone)]
pub struct Filter {
    pub what: &'static str,
    /// In the API's words.
    query: String,
    /// In SQL.
    condition: String,
}

impl Filter {
    /// `middle`: an instant in the middle of the history.
    #[must_use]
    pub fn all(middle: Timestamp) -> Vec<Self> {
        let filter = |what, query: &str, condition: &str| Self {
            what,
            query: query.to_owned(),
            condition: condition.to_owned(),
        };
        vec![
            filter("no filter", "", "true"),
            filter(
                "status=running (1 of 1,000)",
                "&status=running",
                "status = 'running'",
            ),
            filter("status=failed (1 of 20)", "&status=failed", "status = 'failed'"),
            filter("name (1 of 1,000)", "&name=train-7", "name = 'train-7'"),
            filter(
                "label (1 of 50)",
                "&label=team%3Dt7",
                r#"labels @> '{"team":"t7"}' AND labels <> '{}'"#,
            ),
            filter("cluster (1 of 4)", "&cluster=c1", "cluster = 'c1'"),
            filter(
                "from the middle",
                &format!("&created_before={middle}"),
                &format!("id <= uuid_floor('{middle}')"),
            ),
        ]
    }

    fn path(&self, token: Option<&str>) -> String {
        let token = token
            .map(|token| format!("&page_token={token}"))
            .unwrap_or_default();
        format!("/v1/runs?page_size={PAGE}{}{token}", self.query)
    }

    /// The columns of a row of the API, one more than a page.
    fn sql(&self) -> String {
        format!(
            "SELECT id, project, name, labels, status, pending, failure, exit_code, attempt, cluster, queue, flags, created_at,
                started_at, finished_at, created_by
            FROM run WHERE project = 'default' AND {} AND id < $1 ORDER BY id DESC LIMIT {}",
            self.condition,
            PAGE + 1
        )
    }
}

/// Walks through the API.
pub struct Pages {
    wire: Wire,
    authorization: String,
    filter: Filter,
    token: Option<String>,
    depth: u32,
}

impl Pages {
    /// # Errors
    /// The server cannot be reached.
    pub async fn many(server: &Server, filter: &Filter, count: usize) -> Result<Vec<Self>> {
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push(Self {
                wire: Wire::connect(address(server)?).await?,
                authorization: format!("authorization: Bearer {}", server.api.token),
                filter: filter.clone(),
                token: None,
                depth: 0,
            });
        }
        Ok(all)
    }
}

impl Client for Pages {
    async fn once(&mut self) -> Result<()> {
        let path = self.filter.path(self.token.as_deref());
        let request = wire::request("GET", &path, std::slice::from_ref(&self.authorization), "");
        let answer = self.wire.exchange(&request).await?;
        ensure!(answer.status == 200, "{}: {path}", answer.status);
        // The token stands at the end, after the rows.
        let end = &answer.body[answer.body.len().saturating_sub(400)..];
        let token = wire::string_of(end, "next_page_token").map(str::to_owned);
        (self.token, self.depth) = onward(token, self.depth);
        Ok(())
    }
}

/// Walks by the bare query.
pub struct BarePages {
    connection: PgConnection,
    sql: String,
    before: Option<Uuid>,
    depth: u32,
}

impl BarePages {
    /// # Errors
    /// The database is not there.
    pub async fn many(url: &str, filter: &Filter, count: usize) -> Result<Vec<Self>> {
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push(Self {
                connection: sql::connect(url).await?,
                sql: filter.sql(),
                before: None,
                depth: 0,
            });
        }
        Ok(all)
    }

    async fn page(&mut self) -> Result<Vec<PgRow>> {
        let mut rows = sqlx::query(AssertSqlSafe(self.sql.as_str()))
            .bind(self.before.unwrap_or(Uuid::max()))
            .fetch_all(&mut self.connection)
            .await?;
        let more = rows.len() > PAGE;
        rows.truncate(PAGE);
        let last = rows.last().filter(|_| more);
        let last = last.map(|row| row.try_get::<Uuid, _>("id")).transpose()?;
        (self.before, self.depth) = onward(last, self.depth);
        Ok(rows)
    }
}

impl Client for BarePages {
    async fn once(&mut self) -> Result<()> {
        self.page().await.map(drop)
    }
}

/// The next place of a walk, and its depth: the beginning after the last or the deepest page.
fn onward<T>(next: Option<T>, depth: u32) -> (Option<T>, u32) {
    match next {
        Some(next) if depth + 1 < DEEPEST => (Some(next), depth + 1),
        Some(_) | None => (None, 0),
    }
}

/// The first pages of the API have the runs that the bare query says, in its order.
///
/// # Errors
/// They have not.
pub async fn check(server: &Server, filter: &Filter) -> Result<()> {
    let mut bare = BarePages::many(&server.database_url, filter, 1).await?;
    let bare = bare.first_mut().context("one was asked for")?;
    let mut token: Option<String> = None;
    for number in 1..=COMPARED {
        let rows = bare.page().await?;
        let wanted: Vec<String> = rows
            .iter()
            .map(|row| Ok(row.try_get::<Uuid, _>("id")?.to_string()))
            .collect::<Result<_>>()?;
        let path = filter.path(token.as_deref());
        let answer = server.api.get(&path).await?.expect(200)?.json();
        let items = answer["items"].as_array().context("no items")?;
        let got: Vec<&str> = items.iter().filter_map(|item| item["id"].as_str()).collect();
        ensure!(
            got == wanted,
            "page {number} of {} is not what the query says",
            filter.what
        );
        token = answer["next_page_token"].as_str().map(str::to_owned);
        ensure!(
            token.is_some() == bare.before.is_some(),
            "one walk ends before the other"
        );
        if token.is_none() {
            break;
        }
    }
    Ok(())
}
