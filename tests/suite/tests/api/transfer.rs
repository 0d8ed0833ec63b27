//! `qwexctl push` and `pull` between real directories and a real server: the same run on both sides, under one id.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qwex_suite::{Api, Server, binary};
use qwex_testbed::tcp_proxy::{Cut, Fault, Faults, TcpProxy};
use qwex_testbed::wait;
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);
/// Exit codes of the table of `qwexctl help exit-codes`.
const FORBIDDEN: i32 = 5;
const CONFLICT: i32 = 6;
const UNAVAILABLE: i32 = 8;

/// A directory of somebody who has a token, or none.
struct Place {
    dir: TempDir,
    server: String,
    token: String,
}

struct Seen {
    code: i32,
    out: String,
    err: String,
}

impl Seen {
    fn expect(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "wanted {code}, got {}: {}{}",
            self.code,
            self.out,
            self.err
        );
        Ok(self)
    }

    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("no JSON: {}{}", self.out, self.err))
    }
}

impl Place {
    fn of(api: &Api) -> Result<Self> {
        Ok(Self {
            dir: tempfile::tempdir()?,
            server: api.base.clone(),
            token: api.token.clone(),
        })
    }

    /// The same directory, seen by somebody else.
    fn at(self, server: impl Into<String>, token: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            token: token.into(),
            ..self
        }
    }

    async fn qwexctl(&self, args: &[&str]) -> Result<Seen> {
        let mut command = tokio::process::Command::new(binary("qwexctl")?);
        command
            .args(args)
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", std::env::var_os("PATH").context("no PATH")?)
            .env("QWEX_RETRY_FOR", "1s")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if !self.server.is_empty() {
            command
                .env("QWEX_SERVER", &self.server)
                .env("QWEX_TOKEN", &self.token);
        }
        let output = tokio::time::timeout(2 * LIMIT, command.output())
            .await
            .with_context(|| format!("{args:?} did not end"))??;
        Ok(Seen {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a shell script on this machine; its exit code does not matter.
    async fn run(&self, flags: &[&str], script: &str) -> Result<String> {
        let shell = ["--", "sh", "-c", script];
        self.qwexctl(&[&["run"], flags, &shell].concat()).await?;
        let listed = self.qwexctl(&["ps", "--local", "-q"]).await?.expect(0)?;
        let id = listed.out.lines().next().context("no run is recorded")?;
        Ok(id.to_owned())
    }

    fn file(&self, id: &str, name: &str) -> PathBuf {
        self.dir.path().join(".qwex/runs").join(id).join(name)
    }

    fn bytes(&self, id: &str, name: &str) -> Result<Vec<u8>> {
        let path = self.file(id, name);
        std::fs::read(&path).with_context(|| path.display().to_string())
    }

    fn record(&self, id: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.bytes(id, "run.json")?)?)
    }
}

/// Times are kept to the microsecond by a server, so that is what is compared.
fn to_micros(run: &mut Value) -> Result<()> {
    for field in ["created_at", "dispatched_at", "started_at", "finished_at"] {
        if let Some(text) = run[field].as_str() {
            let at: jiff::Timestamp = text.parse()?;
            run[field] = at.as_microsecond().into();
        }
    }
    Ok(())
}

/// The run objects of two keepers, without what must differ: who keeps it, and that it was brought there.
fn same_run(mut one: Value, mut other: Value) -> Result<()> {
    for run in [&mut one, &mut other] {
        to_micros(run)?;
        let fields = run.as_object_mut().context("no object")?;
        for own in ["version", "imported", "project"] {
            fields.remove(own);
        }
    }
    ensure!(one == other, "{one:#}\n{other:#}");
    Ok(())
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

#[tokio::test]
async fn a_local_run_goes_to_a_server_and_into_another_directory_unchanged() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let api = server.project("team", "submitter").await?;
    let laptop = Place::of(&api)?;
    let script = "head -c 3000000 /dev/urandom; printf 'no newline'; printf 'to \\377 stderr\\n' >&2; exit 3";
    let id = laptop
        .run(&["--name", "train", "-l", "team=vision", "-e", "A=b"], script)
        .await?;
    let pushed = laptop
        .qwexctl(&["push", "train", "-o", "json"])
        .await?
        .expect(0)?;
    ensure!(
        pushed.json()?["items"][0]["imported"]["by"] == "token:team-submitter",
        "{}",
        pushed.out
    );

    let kept = api.get(&format!("/v1/runs/{id}")).await?.expect(200)?.json();
    let local = laptop.record(&id)?;
    ensure!(local["logs"]["sha256"] == kept["logs"]["sha256"] && kept["logs"]["verdict"] == "complete");
    same_run(local.clone(), kept.clone())?;
    for stream in ["stdout", "stderr"] {
        let log = api
            .get(&format!("/v1/runs/{id}/logs?stream={stream}"))
            .await?
            .expect(200)?;
        ensure!(
            log.bytes == laptop.bytes(&id, &format!("{stream}.log"))?,
            "{stream}"
        );
    }
    let kinds = api.event_kinds(&id).await?;
    ensure!(
        kinds == ["submitted", "dispatched", "started", "failed", "imported"],
        "{kinds:?}"
    );

    let again = laptop.qwexctl(&["push", &id]).await?.expect(0)?;
    ensure!(again.err.contains("there already"), "{}", again.err);
    ensure!(api.get(&format!("/v1/runs/{id}")).await?.json() == kept);

    let elsewhere = Place::of(&api)?;
    let pulled = elsewhere.qwexctl(&["pull", "train", "-q"]).await?.expect(0)?;
    ensure!(pulled.out.trim() == id, "{}", pulled.out);
    for name in ["stdout.log", "stderr.log"] {
        ensure!(laptop.bytes(&id, name)? == elsewhere.bytes(&id, name)?, "{name}");
    }
    same_run(local, elsewhere.record(&id)?)?;
    let again = elsewhere.qwexctl(&["pull", &id]).await?.expect(0)?;
    ensure!(again.err.contains("there already"), "{}", again.err);
    let back = elsewhere.qwexctl(&["push", &id]).await?.expect(0)?;
    ensure!(back.err.contains("there already"), "{}", back.err);
    offline(elsewhere.at("", ""), &id).await?;
    server.settle(&[]).await
}

/// What works on a run that was pulled when there is no server.
async fn offline(place: Place, id: &str) -> Result<()> {
    ensure!(place.qwexctl(&["ps"]).await?.expect(0)?.out.contains(id));
    let run = place
        .qwexctl(&["get", id, "-o", "json"])
        .await?
        .expect(0)?
        .json()?;
    ensure!(
        run["exit_code"] == 3 && run["imported"]["by"] == "token:team-submitter",
        "{run:#}"
    );
    let described = place.qwexctl(&["describe", id]).await?.expect(0)?.out;
    for words in ["Imported:", "ATTEMPTS", "EVENTS", "stderr"] {
        ensure!(described.contains(words), "{words}: {described}");
    }
    let record = place
        .qwexctl(&["describe", id, "-o", "json"])
        .await?
        .expect(0)?
        .json()?;
    ensure!(
        record["events"]
            .as_array()
            .is_some_and(|events| events.len() == 5),
        "{record:#}"
    );
    ensure!(
        place
            .qwexctl(&["events", id])
            .await?
            .expect(0)?
            .out
            .contains("imported")
    );
    ensure!(
        place
            .qwexctl(&["why", id])
            .await?
            .expect(0)?
            .out
            .contains("elsewhere")
    );
    let log = place.qwexctl(&["logs", id, "--stderr"]).await?.expect(0)?;
    ensure!(
        log.err.contains("stderr") || log.out.contains("stderr"),
        "{}{}",
        log.out,
        log.err
    );
    place.qwexctl(&["logs", "-f", id]).await?.expect(0)?;
    place.qwexctl(&["diff", id, id]).await?.expect(0)?;
    place.qwexctl(&["rerun", id]).await?.expect(3)?;
    let newest = place
        .qwexctl(&["get", "@latest", "-o", "json"])
        .await?
        .expect(0)?
        .json()?;
    ensure!(
        newest["id"] != id && newest.get("imported").is_none(),
        "{newest:#}"
    );
    place.qwexctl(&["diff", id, "@latest"]).await?.expect(1)?;
    place.qwexctl(&["rm", id]).await?.expect(0)?;
    Ok(())
}

#[tokio::test]
async fn a_run_of_a_server_is_pulled_as_it_is_and_pushed_to_another_one() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let script = "printf 'one\\ntwo\\n'; printf 'three\\n' >&2; sleep 1; printf four";
    let run = server
        .api
        .submit(&json!({"command": script, "name": "there"}))
        .await?;
    let id = run.id.to_string();
    let place = Place::of(&server.api)?;
    let early = place.qwexctl(&["pull", &id]).await?.expect(CONFLICT)?;
    ensure!(
        early.err.contains("wrong_state") && early.err.contains("--wait"),
        "{}",
        early.err
    );
    ensure!(!place.file(&id, "run.json").exists());
    place.qwexctl(&["pull", "there", "--wait"]).await?.expect(0)?;
    let kept = server.api.get(&format!("/v1/runs/{id}")).await?.json();
    let mut pulled = place.record(&id)?;
    pulled.as_object_mut().context("no object")?.remove("version");
    ensure!(pulled == kept, "{pulled:#}\n{kept:#}");
    let history: Value = serde_json::from_slice(&place.bytes(&id, "history.json")?)?;
    for (field, route) in [
        ("events", "events"),
        ("attempts", "attempts"),
        ("log_streams", "logs/streams"),
    ] {
        let told = server.api.get(&format!("/v1/runs/{id}/{route}")).await?.json();
        ensure!(history[field] == told["items"], "{field}: {history:#}");
    }
    let known = place.qwexctl(&["push", &id]).await?.expect(0)?;
    ensure!(known.err.contains("there already"), "{}", known.err);

    let other = Server::start().await?;
    let place = place.at(other.api.base.clone(), other.api.token.clone());
    place.qwexctl(&["push", &id]).await?.expect(0)?;
    let there = other
        .api
        .get(&format!("/v1/runs/{id}"))
        .await?
        .expect(200)?
        .json();
    ensure!(there["imported"]["by"] == "token:test-admin", "{there:#}");
    same_run(kept, there)?;
    ensure!(other.api.log(&id).await? == server.api.log(&id).await?);
    // Its cluster is one of the first server: no list of this one's clusters shows it.
    let listed = other.api.get("/v1/runs?cluster=local").await?.json();
    ensure!(!listed.to_string().contains(&id), "{listed:#}");
    other.settle(&[]).await?;
    server.settle(&[]).await
}

#[tokio::test]
async fn another_run_of_that_id_is_a_conflict_on_both_sides() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let place = Place::of(&server.api)?;
    let id = place.run(&[], "echo first").await?;
    place.qwexctl(&["push", &id]).await?.expect(0)?;
    let before = server.api.get(&format!("/v1/runs/{id}")).await?.json();
    let mut other = place.record(&id)?;
    other["spec"]["command"] = json!(["another"]);
    std::fs::write(place.file(&id, "run.json"), other.to_string())?;
    for verb in ["push", "pull"] {
        let refused = place.qwexctl(&[verb, &id]).await?.expect(CONFLICT)?;
        ensure!(
            refused.err.contains("run_id_taken") && refused.err.contains("spec"),
            "{}",
            refused.err
        );
    }
    ensure!(server.api.get(&format!("/v1/runs/{id}")).await?.json() == before);
    ensure!(place.record(&id)? == other);

    // A log that was changed after it was summed up is no log of that run.
    let id = place.run(&[], "echo second").await?;
    std::fs::write(place.file(&id, "stdout.log"), "forged\n")?;
    let refused = place.qwexctl(&["push", &id]).await?;
    ensure!(
        refused.code != 0 && refused.err.contains("SHA-256"),
        "{}",
        refused.err
    );
    server.api.get(&format!("/v1/runs/{id}")).await?.expect(404)?;
    server.settle(&[]).await
}

#[tokio::test]
async fn who_may_not_and_what_is_not_over_is_refused() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let viewer = server.project("team", "viewer").await?;
    let submitter = server.project("team", "submitter").await?;
    let stranger = server.project("others", "submitter").await?;
    let place = Place::of(&viewer)?;
    // Long enough that the refusal comes while it is being sent.
    let id = place.run(&[], "head -c 9000000 /dev/urandom").await?;
    let refused = place.qwexctl(&["push", &id]).await?.expect(FORBIDDEN)?;
    ensure!(refused.err.contains("forbidden"), "{}", refused.err);
    let place = place.at(submitter.base.clone(), submitter.token.clone());
    place.qwexctl(&["push", &id]).await?.expect(0)?;
    let place = place.at(viewer.base.clone(), viewer.token.clone());
    place.qwexctl(&["push", &id]).await?.expect(0)?;
    // Somebody of another project learns that the id is taken, and nothing else.
    let place = place.at(stranger.base.clone(), stranger.token.clone());
    let refused = place.qwexctl(&["push", &id]).await?.expect(CONFLICT)?;
    ensure!(!refused.err.contains("team"), "{}", refused.err);
    let empty = Place::of(&stranger)?;
    empty.qwexctl(&["pull", &id]).await?.expect(3)?;

    let place = place.at(submitter.base.clone(), submitter.token.clone());
    let started = place
        .qwexctl(&["run", "-d", "--", "sleep", "600"])
        .await?
        .expect(0)?;
    let under_way = started.out.trim().to_owned();
    let refused = place.qwexctl(&["push", &under_way]).await?.expect(CONFLICT)?;
    ensure!(
        refused.err.contains("wrong_state") && refused.err.contains("qwexctl wait"),
        "{}",
        refused.err
    );
    let all = place.qwexctl(&["push", "--all", "-q"]).await?.expect(0)?;
    ensure!(
        all.out.trim() == id && all.err.contains(&under_way),
        "{}{}",
        all.out,
        all.err
    );
    place
        .qwexctl(&["cancel", &under_way, "--wait"])
        .await?
        .expect(0)?;
    let all = place.qwexctl(&["push", "--all", "-q"]).await?.expect(0)?;
    ensure!(all.out.contains(&under_way), "{}{}", all.out, all.err);
    ensure!(submitter.run(&under_way).await?.status.as_str() == "cancelled");
    server.settle(&[]).await
}

#[tokio::test]
async fn every_attempt_of_a_run_that_was_retried_goes_over() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let place = Place::of(&server.api)?;
    let script = "echo try $QWEX_ATTEMPT; echo err $QWEX_ATTEMPT >&2; exit 7";
    let id = place.run(&["--retries", "1"], script).await?;
    let sealed = || async {
        let run = place.record(&id).ok()?;
        (run["logs"] != Value::Null).then_some(())
    };
    wait::until(LIMIT, "the end of all attempts", sealed).await?;
    place.qwexctl(&["push", &id]).await?.expect(0)?;
    let wanted: String = (1..=2).map(|n| format!("try {n}\nerr {n}\n")).collect();
    ensure!(server.api.log(&id).await? == wanted);
    let attempts = server.api.items(&format!("/v1/runs/{id}/attempts")).await?;
    let codes: Vec<&Value> = attempts.iter().map(|one| &one["exit_code"]).collect();
    ensure!(codes == [&Value::Null, &json!(7)], "{attempts:#?}");
    same_run(
        place.record(&id)?,
        server.api.get(&format!("/v1/runs/{id}")).await?.json(),
    )?;
    let elsewhere = Place::of(&server.api)?;
    elsewhere.qwexctl(&["pull", &id]).await?.expect(0)?;
    ensure!(elsewhere.bytes(&id, "stdout-a2.log")? == b"try 2\n");
    let log = elsewhere.qwexctl(&["logs", &id, "--stdout"]).await?.expect(0)?;
    ensure!(log.out == "try 1\ntry 2\n", "{}", log.out);
    server.settle(&[]).await
}

#[tokio::test]
async fn a_transfer_that_is_cut_brings_nothing_and_again_it_is_whole() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let address: std::net::SocketAddr = server.api.base.trim_start_matches("http://").parse()?;
    let proxy = TcpProxy::start(address).await?;
    let through = format!("http://{}", proxy.addr());
    let (direct, token) = (server.api.base.clone(), server.api.token.clone());
    let place = Place::of(&server.api)?;
    let id = place.run(&[], "head -c 5000000 /dev/urandom").await?;

    let cut = Fault::CutAfter {
        bytes: 2_000_000,
        how: Cut::Reset,
    };
    proxy.set(Faults::up(cut));
    let place = place.at(through.clone(), token.clone());
    place.qwexctl(&["push", &id]).await?.expect(UNAVAILABLE)?;
    server.api.get(&format!("/v1/runs/{id}")).await?.expect(404)?;
    proxy.set(Faults::NONE);
    place.qwexctl(&["push", &id]).await?.expect(0)?;
    ensure!(server.api.log(&id).await? == place.bytes(&id, "stdout.log")?);

    let elsewhere = Place::of(&server.api)?.at(through, token.clone());
    proxy.set(Faults::down(cut));
    elsewhere.qwexctl(&["pull", &id]).await?.expect(UNAVAILABLE)?;
    ensure!(is_empty(&elsewhere.dir.path().join(".qwex/runs")));
    ensure!(is_empty(&elsewhere.dir.path().join(".qwex/incoming")));
    let elsewhere = elsewhere.at(direct, token);
    elsewhere.qwexctl(&["pull", &id]).await?.expect(0)?;
    ensure!(elsewhere.bytes(&id, "stdout.log")? == place.bytes(&id, "stdout.log")?);
    server.settle(&[]).await
}
