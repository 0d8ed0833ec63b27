//! What every command holds: settings, output, progress, and the client once it is needed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use qwex_core::Project;

use super::project_file::here;
use crate::cli::Global;
use crate::config::{Choices, Settings, Surroundings};
use crate::error::{CliError, Exit};
use crate::output::{Format, Output};
use crate::progress::{Progress, Stages};
use crate::remote::{ApiError, Endpoint, FollowPatience, HttpJobApiClient, JobApiClient, Notice};

/// How long a stream waits for a server that went away.
const AWAY: Duration = Duration::from_secs(120);

pub struct Session {
    pub settings: Settings,
    pub out: Output,
    pub progress: Progress,
}

impl Session {
    pub fn new(global: &Global) -> Result<Self, CliError> {
        let dir = here()?;
        let around = Surroundings {
            env: &variable,
            dir: &dir,
        };
        let session = Self {
            settings: Settings::gather(&choices(global), &around)?,
            out: output(global),
            progress: Progress::new(global.progress),
        };
        if let Some(passed_over) = &session.settings.passed_over {
            session.progress.note(&passed_over.to_string());
        }
        Ok(session)
    }

    /// The client of the chosen server.
    pub fn client(&self) -> Result<Arc<dyn JobApiClient>, CliError> {
        let server = self.settings.server.as_ref().ok_or_else(no_server)?;
        let told = Mutex::new(Stages::new(self.progress));
        let client = HttpJobApiClient::new(Endpoint {
            server: server.value.clone(),
            token: self.settings.token.as_ref().map(|token| token.value.clone()),
            retry_for: self.settings.retry_for.value.as_duration(),
            notice: Box::new(move |error| {
                // The same trouble is told once, however often it is met.
                if let Ok(mut stages) = told.lock() {
                    stages.tell("retrying", &error.to_string());
                }
            }),
        })?;
        Ok(Arc::new(client))
    }

    /// The project to name in requests; `None` leaves it to the token.
    pub fn project(&self) -> Option<Project> {
        self.settings
            .project
            .as_ref()
            .map(|project| project.value.clone())
    }

    /// How a stream behaves when its server goes away. Only one of several streams of a command should tell it.
    pub fn patience(&self, tells: bool) -> FollowPatience {
        let told = Mutex::new(Stages::new(self.progress));
        let notice: Notice = if tells {
            Box::new(move |error: &ApiError| {
                if let Ok(mut stages) = told.lock() {
                    stages.tell("reconnecting", &error.to_string());
                }
            })
        } else {
            Box::new(|_| {})
        };
        FollowPatience { limit: AWAY, notice }
    }
}

pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn choices(global: &Global) -> Choices {
    Choices {
        context: global.context.clone(),
        server: global.server.clone(),
        project: global.project.clone(),
    }
}

pub fn output(global: &Global) -> Output {
    let format = if global.quiet { Format::Name } else { global.output };
    Output {
        format,
        no_headers: global.no_headers,
    }
}

fn no_server() -> CliError {
    CliError::new(Exit::NotLoggedIn, "no server is set")
        .why("neither --server, QWEX_SERVER nor a context names one")
        .fix("start one on this machine: `qwexcloud dev`; it writes a context for you")
        .fix("or add one: `qwexctl context add NAME --server URL --with-token --use < token-file`")
        .code("no_server")
}
