//! `config view`: every setting, and where it comes from.

use jiff::Timestamp;
use serde::Serialize;

use super::Done;
use super::session::{Session, variable};
use crate::cli::ConfigCommand;
use crate::config::file::{SYSTEM, path_of_user};
use crate::config::{Settings, Valued};
use crate::output::Row;

/// A setting for people. A token is never shown.
#[derive(Serialize)]
struct Setting {
    setting: &'static str,
    value: Option<String>,
    origin: String,
}

/// The same with its origin.
#[derive(Serialize)]
#[serde(transparent)]
struct WithOrigin<'a>(&'a Setting);

pub fn config(session: &Session, command: &ConfigCommand) -> Done {
    let ConfigCommand::View { origin } = command;
    let settings = gathered(&session.settings);
    if *origin {
        let rows: Vec<WithOrigin<'_>> = settings.iter().map(WithOrigin).collect();
        session.out.list(rows.iter().zip(&settings))?;
    } else {
        session
            .out
            .list(settings.iter().map(|setting| (setting, setting)))?;
    }
    Ok(0)
}

fn setting<T>(name: &'static str, value: Option<&Valued<T>>, show: impl Fn(&T) -> String) -> Setting {
    Setting {
        setting: name,
        value: value.map(|valued| show(&valued.value)),
        origin: value.map_or_else(|| "not set".to_owned(), |valued| valued.origin.to_string()),
    }
}

fn gathered(settings: &Settings) -> Vec<Setting> {
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    vec![
        setting("context", settings.context.as_ref(), Clone::clone),
        setting("server", settings.server.as_ref(), Clone::clone),
        setting("token", settings.token.as_ref(), |_| {
            "(set, not shown)".to_owned()
        }),
        setting("project", settings.project.as_ref(), ToString::to_string),
        setting("backend", Some(&settings.backend), Clone::clone),
        setting("retry_for", Some(&settings.retry_for), ToString::to_string),
        Setting {
            setting: "context_file",
            value: path(&settings.context_path),
            origin: "QWEX_CONFIG_DIR, XDG_CONFIG_HOME or HOME".to_owned(),
        },
        Setting {
            setting: "config_file",
            value: path(&path_of_user(&variable)),
            origin: "beside the context file; `qwexctl help policy`".to_owned(),
        },
        Setting {
            setting: "system_config_file",
            value: Some(SYSTEM.to_owned()),
            origin: "always there".to_owned(),
        },
        Setting {
            setting: "project_file",
            value: path(&settings.file_path),
            origin: "this directory or above".to_owned(),
        },
    ]
}

impl Row for Setting {
    fn name(&self) -> String {
        self.setting.to_owned()
    }

    fn heads(_wide: bool) -> Vec<&'static str> {
        vec!["SETTING", "VALUE"]
    }

    fn cells(&self, _wide: bool, _now: Timestamp) -> Vec<String> {
        vec![self.setting.to_owned(), self.value.clone().unwrap_or_default()]
    }
}

impl Row for WithOrigin<'_> {
    fn name(&self) -> String {
        self.0.name()
    }

    fn heads(_wide: bool) -> Vec<&'static str> {
        vec!["SETTING", "VALUE", "ORIGIN"]
    }

    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let mut cells = self.0.cells(wide, now);
        cells.push(self.0.origin.clone());
        cells
    }
}
