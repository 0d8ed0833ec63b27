//! `describe`: all about one run, for people; as JSON the parts of the API side by side.

use std::fmt::Write as _;

use jiff::Timestamp;
use qwex_api::log::LogStreamInfo;
use qwex_api::run::AttemptInfo;
use qwex_core::{Provenance, Run, RunEvent, Usage};
use serde::Serialize;

use super::Done;
use super::get::tell_trouble;
use super::session::Session;
use super::target::{Target, find};
use crate::cli::DescribeArgs;
use crate::direct::History;
use crate::output::escape::one_line;
use crate::output::{self, Row, age, pairs, table};
use crate::remote::{Answer, EventQuery, Verbatim};

pub async fn describe(session: &Session, args: &DescribeArgs) -> Done {
    let (client, id) = match find(session, &args.run).await? {
        Target::Remote(client, id) => (client, id),
        Target::Here(local, id) => {
            let run = local.settled(local.get(id)?).await?;
            tell_trouble(session, &local, &run)?;
            if let Some(history) = local.history(id)? {
                return pulled(session, &run, history);
            }
            let place = format!(
                "{:<14}{}\n",
                "Record:",
                local.path().join(id.to_string()).display()
            );
            session.out.one(&run, &id.to_string(), || head(&run) + &place)?;
            return Ok(0);
        }
    };
    let told = Told {
        run: client.get_run(id, None).await?,
        attempts: client.list_attempts(id).await?.items,
        events: client.list_events(id, EventQuery::default()).await?.items,
        streams: client.list_log_streams(id).await?.items,
    };
    told.print(session)
}

/// A run that was brought here from a server, with the history that the server told.
fn pulled(session: &Session, run: &Run, history: History) -> Done {
    let told = Told {
        run: Answer::of(run.clone()),
        attempts: history.attempts.into_iter().map(Answer::of).collect(),
        events: history.events.into_iter().map(Answer::of).collect(),
        streams: history.log_streams.into_iter().map(Answer::of).collect(),
    };
    told.print(session)
}

/// All that is known of one run.
struct Told {
    run: Answer<Run>,
    attempts: Vec<Answer<AttemptInfo>>,
    events: Vec<Answer<RunEvent>>,
    streams: Vec<Answer<LogStreamInfo>>,
}

impl Told {
    fn print(&self, session: &Session) -> Done {
        let json = Parts {
            run: &self.run.json,
            attempts: jsons(&self.attempts),
            events: jsons(&self.events),
            log_streams: jsons(&self.streams),
        };
        session.out.one(&json, &self.run.value.id.to_string(), || {
            let mut text = head(&self.run.value);
            text.push_str(&attempts_text(&self.attempts));
            text.push_str(&streams_text(&self.streams));
            text.push_str(&events_text(&self.events));
            text
        })?;
        Ok(0)
    }
}

#[derive(Serialize)]
struct Parts<'a> {
    run: &'a Verbatim,
    attempts: Vec<&'a Verbatim>,
    events: Vec<&'a Verbatim>,
    log_streams: Vec<&'a Verbatim>,
}

fn jsons<T>(items: &[Answer<T>]) -> Vec<&Verbatim> {
    items.iter().map(|item| &item.json).collect()
}

/// `Name:   value`, one a line; what is not set is left out.
struct Fields(String);

impl Fields {
    fn add(&mut self, name: &str, value: impl AsRef<str>) {
        let value = one_line(value.as_ref());
        if !value.is_empty() {
            writeln!(self.0, "{:<14}{value}", format!("{name}:")).expect("a String takes every write");
        }
    }

    fn add_some(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name, value.to_string());
        }
    }
}

fn head(run: &Run) -> String {
    let mut fields = Fields(String::new());
    fields.add("Run", run.id.to_string());
    fields.add_some("Name", run.name.as_ref());
    fields.add("Project", run.project.to_string());
    fields.add("Labels", pairs(&run.labels));
    fields.add(
        "Status",
        output::status_words(run.status, run.pending.as_ref(), run.failure.as_ref()),
    );
    fields.add_some("Reason", run.pending.as_ref().map(|pending| &pending.message));
    fields.add_some("Reason", run.failure.as_ref().map(|failure| &failure.message));
    fields.add_some("Exit code", run.exit_code);
    let flags: Vec<&str> = run.flags.iter().map(|flag| flag.as_str()).collect();
    fields.add("Flags", flags.join(", "));
    fields.add("Command", shell_words(&run.spec.command));
    fields.add_some("Image", run.spec.image.as_ref());
    fields.add("Env", pairs(&run.spec.env));
    fields.add("Secrets", pairs(&run.spec.secrets));
    fields.add_some("Working dir", run.spec.working_dir.as_ref());
    fields.add("Resources", resources(run));
    fields.add_some("Timeout", run.spec.timeout);
    fields.add_some("Retries", Some(run.spec.retry.limit).filter(|limit| *limit > 0));
    fields.add_some("Queue", run.spec.queue.as_ref());
    fields.add_some("Priority class", run.spec.priority_class.as_ref());
    if let Some(backend) = &run.backend {
        let place = backend.cluster.as_ref().map_or_else(
            || backend.kind.to_string(),
            |cluster| format!("{cluster} ({})", backend.kind),
        );
        fields.add("Backend", place);
        fields.add_some("Namespace", backend.namespace.as_ref());
        fields.add("Object", &backend.object);
    }
    fields.add(
        "Created",
        format!("{} by {}", age::full(run.created_at), run.created_by),
    );
    if let Some(imported) = &run.imported {
        let words = format!(
            "{} by {}; it ended elsewhere",
            age::full(imported.at),
            imported.by
        );
        fields.add("Imported", words);
    }
    fields.add_some("Dispatched", run.dispatched_at.map(age::full));
    fields.add_some("Started", run.started_at.map(age::full));
    fields.add_some("Finished", run.finished_at.map(age::full));
    fields.add_some("Used", run.usage.as_ref().map(usage_words));
    origin(&mut fields, run.provenance.as_ref());
    if let Some(logs) = &run.logs {
        fields.add(
            "Log",
            format!(
                "{}, {} lines, {} bytes, SHA-256 {}",
                logs.verdict, logs.lines, logs.bytes, logs.sha256
            ),
        );
    }
    fields.0
}

/// What a run comes from, as far as it is known.
fn origin(fields: &mut Fields, provenance: Option<&Provenance>) {
    let Some(known) = provenance else { return };
    fields.add_some("Host", known.host.as_ref());
    fields.add_some("Image digest", known.image_digest.as_ref());
    let dirty = match known.git_dirty {
        Some(true) => ", with changes",
        Some(false) | None => "",
    };
    let commit = known.git_commit.as_ref();
    fields.add_some("Git commit", commit.map(|commit| format!("{commit}{dirty}")));
    fields.add_some("Run through", known.runs_by.as_ref());
    fields.add_some("qwex", known.qwex_version.as_ref());
}

/// `1.250s of processor time, 12.5 MiB of memory at most, sampled while it ran`.
fn usage_words(usage: &Usage) -> String {
    let cpu = usage
        .cpu_ms
        .map(|ms| format!("{}.{:03}s of processor time", ms / 1000, ms % 1000));
    let memory = usage
        .max_memory_bytes
        .map(|bytes| format!("{:.1} MiB of memory at most", bytes as f64 / 1_048_576.0));
    let sampled = usage.sampled.then(|| "sampled while it ran".to_owned());
    let words: Vec<String> = [cpu, memory, sampled].into_iter().flatten().collect();
    words.join(", ")
}

fn resources(run: &Run) -> String {
    let asked = &run.spec.resources;
    let parts = [
        asked.cpu.as_ref().map(|cpu| format!("cpu {cpu}")),
        asked.memory.as_ref().map(|memory| format!("memory {memory}")),
        asked.gpu.map(|gpu| format!("gpu {gpu}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A command as one could type it.
fn shell_words(words: &[String]) -> String {
    let plain = |word: &String| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c))
    };
    let quoted = words.iter().map(|word| {
        if plain(word) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn attempts_text(attempts: &[Answer<AttemptInfo>]) -> String {
    let mut rows = Vec::new();
    for attempt in attempts.iter().map(|attempt| &attempt.value) {
        let reason = attempt
            .failure
            .as_ref()
            .map(|failure| format!("{}: {}", failure.code, failure.message));
        rows.push(vec![
            attempt.attempt.to_string(),
            attempt.status.to_string(),
            attempt
                .cluster
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            attempt.exit_code.map(|code| code.to_string()).unwrap_or_default(),
            times(attempt.started_at, attempt.finished_at),
            reason.unwrap_or_default(),
        ]);
        for episode in &attempt.episodes {
            rows.push(vec![
                format!("  {}", episode.id),
                episode.reason.clone().unwrap_or_default(),
                episode.node.clone().unwrap_or_default(),
                episode.exit_code.map(|code| code.to_string()).unwrap_or_default(),
                times(episode.started_at, episode.ended_at),
                episode
                    .signal
                    .map(|signal| format!("signal {signal}"))
                    .unwrap_or_default(),
            ]);
        }
    }
    section(
        "ATTEMPTS",
        &["ATTEMPT", "STATUS", "WHERE", "EXIT", "TIME", "REASON"],
        &rows,
    )
}

fn times(from: Option<Timestamp>, to: Option<Timestamp>) -> String {
    match (from, to) {
        (Some(from), Some(to)) => age::short(to.duration_since(from)),
        (Some(from), None) => format!("since {}", age::full(from)),
        (None, _) => String::new(),
    }
}

fn streams_text(streams: &[Answer<LogStreamInfo>]) -> String {
    let rows: Vec<Vec<String>> = streams
        .iter()
        .map(|stream| &stream.value)
        .map(|stream| {
            vec![
                stream.attempt.to_string(),
                stream.stream.clone(),
                stream
                    .verdict
                    .map_or_else(|| "open".to_owned(), |verdict| verdict.to_string()),
                stream.lines.to_string(),
                stream.bytes.to_string(),
                stream.message.clone().unwrap_or_default(),
            ]
        })
        .collect();
    section(
        "LOGS",
        &["ATTEMPT", "STREAM", "VERDICT", "LINES", "BYTES", "MESSAGE"],
        &rows,
    )
}

fn events_text(events: &[Answer<RunEvent>]) -> String {
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = events.iter().map(|event| event.value.cells(false, now)).collect();
    section("EVENTS", &RunEvent::heads(false), &rows)
}

fn section(title: &str, heads: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    format!("\n{title}\n{}", table(Some(heads), rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_typed_again() {
        let words: Vec<String> = ["sh", "-c", "echo 'hi' $HOME", ""].map(str::to_owned).to_vec();
        assert_eq!(shell_words(&words), r"sh -c 'echo '\''hi'\'' $HOME' ''");
    }
}
