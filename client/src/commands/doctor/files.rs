//! Files and settings of this user: where each value comes from, whether others may read what is secret, whether the
//! configuration can be used.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::super::session::{Session, variable};
use super::check::{Check, Verdict};
use crate::config::file::{Owner, ReadFile, read_files};
use crate::config::{Hosts, Valued};
use crate::error::{CliError, Exit};
use crate::policy::Policy;

pub fn checks(session: &Session) -> Vec<Check> {
    let mut all = Vec::new();
    match &session.settings.context_path {
        None => all.push(
            Check::new("config_directory", Verdict::Warning, "there is no place for it")
                .fix("set HOME or QWEX_CONFIG_DIR"),
        ),
        Some(path) => {
            all.extend(path.parent().map(directory));
            all.push(secret_file("context_file", path));
        }
    }
    all.extend(variable("QWEX_TOKEN_FILE").map(|path| secret_file("token_file", Path::new(&path))));
    all.extend(config_files());
    all.extend(settings(session));
    all
}

fn directory(dir: &Path) -> Check {
    const NAME: &str = "config_directory";
    let shown = dir.display();
    let Ok(meta) = fs::metadata(dir) else {
        let dir = dir.to_owned();
        return Check::new(NAME, Verdict::Skipped, format!("there is no {shown} yet")).mend(
            format!("make the directory {shown}, for you alone"),
            move || {
                let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
                made.map_err(|error| not_done(&dir, &error))
            },
        );
    };
    if meta.mode() & 0o022 == 0 {
        return Check::new(NAME, Verdict::Ok, shown.to_string());
    }
    let check = Check::new(
        NAME,
        Verdict::Warning,
        format!("others may write in {shown}, and so give you a token and a policy of theirs"),
    );
    closed(check, dir, meta.mode() & 0o7777 & !0o022)
}

/// A file with tokens in it.
fn secret_file(name: &'static str, path: &Path) -> Check {
    let shown = path.display();
    let Ok(meta) = fs::metadata(path) else {
        return Check::new(name, Verdict::Skipped, format!("there is no {shown} yet"));
    };
    if meta.mode() & 0o077 == 0 {
        return Check::new(name, Verdict::Ok, shown.to_string());
    }
    let check = Check::new(
        name,
        Verdict::Warning,
        format!("others may read {shown}, and it holds tokens"),
    );
    let check = check.fix("whoever could read it may have the tokens: make new ones, and revoke these");
    closed(check, path, 0o600)
}

/// With the mode that it should have, if it is ours to give.
fn closed(check: Check, path: &Path, mode: u32) -> Check {
    let what = format!("chmod {mode:o} {}", path.display());
    let is_ours = fs::metadata(path).is_ok_and(|meta| meta.uid() == nix::unistd::geteuid().as_raw());
    if !is_ours {
        return check.fix(format!("its owner has to do it: {what}"));
    }
    let path = path.to_owned();
    check.mend(what, move || {
        let done = fs::set_permissions(&path, Permissions::from_mode(mode));
        done.map_err(|error| not_done(&path, &error))
    })
}

fn not_done(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(Exit::Failure, format!("{} cannot be changed", path.display()))
        .why(error.to_string())
        .fix("its owner has to do it")
}

/// The files that stand before every run.
fn config_files() -> Vec<Check> {
    const NAME: &str = "config_file";
    let files = match read_files(&variable) {
        Ok(files) => files,
        Err(error) => return vec![Check::failed(NAME, error)],
    };
    if files.is_empty() {
        let message = "none: runs may ask for anything, and ssh hosts are those of your ssh configuration";
        return vec![Check::new(NAME, Verdict::Skipped, message)];
    }
    let usable = Policy::of(&files).and(Hosts::of(&files).map(drop));
    match usable {
        Ok(()) => files.iter().map(of_file).collect(),
        Err(error) => vec![Check::failed(NAME, error)],
    }
}

fn of_file(file: &ReadFile) -> Check {
    const NAME: &str = "config_file";
    let hosts = file.file.ssh.as_ref().map_or(0, |ssh| ssh.hosts.len());
    let policy = if file.file.policy.is_some() {
        "a policy"
    } else {
        "no policy"
    };
    let message = format!("{}: {policy}, ssh hosts: {hosts}", file.path);
    let writable = fs::metadata(PathBuf::from(&file.path)).is_ok_and(|meta| match file.owner {
        Owner::System => meta.uid() != 0 || meta.mode() & 0o022 != 0,
        Owner::User => meta.mode() & 0o022 != 0,
    });
    if !writable {
        return Check::new(NAME, Verdict::Ok, message);
    }
    let check = Check::new(NAME, Verdict::Warning, format!("{message}; others may change it"));
    match file.owner {
        Owner::System => check.fix(format!(
            "whoever keeps this machine has to do it: chown root {0} && chmod 644 {0}",
            file.path
        )),
        Owner::User => closed(check, Path::new(&file.path), 0o600),
    }
}

/// Where the settings of a run come from.
fn settings(session: &Session) -> Vec<Check> {
    let settings = &session.settings;
    let told = |name: &str, value: String, origin: String| {
        Check::new(
            format!("setting {name}"),
            Verdict::Ok,
            format!("{value} ({origin})"),
        )
    };
    let of = |name: &str, valued: Option<&Valued<String>>| {
        valued.map(|valued| told(name, valued.value.clone(), valued.origin.to_string()))
    };
    let mut all = Vec::new();
    all.extend(of("context", settings.context.as_ref()));
    all.extend(of("server", settings.server.as_ref()));
    all.extend(of("backend", Some(&settings.backend)));
    let project = settings.project.as_ref();
    all.extend(project.map(|valued| told("project", valued.value.to_string(), valued.origin.to_string())));
    all
}
