//! The supervisor as a program of its own, which the tests start where qwexctl and qwexcloud start
//! themselves; and two callers of it that a test may kill at any moment.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use qwex_core::{Attempt, Fact, JobSpec, Observation, PendingCode, Project};
use qwex_runner::{Handle, Store, Work};
use qwex_runner_local::waiting::WAIT;
use qwex_runner_local::{LocalBackend, LocalConfig, supervise};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["supervise", dir] => return supervise::main(Path::new(dir)),
        ["supervise", dir, WAIT] => return supervise::main_waiting(Path::new(dir)),
        ["run", root, id, script] => run(root, id, script),
        ["scribble", project, id] => scribble(project, id),
        ["create", project] => create(project),
        ["change", project, id] => change(project, id, 1),
        other => Err(format!("cannot do {other:?}").into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Submits a script and follows it, as `qwexctl run` does.
fn run(root: &str, id: &str, script: &str) -> Outcome {
    let supervisor = LocalConfig::own_supervisor("supervise");
    let backend = LocalBackend::new(LocalConfig::laptop(root, supervisor, "/".into()))?;
    let work = Work {
        run_id: id.parse()?,
        attempt: Attempt::FIRST,
        project: Project::new("default")?,
        name: None,
        labels: Default::default(),
        spec: JobSpec {
            command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
            ..JobSpec::default()
        },
        workspace: None,
    };
    let submitted = backend.submit_sync(&work)?;
    let handle = Handle {
        run_id: work.run_id,
        attempt: work.attempt,
        backend: submitted.backend,
    };
    let mut follow = backend.follow_sync(&handle);
    follow.to_the_end(&mut io::stdout(), &mut io::stderr())?;
    Ok(())
}

/// Writes the record of a run for ever.
fn scribble(project: &str, id: &str) -> Outcome {
    for round in 1.. {
        change(project, id, round)?;
    }
    Ok(())
}

/// Writes the first record of the run in the file `run`.
fn create(project: &str) -> Outcome {
    let project = Path::new(project);
    let run = serde_json::from_slice(&std::fs::read(project.join("run"))?)?;
    Store::open(project)?.create(&run)?;
    Ok(())
}

/// Writes a state over the one before.
fn change(project: &str, id: &str, round: u64) -> Outcome {
    let journal = Store::open(Path::new(project))?.journal(id.parse()?)?;
    let fact = Fact::Waiting {
        code: PendingCode::Admission,
        message: "x".repeat(usize::try_from(round)? % 9000),
        round,
    };
    journal.apply(&[Observation {
        run_id: journal.id(),
        attempt: Attempt::FIRST,
        uid: None,
        at: journal.read()?.created_at,
        fact,
    }])?;
    Ok(())
}
