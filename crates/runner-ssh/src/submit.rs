//! From a piece of work to a supervisor on the host that owns it: at most one per attempt, however often
//! it is submitted and wherever a reply is lost.
//!
//! Everything goes into a directory with a name of its own first; moving it into place is atomic and
//! happens once. A supervisor takes the attempt for itself the same way before it starts anything.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use qwex_core::{JobSpec, ObjectUid, RunId};
use qwex_runner::{Key, RunnerError, Submitted, Transfer, Work};

use crate::config::SshConfig;
use crate::install::{self, Mode};
use crate::records::WorkRecord;
use crate::serve::{Host, Reply, Served};
use crate::snapshot;
use crate::words::{encode, is_variable};
use crate::{error, workspace};

/// Hands an attempt to the host, or adopts what is there.
pub async fn submit(served: &Served, work: &Work) -> Result<Submitted, RunnerError> {
    check(&work.spec)?;
    let object = work.object_name();
    let sends = work
        .workspace
        .as_ref()
        .filter(|workspace| workspace.send != Transfer::Nothing);
    if sends.is_some() {
        // Files are not sent for an attempt that is there already.
        let replies = served.ask(&[format!("resume {object}")]).await?;
        let known = replies.first().filter(|reply| !reply.has("absent"));
        if let Some(reply) = known {
            return submitted(served.config(), work, reply);
        }
    }
    let mode = install::mode(served).await?;
    let host = served.host().await?;
    let stage = Stage::new(served, &host, work, &mode)?;
    let reply = match sends {
        Some(files) => {
            served
                .ask_once(&[stage.begin()])
                .await
                .map_err(|unanswered| unanswered.error)?;
            workspace::send(served, &stage.name, files).await?;
            stage
                .finish(served, false)
                .await
                .map_err(|unanswered| unanswered.error)?
        }
        None => match stage.finish(served, true).await {
            // Nobody read it; under another name it can be sent again.
            Err(unanswered) if unanswered.stale => Stage::new(served, &host, work, &mode)?
                .finish(served, true)
                .await
                .map_err(|unanswered| unanswered.error)?,
            Err(unanswered) => return Err(unanswered.error),
            Ok(reply) => reply,
        },
    };
    submitted(served.config(), work, &reply)
}

/// An attempt under a name of its own, before it is moved into place.
struct Stage {
    name: String,
    object: String,
    files: Vec<String>,
    /// Bytes of all files, by which the host knows that it has them whole.
    bytes: usize,
}

impl Stage {
    fn new(served: &Served, host: &Host, work: &Work, mode: &Mode) -> Result<Self, RunnerError> {
        let name = RunId::mint().to_string();
        let record = record(served.config(), host, work);
        let json = serde_json::to_string(&record).map_err(|error| RunnerError::Failed {
            message: format!("cannot write the work down: {error}"),
        })?;
        let mut contents = vec![("work.json", vec![json]), ("mode", vec![mode.words()])];
        if let Mode::Script { .. } = mode {
            contents.push(("command", command(&record)));
        }
        let bytes = contents
            .iter()
            .flat_map(|(_, lines)| lines)
            .map(|line| line.len() + 1);
        let bytes = bytes.sum();
        let file = |(file, lines): (&str, Vec<String>)| {
            format!("file {name} {file} {}\n{}", lines.len(), lines.join("\n"))
        };
        let files = contents.into_iter().map(file).collect();
        Ok(Self {
            name,
            object: work.object_name(),
            files,
            bytes,
        })
    }

    fn begin(&self) -> String {
        format!("stage {}", self.name)
    }

    async fn finish(&self, served: &Served, begin: bool) -> Result<Reply, crate::serve::Unanswered> {
        let mut requests: Vec<String> = begin.then(|| self.begin()).into_iter().collect();
        requests.extend(self.files.iter().cloned());
        requests.push(format!("start {} {} {}", self.name, self.object, self.bytes));
        let replies = served.ask_once(&requests).await?;
        Ok(replies.into_iter().next_back().unwrap_or_default())
    }
}

/// Checks that what is there is this very work.
fn submitted(config: &SshConfig, work: &Work, reply: &Reply) -> Result<Submitted, RunnerError> {
    let key = Key::of_work(work);
    let there: Option<WorkRecord> = reply
        .find("work")
        .and_then(|text| serde_json::from_str(text).ok());
    match there {
        // Without a command it is what a cancel put there before anything was submitted.
        Some(there) if there.spec_hash == work.spec.hash() || there.command.is_empty() => {}
        Some(_) => {
            return Err(RunnerError::NameConflict {
                object: key.object(),
                message: format!("it was submitted to {} with another spec", config.host),
            });
        }
        None => {
            return Err(RunnerError::NameConflict {
                object: key.object(),
                message: format!(
                    "its directory on {} holds no work of ours; remove it there if nobody needs it",
                    config.host
                ),
            });
        }
    }
    let uid = reply.find("uid").ok_or_else(|| {
        error::refused(
            config,
            "its supervisor says no name; submitting it again tries again",
        )
    })?;
    Ok(Submitted {
        backend: snapshot::backend(key, config, Some(ObjectUid(uid.to_owned()))),
        adopted: reply.find("adopted") == Some("yes"),
    })
}

fn record(config: &SshConfig, host: &Host, work: &Work) -> WorkRecord {
    let spec = &work.spec;
    let own = format!("{}/runs/{}/work", host.root, work.object_name());
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    WorkRecord {
        run_id: work.run_id,
        attempt: work.attempt,
        spec_hash: spec.hash(),
        command: spec.command.clone(),
        env: spec.env.clone(),
        working_dir: spec.working_dir.clone().unwrap_or(own),
        timeout_ms: spec.timeout.map(|timeout| millis(timeout.as_duration())),
        grace_ms: millis(config.grace),
        output: "split".to_owned(),
        log_place: "within".to_owned(),
        unused: Vec::new(),
        created_at: Timestamp::now(),
    }
}

/// The last line of a command; no word can be this.
const WHOLE: &str = "# whole";

/// The same for the script, which reads no JSON: a word a line, the command behind its variables.
fn command(record: &WorkRecord) -> Vec<String> {
    let seconds = |millis: u64| format!("{}.{:03}", millis / 1000, millis % 1000);
    let mut variables: BTreeMap<&str, String> = record
        .env
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    variables.insert("QWEX_RUN_ID", record.run_id.to_string());
    variables.insert("QWEX_ATTEMPT", record.attempt.to_string());
    let path = record.env.get("PATH").map(String::as_str).unwrap_or_default();
    let timeout = record.timeout_ms.map_or_else(|| "none".to_owned(), seconds);
    let count = variables.len().to_string();
    let head = [
        &record.working_dir,
        &timeout,
        &seconds(record.grace_ms),
        &count,
        path,
    ]
    .map(|word| encode(word.as_bytes()));
    let variables = variables
        .iter()
        .map(|(name, value)| encode(format!("{name}={value}").as_bytes()));
    let words = record.command.iter().map(|word| encode(word.as_bytes()));
    let all = head.into_iter().chain(variables).chain(words);
    all.chain([WHOLE.to_owned()]).collect()
}

/// Refuses what no process over there can be given, before anything is sent.
fn check(spec: &JobSpec) -> Result<(), RunnerError> {
    match problems(spec).into_iter().next() {
        None => Ok(()),
        Some((_, detail)) => Err(RunnerError::Rejected { message: detail }),
    }
}

/// What is wrong with a spec for any host, each with the JSON pointer of the place.
pub fn problems(spec: &JobSpec) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    if spec.command.first().is_none_or(String::is_empty) {
        problems.push((
            "/command".to_owned(),
            "the command is empty; say what to run".to_owned(),
        ));
    }
    for (index, word) in spec.command.iter().enumerate() {
        if word.contains('\0') {
            let detail = format!("word {index} of the command holds a NUL byte");
            problems.push((format!("/command/{index}"), detail));
        }
    }
    for (name, value) in &spec.env {
        if !is_variable(name) {
            let detail = format!(
                "{name:?} cannot be the name of a variable on another machine; use letters, digits and _ only, \
                 no digit first"
            );
            problems.push((format!("/env/{name}"), detail));
        }
        if value.contains('\0') {
            let detail = format!("the value of the variable {name} holds a NUL byte");
            problems.push((format!("/env/{name}"), detail));
        }
    }
    if let Some(dir) = spec
        .working_dir
        .as_ref()
        .filter(|dir| !dir.starts_with('/') || dir.contains('\0'))
    {
        let detail = format!("the working directory {dir:?} is no absolute path");
        problems.push(("/working_dir".to_owned(), detail));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i04_a_command_is_words_on_lines() {
        let work: WorkRecord = serde_json::from_value(serde_json::json!({
            "run_id": "019b76da-a800-7000-8000-000000000000", "attempt": 2, "spec_hash": "", "command": ["a b", "$(x)\n", ""],
            "env": {"X": "1;2"}, "working_dir": "/w d", "timeout_ms": 1500, "grace_ms": 10, "output": "split",
            "log_place": "within", "unused": [], "created_at": "2026-01-01T00:00:00Z"
        }))
        .unwrap();
        let words = command(&work);
        assert_eq!(words[..5], [r"/w\0040d", "1.500", "0.010", "3", ""]);
        assert_eq!(
            words[7..],
            [r"X=1\00732", r"a\0040b", r"\0044\0050x\0051\0012", "", WHOLE]
        );
    }
}
