//! What a command finds around it is what its spec says, and what it used and wrote comes back.

use std::path::Path;

use qwex_core::{BackendKind, FailureCode, RunStatus};

use super::logs::read_all;
use super::{Subject, Submission, Verdict, expect, hold};
use crate::runner::{Transfer, Workspace};

/// Values in which a shell, a line of a file or a template of Kubernetes would find something of its own.
const ODD: [(&str, &str); 7] = [
    ("ODD_EMPTY", ""),
    ("ODD_SPACES", "  a  b "),
    ("ODD_SHELL", "$(id) `id` ${HOME} $ODD_SPACES \\n;&|"),
    ("ODD_QUOTES", "'\"'\""),
    ("ODD_LINES", "one\ntwo\n"),
    ("ODD_LETTERS", "ünï → 😀"),
    ("ODD_REFERENCES", "$(ODD_SPACES) $$(ODD_SPACES) $$"),
];

pub async fn odd_values_of_variables(subject: &Subject) -> Verdict {
    let words: Vec<String> = ODD.iter().map(|(name, _)| format!("\"${name}\"")).collect();
    let mut work = subject.shell(&format!("printf '<%s>' {}", words.join(" ")));
    let pairs = ODD.map(|(name, value)| (name.to_owned(), value.to_owned()));
    work.spec.env.extend(pairs);
    let submission = subject.submit(work).await?;
    let found = read_all(subject, &submission).await?;
    let wanted: String = ODD.iter().map(|(_, value)| format!("<{value}>")).collect();
    expect("the values", String::from_utf8_lossy(&found).into_owned(), wanted)
}

pub async fn its_own_name(subject: &Subject) -> Verdict {
    let submission = subject
        .submit(subject.shell("echo $QWEX_RUN_ID $QWEX_ATTEMPT"))
        .await?;
    let found = read_all(subject, &submission).await?;
    let wanted = format!("{} 1\n", submission.work.run_id);
    expect("the names", String::from_utf8_lossy(&found).into_owned(), wanted)
}

/// A directory that every machine and every image has.
pub async fn working_directory(subject: &Subject) -> Verdict {
    let mut work = subject.shell("pwd");
    work.spec.working_dir = Some("/proc".to_owned());
    let submission = subject.submit(work).await?;
    let found = read_all(subject, &submission).await?;
    expect("the directory", found.as_slice(), b"/proc\n".as_slice())
}

/// One process that holds three times the limit at once. In containers a shell around it stays a second longer: containerd
/// hears of the lack of memory and of the end in two ways, and tells of the lack only if it heard of it first.
pub async fn memory_beyond_the_limit(subject: &Subject) -> Verdict {
    let greedy = "dd if=/dev/zero of=/dev/null bs=100000000 count=1";
    let mut work = match subject.backend.kind() {
        BackendKind::K8s | BackendKind::Docker | BackendKind::Podman => {
            subject.shell(&format!("{greedy}; code=$?; sleep 1; exit $code"))
        }
        BackendKind::Local | BackendKind::Ssh | BackendKind::Unknown => {
            subject.shell(&format!("exec {greedy}"))
        }
    };
    work.spec.resources.memory = Some("32Mi".to_owned());
    if subject.refuses(&work.spec)? {
        return Ok(());
    }
    let (_, end) = subject.run(work).await?;
    let failure = end
        .failure
        .ok_or("the limit was not kept: the command succeeded")?;
    let is_untold = subject.backend.kind() == BackendKind::Podman && failure.exit_code == Some(137);
    if is_untold && failure.message.contains("limit of memory") {
        subject.otherwise("podman on cgroup v1 tells exit code 137 only; the limit is named beside it");
        return Ok(());
    }
    hold(&failure.message, failure.code == FailureCode::Oom)
}

/// A file of the workspace can be read by the command, and what it writes is in the workspace afterwards.
pub async fn outputs_come_back(subject: &Subject) -> Verdict {
    let mut work = subject.shell("mkdir -p out && cat given.txt > out/told.txt && echo more >> out/told.txt");
    work.spec.outputs = vec!["out/*".to_owned()];
    if subject.refuses(&work.spec)? {
        return Ok(());
    }
    let own = tempfile::tempdir().map_err(|error| error.to_string())?;
    let dir = subject.workspace.as_deref().unwrap_or(own.path());
    std::fs::write(dir.join("given.txt"), "given\n").map_err(|error| error.to_string())?;
    let workspace = Workspace {
        dir: dir.to_owned(),
        send: Transfer::Everything,
    };
    work.workspace = Some(workspace.clone());
    let submission = subject.submit(work).await?;
    let end = tokio::select! {
        end = subject.wait(&submission, false) => end?,
        broken = supply(subject, &submission, &workspace) => return Err(broken),
    };
    expect("status", end.status, RunStatus::Succeeded)?;
    let outputs = &submission.work.spec.outputs;
    let collected = subject.backend.collect(&submission.handle, dir, outputs).await;
    let collected = collected.map_err(|error| format!("collect: {error}"))?;
    hold(
        &format!("only what was asked for is brought: {collected:?}"),
        collected.iter().all(|path| path == Path::new("out/told.txt")),
    )?;
    let told = std::fs::read_to_string(dir.join("out/told.txt")).map_err(|error| error.to_string())?;
    expect("the output", told.as_str(), "given\nmore\n")
}

/// As a keeper does beside the watch; ends only with an error.
async fn supply(subject: &Subject, submission: &Submission, workspace: &Workspace) -> String {
    match subject.backend.supply(&submission.handle, workspace).await {
        Ok(()) => std::future::pending().await,
        Err(error) => format!("supply: {error}"),
    }
}

/// What a backend cannot know of it, it does not tell, and the table says so. Where it is measured now and then while a run
/// lasts, this one lasts a while.
pub async fn usage_is_told(subject: &Subject) -> Verdict {
    let lasts = subject.measured_within.as_secs();
    let script = format!("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep {lasts}");
    let (submission, _) = subject.run(subject.shell(&script)).await?;
    let details = subject.backend.details(&submission.handle).await;
    let usage = details
        .map_err(|error| format!("details: {error}"))?
        .usage
        .ok_or(format!("nothing is told of a run of {lasts} s"))?;
    let cpu = usage
        .cpu_ms
        .ok_or(format!("no processor time is told: {usage:?}"))?;
    let memory = usage.max_memory_bytes;
    if memory.is_none() {
        subject.otherwise("processor time alone");
    }
    let is_memory = memory.is_none_or(|bytes| (100_000..1_000_000_000).contains(&bytes));
    hold(
        &format!("{usage:?} is what such a command uses"),
        (1..60_000).contains(&cpu) && is_memory,
    )
}
