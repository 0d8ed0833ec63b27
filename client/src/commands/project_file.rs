//! `init`, `validate`, `schema`: the project file itself. Needs no settings, so that a file that cannot be used stops
//! none of them.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use super::Done;
use super::guard::Guard;
use super::session::{output, variable};
use crate::cli::{FileVariables, Global, InitArgs, REMOTE, ValidateArgs};
use crate::error::{CliError, Exit, MEND_DIRECTORY};
use crate::output::print;
use crate::policy::{Action, Asked};
use crate::progress::Progress;
use crate::project_file::{self, BACKENDS, Complaint, Expanded, FILE_NAME, Source, Stage, Variables};

/// `schema`: for an editor.
pub fn schema() -> Done {
    let text = serde_json::to_string_pretty(&project_file::schema()).map_err(std::io::Error::other)?;
    print(&(text + "\n"))?;
    Ok(0)
}

/// `init`: writes a file for what is found here.
pub fn init(global: &Global, args: &InitArgs) -> Done {
    let dir = here()?;
    let (found, text) = project_file::detect(&dir);
    if args.stdout {
        print(&text)?;
        return Ok(0);
    }
    write(&dir.join(FILE_NAME), &text, args.force)?;
    let progress = Progress::new(global.progress);
    for one in &found {
        let stages: Vec<&str> = one.stages.iter().map(|(name, _, _)| *name).collect();
        progress.stage("found", &format!("{}: stage {}", one.because, stages.join(", ")));
    }
    if found.is_empty() {
        progress.note("nothing known is here; the file has one stage to begin with");
    }
    let written =
        json!({"file": FILE_NAME, "stages": found.iter().map(|one| one.stages.len()).sum::<usize>().max(1)});
    output(global).one(&written, FILE_NAME, || {
        format!("wrote {FILE_NAME}\n  check    qwexctl validate\n  look     qwexctl pipeline plan\n  run      qwexctl pipeline run\n")
    })?;
    Ok(0)
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), CliError> {
    // Whole or not at all: on a full disk neither an empty file is left nor an old one lost.
    let temp = path.with_file_name(format!(".{FILE_NAME}.{}.0.tmp", std::process::id()));
    let put = || match fs::hard_link(&temp, path) {
        Err(_) if force || fs::symlink_metadata(path).is_err() => fs::rename(&temp, path),
        linked => linked,
    };
    let written = OpenOptions::new().write(true).create_new(true).open(&temp);
    let written = written
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| put());
    fs::remove_file(&temp).ok();
    written.map_err(|error| {
        if error.kind() == ErrorKind::AlreadyExists {
            return CliError::new(Exit::Conflict, format!("{FILE_NAME} is here already"))
                .why("it may hold what nobody else knows, so it is not overwritten")
                .fix("look at what would be written: `qwexctl init --stdout`")
                .fix("overwrite it: `qwexctl init --force`")
                .code("already_exists");
        }
        CliError::new(Exit::Failure, format!("{FILE_NAME} cannot be written here"))
            .why(error.to_string())
            .fix(MEND_DIRECTORY)
            .code("output")
    })
}

#[derive(Serialize)]
struct Verdict<'a> {
    valid: bool,
    file: &'a str,
    stages: usize,
    runs: usize,
    problems: Vec<serde_json::Value>,
}

/// `validate`: everything that can be known without running anything.
pub fn validate(global: &Global, args: &ValidateArgs) -> Done {
    let dir = here()?;
    let path = match &args.file {
        Some(path) => path.clone(),
        None => nearest(&dir)?,
    };
    let variables = variables(&args.variables)?;
    let shown = path.strip_prefix(&dir).unwrap_or(&path).display().to_string();
    let text = project_file::text(&path, &shown)?;
    let source = Source {
        path: &shown,
        text: &text,
    };
    let default = named_backend(None)?;
    let project = path
        .parent()
        .unwrap_or(&dir)
        .canonicalize()
        .unwrap_or_else(|_| dir.clone());
    let checked = checked(source, &variables, default.as_deref(), &project);
    let out = output(global);
    match checked {
        Ok((stages, runs)) => {
            let verdict = Verdict {
                valid: true,
                file: &shown,
                stages,
                runs,
                problems: Vec::new(),
            };
            out.one(&verdict, &shown, || {
                format!("{shown} can be used: {}\n", counted(stages, runs))
            })?;
            Ok(0)
        }
        Err(complaints) if out.for_people() => Err(project_file::refused(source, &complaints)),
        Err(complaints) => {
            let told = complaints
                .iter()
                .map(|complaint| json!(complaint.told(source)))
                .collect();
            let verdict = Verdict {
                valid: false,
                file: &shown,
                stages: 0,
                runs: 0,
                problems: told,
            };
            out.one(&verdict, &shown, String::new)?;
            Ok(Exit::Usage.code())
        }
    }
}

fn counted(stages: usize, runs: usize) -> String {
    let of = |count: usize, word: &str| {
        if count == 1 {
            format!("1 {word}")
        } else {
            format!("{count} {word}s")
        }
    };
    match (stages, runs) {
        (0, _) => "no stages".to_owned(),
        (stages, runs) if stages == runs => of(stages, "stage"),
        (stages, runs) => format!("{}, {}", of(stages, "stage"), of(runs, "run")),
    }
}

fn checked(
    source: Source<'_>,
    variables: &Variables,
    default: Option<&str>,
    project: &Path,
) -> Result<(usize, usize), Vec<Complaint>> {
    let file = project_file::parse::<Vec<Stage>>(source.text).map_err(|complaint| vec![*complaint])?;
    let expanded = project_file::expanded(&file, source, variables, "PIPELINE-ID", default)?;
    let forbidden = forbidden(&file.stages, source, &expanded, project);
    if forbidden.is_empty() {
        Ok((file.stages.len(), expanded.instances.len()))
    } else {
        Err(forbidden)
    }
}

/// What the policy of this machine and user forbids of the stages.
fn forbidden(stages: &[Stage], source: Source<'_>, expanded: &Expanded, project: &Path) -> Vec<Complaint> {
    let guard = match Guard::load() {
        Ok(guard) => guard,
        Err(error) => {
            return vec![Complaint::new(
                &(0..0),
                format!("no stage can be started: {}", error.what),
            )];
        }
    };
    let mut all = Vec::new();
    for instance in &expanded.instances {
        let Some(stage) = stages.iter().find(|stage| stage.name.value == instance.stage) else {
            continue;
        };
        let asked = Asked {
            backend: &instance.backend,
            address: instance.host.as_deref(),
            spec: &instance.spec,
            workspace: (instance.backend != REMOTE).then_some(project),
        };
        let what = |what: &str| format!("the stage `{}` cannot run: {what}", stage.name.value);
        for violation in guard.policy.check(&asked) {
            let at = project_file::place_of(source.text, stages, stage, &violation.pointer);
            let complaint = Complaint::new(at.as_ref().unwrap_or(&stage.name.at), what(&violation.what));
            let told = complaint.label(format!("{} {}", violation.place, violation.rule));
            all.push(told.fix(violation.fix));
        }
        let found = guard.policy.look(&asked);
        for finding in found.iter().filter(|finding| finding.action == Action::Deny) {
            let rule = format!("the content rule {} forbids its command", finding.rule);
            let complaint = Complaint::new(&stage.command.at, what(&rule));
            let told = complaint.label(format!("{}: {}", finding.at, finding.line));
            all.push(told.fix(finding.message.clone()));
        }
    }
    all.dedup();
    all
}

/// The backend of stages that name none, where the user says so: a flag, else `QWEX_BACKEND`.
pub fn named_backend(flag: Option<&str>) -> Result<Option<String>, CliError> {
    let (word, from) = match flag {
        Some(word) => (Some(word.to_owned()), "--backend"),
        None => (variable("QWEX_BACKEND"), "QWEX_BACKEND"),
    };
    let word = word.filter(|word| !word.is_empty());
    if let Some(word) = word.as_deref().filter(|word| !BACKENDS.contains(word)) {
        let error = CliError::usage(format!("{from} names the backend {word:?}, which there is not"));
        return Err(match project_file::nearest(word, BACKENDS) {
            Some(near) => error.fix(format!("did you mean {near}?")),
            None => error.fix(format!("the backends are {}", BACKENDS.join(", "))),
        });
    }
    Ok(word)
}

/// The nearest file at a directory or above it that may be meant.
pub fn nearest(dir: &Path) -> Result<PathBuf, CliError> {
    let project_file::Located { path, passed_over } = project_file::locate(dir);
    path.ok_or_else(|| {
        let told = CliError::new(Exit::NotFound, format!("there is no {FILE_NAME} here or above"))
            .fix("write one from what is here: `qwexctl init`")
            .code("project_file");
        match passed_over {
            Some(other) => told.why(other.to_string()),
            None => told,
        }
    })
}

/// What `--set` and `--env-file` say, over the environment.
pub fn variables(args: &FileVariables) -> Result<Variables, CliError> {
    let mut variables = Variables::of_this_process();
    for path in &args.env_files {
        variables.read_env_file(path)?;
    }
    variables.set = args
        .set
        .iter()
        .map(|pair| (pair.key.clone(), pair.value.clone()))
        .collect();
    Ok(variables)
}

pub fn here() -> Result<PathBuf, CliError> {
    std::env::current_dir().map_err(|error| {
        CliError::new(Exit::Failure, "the current directory cannot be read")
            .why(error.to_string())
            .fix("change to a directory that is there: cd")
    })
}
