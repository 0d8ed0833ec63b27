//! `context`: the servers this user speaks to. Works on the context file alone, so that a broken choice can be mended.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use secrecy::SecretString;
use serde::Serialize;

use super::Done;
use super::session::{output, variable};
use crate::cli::{ContextAdd, ContextCommand, Global};
use crate::config::{Context, ContextFile, contexts};
use crate::error::{CliError, Exit};
use crate::output::Row;
use crate::progress::Progress;

pub fn context(global: &Global, command: ContextCommand) -> Done {
    let path = context_path()?;
    let mut file = ContextFile::read(&path)?;
    let progress = Progress::new(global.progress);
    match command {
        ContextCommand::Ls => return list(global, &file),
        ContextCommand::Use { name } => {
            must_have(&file, &name)?;
            progress.stage("context", &format!("{name} is in use"));
            file.current = Some(name);
        }
        ContextCommand::Add(add) => {
            let name = add.name.clone();
            let first = file.current.is_none();
            let used = add.r#use || first;
            file.put(made(global, add)?);
            if used {
                file.current = Some(name.clone());
            }
            progress.stage(
                "context",
                &format!("{name} is added{}", if used { " and in use" } else { "" }),
            );
        }
        ContextCommand::Rm { name } => {
            must_have(&file, &name)?;
            file.contexts.retain(|context| context.name != name);
            if file.current.as_ref() == Some(&name) {
                file.current = None;
            }
            progress.stage("context", &format!("{name} is removed"));
        }
    }
    file.write(&path)?;
    Ok(0)
}

pub fn context_path() -> Result<PathBuf, CliError> {
    contexts::path(&variable).ok_or_else(|| {
        CliError::new(Exit::Failure, "there is no place for the context file")
            .why("neither QWEX_CONFIG_DIR, XDG_CONFIG_HOME nor HOME is set")
            .fix("set QWEX_CONFIG_DIR to a directory of yours")
    })
}

/// A token out of stdin. Arguments are seen by every process of the machine, so no flag takes one.
pub fn token_from_stdin() -> Result<SecretString, CliError> {
    let refused =
        |what: &str| CliError::usage(what).fix("pipe it in: `qwexctl auth login --with-token < token-file`");
    if std::io::stdin().is_terminal() {
        crate::progress::talk("Paste the token, then Enter and Ctrl-D: ");
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| refused("the token cannot be read from stdin").why(error.to_string()))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(refused("stdin holds no token"));
    }
    if token.contains(char::is_whitespace) {
        return Err(refused("stdin holds more than a token"));
    }
    Ok(token.to_owned().into())
}

fn made(global: &Global, add: ContextAdd) -> Result<Context, CliError> {
    let server = global
        .server
        .clone()
        .or_else(|| variable("QWEX_SERVER"))
        .ok_or_else(|| CliError::usage("a context needs a server").fix("add --server URL"))?;
    let token = if add.with_token {
        Some(token_from_stdin()?)
    } else {
        None
    };
    Ok(Context {
        name: add.name,
        server,
        token,
        project: add.default_project.or_else(|| global.project.clone()),
        backend: add.default_backend,
    })
}

fn must_have(file: &ContextFile, name: &str) -> Result<(), CliError> {
    if file.find(name).is_some() {
        return Ok(());
    }
    Err(
        CliError::new(Exit::NotFound, format!("there is no context {name:?}"))
            .fix("list them: `qwexctl context ls`")
            .code("no_context"),
    )
}

/// A context without its token.
#[derive(Serialize)]
struct Shown {
    name: String,
    server: String,
    project: Option<String>,
    backend: Option<String>,
    current: bool,
    has_token: bool,
}

impl Row for Shown {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn heads(_wide: bool) -> Vec<&'static str> {
        vec!["CURRENT", "NAME", "SERVER", "PROJECT", "BACKEND", "TOKEN"]
    }

    fn cells(&self, _wide: bool, _now: jiff::Timestamp) -> Vec<String> {
        vec![
            if self.current { "*" } else { " " }.to_owned(),
            self.name.clone(),
            self.server.clone(),
            self.project.clone().unwrap_or_default(),
            self.backend.clone().unwrap_or_default(),
            if self.has_token { "set" } else { "none" }.to_owned(),
        ]
    }
}

fn list(global: &Global, file: &ContextFile) -> Done {
    let shown: Vec<Shown> = file
        .contexts
        .iter()
        .map(|context| Shown {
            name: context.name.clone(),
            server: context.server.clone(),
            project: context.project.as_ref().map(ToString::to_string),
            backend: context.backend.clone(),
            current: file.current.as_ref() == Some(&context.name),
            has_token: context.token.is_some(),
        })
        .collect();
    output(global).list(shown.iter().map(|shown| (shown, shown)))?;
    Ok(0)
}
