//! What imports leave in the archive that never came to be recorded: nothing, sooner or later, and never a byte of
//! what was.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qwex_api::record::RECORD_WITH_LOG;
use qwex_suite::{Api, Server};
use qwex_testbed::wait;
use sqlx::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::imports::{body, import, long_log, mint, record};

const LIMIT: Duration = Duration::from_secs(30);

/// A request of which half was sent.
pub struct Half {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Half {
    pub async fn sent(api: &Api, id: &str, whole: &[u8]) -> Result<Self> {
        let address = api.base.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await?;
        let head = format!(
            "PUT /v1/runs/{id}/import HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-type: {RECORD_WITH_LOG}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            api.token,
            whole.len()
        );
        let (first, rest) = whole.split_at(whole.len() / 2);
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(first).await?;
        Ok(Self {
            stream,
            rest: rest.to_vec(),
        })
    }

    /// Sends nothing more, and returns once the server has met the end of it.
    pub async fn cut(mut self) -> Result<()> {
        self.stream.shutdown().await?;
        let mut answer = Vec::new();
        let met = tokio::time::timeout(LIMIT, self.stream.read_to_end(&mut answer));
        met.await.context("the server does not close")?.ok();
        Ok(())
    }

    /// Sends the rest, and returns the answer, head and all.
    async fn finished(mut self) -> Result<String> {
        self.stream.write_all(&self.rest).await?;
        let mut answer = Vec::new();
        tokio::time::timeout(LIMIT, self.stream.read_to_end(&mut answer)).await??;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn objects_of(server: &Server, id: &str) -> PathBuf {
    server.dir.path().join("archive/runs").join(id)
}

/// Waits until something of the log of a run lies in the archive.
pub async fn archived(server: &Server, id: &str) -> Result<()> {
    let dir = objects_of(server, id);
    let found = wait::until(LIMIT, "a chunk in the archive", || async {
        dir.exists().then_some(())
    });
    Ok(found.await?)
}

/// Waits until nothing of a run lies in the archive, nor a row that tells of it.
pub async fn cleared(server: &Server, id: &str) -> Result<()> {
    let dir = objects_of(server, id);
    let gone = wait::until_ok(LIMIT, "what was cut to be cleared away", || async {
        let rows = uploads(server, id).await.map_err(|error| error.to_string())?;
        let is_clear = !dir.exists() && rows == 0;
        is_clear
            .then_some(())
            .ok_or_else(|| format!("{rows} rows, directory there: {}", dir.exists()))
    });
    Ok(gone.await?)
}

async fn uploads(server: &Server, id: &str) -> Result<i64> {
    let mut database = sqlx::PgConnection::connect(&server.database_url).await?;
    let count = sqlx::query_scalar("SELECT count(*) FROM import_upload WHERE run_id = $1::uuid").bind(id);
    Ok(count.fetch_one(&mut database).await?)
}

/// As if nothing had come of this upload for a day and an hour.
async fn a_day_passes(server: &Server, id: &str) -> Result<()> {
    let mut database = sqlx::PgConnection::connect(&server.database_url).await?;
    let back =
        "UPDATE import_upload SET touched_at = touched_at - interval '25 hours' WHERE run_id = $1::uuid";
    let done = sqlx::query(back).bind(id).execute(&mut database).await?;
    ensure!(done.rows_affected() == 1, "no upload of {id}");
    Ok(())
}

#[tokio::test]
async fn what_a_killed_server_left_is_swept_after_a_day_and_nothing_else() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let mut server = Server::start().await?;
    let api = server.project("team", "submitter").await?;
    let log = long_log();
    let mut other = server.replica().await?;
    let there = other.api.with_token(api.token.clone());

    // Recorded; left by a server that was killed, a day ago and just now; under way, on another replica.
    let [known, old, young, under_way] = [mint(), mint(), mint(), mint()];
    import(&api, &record(&known, &log), &log).await?.expect(201)?;
    let whole = |id: &str| body(&record(id, &log), &log);
    let _left = Half::sent(&api, &old, &whole(&old)).await?;
    let _also = Half::sent(&api, &young, &whole(&young)).await?;
    for id in [&old, &young] {
        archived(&server, id).await?;
    }
    server.kill().await?;
    let going_on = Half::sent(&there, &under_way, &whole(&under_way)).await?;
    archived(&server, &under_way).await?;
    a_day_passes(&server, &old).await?;

    server.start_again().await?;
    cleared(&server, &old).await?;
    for id in [&young, &under_way] {
        ensure!(uploads(&server, id).await? == 1 && objects_of(&server, id).exists());
    }
    let answer = going_on.finished().await?;
    ensure!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    ensure!(uploads(&server, &under_way).await? == 0);
    // What was left does not stand in the way of the same once more.
    import(&api, &record(&old, &log), &log).await?.expect(201)?;
    import(&api, &record(&young, &log), &log).await?.expect(201)?;
    a_day_passes(&server, &young).await?;
    other.kill().await?;
    other.start_again().await?;
    let swept = wait::until(LIMIT, "the rest of the killed server to be swept", || async {
        (uploads(&server, &young).await.ok()? == 0).then_some(())
    });
    swept.await?;
    for id in [&known, &old, &young, &under_way] {
        ensure!(api.log(id).await? == log, "{id} is not whole");
    }
    server.settle(&[]).await
}

#[tokio::test]
async fn an_upload_that_was_given_up_is_never_recorded() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let mut server = Server::start().await?;
    let api = server.project("team", "submitter").await?;
    let (id, log) = (mint(), long_log());
    let other = server.replica().await?;
    let there = other.api.with_token(api.token.clone());
    let late = Half::sent(&there, &id, &body(&record(&id, &log), &log)).await?;
    archived(&server, &id).await?;
    server.kill().await?;
    a_day_passes(&server, &id).await?;
    server.start_again().await?;
    cleared(&server, &id).await?;

    let answer = late.finished().await?;
    ensure!(
        answer.starts_with("HTTP/1.1 503")
            && answer.contains("log_unavailable")
            && answer.contains("given up"),
        "{answer}"
    );
    api.get(&format!("/v1/runs/{id}")).await?.expect(404)?;
    cleared(&server, &id).await?;
    import(&api, &record(&id, &log), &log).await?.expect(201)?;
    ensure!(api.log(&id).await? == log);
    server.settle(&[]).await
}

#[tokio::test]
async fn an_import_that_the_archive_refuses_is_told_to_the_operator_too() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let api = server.project("team", "submitter").await?;
    let (id, log) = (mint(), b"a line\n");
    // Not even root can make a directory below a file.
    let stone = server.dir.path().join("archive/runs");
    std::fs::write(&stone, "")?;
    let problem = import(&api, &record(&id, log), log).await?.expect(503)?.json();
    ensure!(problem["code"] == "log_unavailable", "{problem:#}");
    let ready = String::from_utf8(api.get("/readyz").await?.expect(200)?.bytes.to_vec())?;
    ensure!(
        ready.starts_with("ready\ndegraded: archive: failing since 2"),
        "{ready}"
    );
    ensure!(!ready.contains("wait"), "no log of ours waits: {ready}");
    std::fs::remove_file(&stone)?;
    import(&api, &record(&id, log), log).await?.expect(201)?;
    ensure!(api.get("/readyz").await?.expect(200)?.bytes == "ready\n");
    cleared_rows(&server, &id).await?;
    server.settle(&[]).await
}

async fn cleared_rows(server: &Server, id: &str) -> Result<()> {
    let gone = wait::until(LIMIT, "no upload to be under way", || async {
        (uploads(server, id).await.ok()? == 0).then_some(())
    });
    Ok(gone.await?)
}
