//! Every setting with its origin.

use std::fmt;
use std::path::{Path, PathBuf};

use qwex_core::{Project, Span};
use secrecy::SecretString;

use super::contexts::{self, ContextFile};
use crate::error::{CliError, Exit};
use crate::project_file::{self, PassedOver, ProjectFile, Unread};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Flag(&'static str),
    Env(&'static str),
    ProjectFile(PathBuf),
    Context { file: PathBuf, name: String },
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::ProjectFile(path) => write!(f, "project file {}", path.display()),
            Self::Context { file, name } => write!(f, "context {name} in {}", file.display()),
            Self::Default => write!(f, "default"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone)]
pub struct Valued<T> {
    pub value: T,
    pub origin: Origin,
}

impl<T> Valued<T> {
    fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }
}

/// What the flags say.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    pub context: Option<String>,
    pub server: Option<String>,
    pub project: Option<Project>,
}

/// The world around the process; tests bring their own.
pub struct Surroundings<'a> {
    pub env: &'a dyn Fn(&str) -> Option<String>,
    pub dir: &'a Path,
}

/// All settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `None`: this user has no home, so nothing can be stored.
    pub context_path: Option<PathBuf>,
    pub context: Option<Valued<String>>,
    pub server: Option<Valued<String>>,
    pub token: Option<Valued<SecretString>>,
    /// `None`: the token's own project.
    pub project: Option<Valued<Project>>,
    /// Where runs go that name no backend.
    pub backend: Valued<String>,
    /// How long a submit is tried again while the server does not answer.
    pub retry_for: Valued<Span>,
    pub file: ProjectFile<Option<Unread>>,
    pub file_path: Option<PathBuf>,
    /// A project file of somebody else that was not looked at.
    pub passed_over: Option<PassedOver>,
}

const RETRY_FOR: Span = Span::from_secs(10);

impl Settings {
    /// Gathers every setting; reads the project file and the context file.
    ///
    /// # Errors
    /// One of the files cannot be read, a variable has no usable value, or the chosen context does not exist.
    pub fn gather(choices: &Choices, around: &Surroundings<'_>) -> Result<Self, CliError> {
        let env = |name: &str| (around.env)(name).filter(|value| !value.is_empty());
        let (read, passed_over) = project_file::find(around.dir)?;
        let (file_path, file) = match read {
            Some(read) => (Some(read.path), read.file),
            None => (None, ProjectFile::default()),
        };
        let from_file = || Origin::ProjectFile(file_path.clone().unwrap_or_default());
        let context_path = contexts::path(around.env);
        let known = match &context_path {
            Some(path) => ContextFile::read(path)?,
            None => ContextFile::default(),
        };
        let context = context_name(choices, &env, &file, from_file(), context_path.as_deref(), &known);
        let mut settings = Self {
            backend: backend(&env, &file, from_file()),
            retry_for: retry_for(&env)?,
            server: None,
            token: None,
            project: None,
            context,
            context_path,
            file,
            file_path,
            passed_over,
        };
        settings.take_context(
            choices,
            &known,
            choices.server.is_some() || env("QWEX_SERVER").is_some(),
        )?;
        settings.override_with(choices, &env)?;
        Ok(settings)
    }

    /// Takes what the context in use says. A context that was only `current` may be stale when the server is
    /// named otherwise; one that was asked for must exist.
    fn take_context(
        &mut self,
        choices: &Choices,
        known: &ContextFile,
        server_given: bool,
    ) -> Result<(), CliError> {
        let Some(chosen) = self.context.clone() else {
            return Ok(());
        };
        let Some(context) = known.find(&chosen.value) else {
            if server_given && choices.context.is_none() {
                return Ok(());
            }
            return Err(no_such_context(&chosen, known));
        };
        let file = self.context_path.clone().unwrap_or_default();
        let origin = Origin::Context {
            file,
            name: context.name.clone(),
        };
        if let (Some(backend), Origin::Default) = (&context.backend, &self.backend.origin) {
            self.backend = Valued::new(backend.clone(), origin.clone());
        }
        self.server = Some(Valued::new(context.server.clone(), origin.clone()));
        self.token = context
            .token
            .clone()
            .map(|token| Valued::new(token, origin.clone()));
        let from_file = self.file.project.clone().zip(self.file_path.clone());
        self.project = match from_file {
            Some((project, path)) => Some(Valued::new(project, Origin::ProjectFile(path))),
            None => context
                .project
                .clone()
                .map(|project| Valued::new(project, origin)),
        };
        Ok(())
    }

    fn override_with(
        &mut self,
        choices: &Choices,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), CliError> {
        let server = choices
            .server
            .clone()
            .map(|server| Valued::new(server, Origin::Flag("--server")))
            .or_else(|| env("QWEX_SERVER").map(|server| Valued::new(server, Origin::Env("QWEX_SERVER"))));
        if let Some(server) = server {
            let same = self
                .server
                .as_ref()
                .is_some_and(|known| known.value.trim_end_matches('/') == server.value.trim_end_matches('/'));
            if !same {
                // A context's token is for the context's server alone.
                self.token = None;
                self.project = self
                    .project
                    .take()
                    .filter(|project| matches!(project.origin, Origin::ProjectFile(_)));
            }
            self.server = Some(server);
        }
        if let Some(token) = token_from_env(env)? {
            self.token = Some(token);
        }
        let named = |text: String| {
            Project::new(text).map_err(|error| {
                CliError::usage("QWEX_PROJECT is not a project")
                    .why(error.to_string())
                    .fix("`qwexctl project ls` lists those there are")
            })
        };
        if let Some(project) = choices.project.clone() {
            self.project = Some(Valued::new(project, Origin::Flag("--project")));
        } else if let Some(text) = env("QWEX_PROJECT") {
            self.project = Some(Valued::new(named(text)?, Origin::Env("QWEX_PROJECT")));
        } else if self.project.is_none()
            && let Some((project, path)) = self.file.project.clone().zip(self.file_path.clone())
        {
            self.project = Some(Valued::new(project, Origin::ProjectFile(path)));
        }
        Ok(())
    }
}

fn context_name(
    choices: &Choices,
    env: &dyn Fn(&str) -> Option<String>,
    file: &ProjectFile<Option<Unread>>,
    from_file: Origin,
    path: Option<&Path>,
    known: &ContextFile,
) -> Option<Valued<String>> {
    let flag = choices
        .context
        .clone()
        .map(|name| Valued::new(name, Origin::Flag("--context")));
    let from_env = || env("QWEX_CONTEXT").map(|name| Valued::new(name, Origin::Env("QWEX_CONTEXT")));
    let from_project = || {
        file.context
            .clone()
            .map(|name| Valued::new(name, from_file.clone()))
    };
    let current = || {
        let name = known.current.clone()?;
        let file = path.unwrap_or(Path::new("")).to_owned();
        Some(Valued::new(name.clone(), Origin::Context { file, name }))
    };
    flag.or_else(from_env).or_else(from_project).or_else(current)
}

fn no_such_context(chosen: &Valued<String>, known: &ContextFile) -> CliError {
    let names: Vec<&str> = known
        .contexts
        .iter()
        .map(|context| context.name.as_str())
        .collect();
    let have = if names.is_empty() {
        "there is none yet: `qwexctl context add NAME --server URL`".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    };
    CliError::new(Exit::NotFound, format!("there is no context {:?}", chosen.value))
        .why(format!("it is named by {}", chosen.origin))
        .fix(have)
        .code("no_context")
}

fn backend(
    env: &dyn Fn(&str) -> Option<String>,
    file: &ProjectFile<Option<Unread>>,
    from_file: Origin,
) -> Valued<String> {
    if let Some(backend) = env("QWEX_BACKEND") {
        Valued::new(backend, Origin::Env("QWEX_BACKEND"))
    } else if let Some(backend) = &file.backend {
        Valued::new(backend.value.clone(), from_file)
    } else {
        Valued::new("local".to_owned(), Origin::Default)
    }
}

fn retry_for(env: &dyn Fn(&str) -> Option<String>) -> Result<Valued<Span>, CliError> {
    let Some(text) = env("QWEX_RETRY_FOR") else {
        return Ok(Valued::new(RETRY_FOR, Origin::Default));
    };
    let span = text.parse().map_err(|error: qwex_core::duration::SpanError| {
        CliError::usage("QWEX_RETRY_FOR is not a length of time")
            .why(error.to_string())
            .fix("write it like 30s, 5m or 1h")
    })?;
    Ok(Valued::new(span, Origin::Env("QWEX_RETRY_FOR")))
}

fn token_from_env(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Valued<SecretString>>, CliError> {
    if let Some(token) = env("QWEX_TOKEN") {
        return Ok(Some(Valued::new(
            token.trim().to_owned().into(),
            Origin::Env("QWEX_TOKEN"),
        )));
    }
    let Some(path) = env("QWEX_TOKEN_FILE") else {
        return Ok(None);
    };
    let token = std::fs::read_to_string(&path).map_err(|error| {
        CliError::new(Exit::NotLoggedIn, format!("the token file {path} cannot be read"))
            .why(error.to_string())
            .fix("QWEX_TOKEN_FILE must name a file that holds the token and nothing else")
    })?;
    let token = SecretString::from(token.trim().to_owned());
    Ok(Some(Valued::new(token, Origin::Env("QWEX_TOKEN_FILE"))))
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
