//! What stands before every run: the policy, the content rules and the configured hosts of `config.yaml`. Read when
//! something is to be started and not before, so that a file that cannot be used stops no other command.

use std::collections::BTreeSet;

use qwex_core::JobSpec;

use super::session::{Session, variable};
use crate::cli::REMOTE;
use crate::config::Hosts;
use crate::config::file::{Owner, read_files};
use crate::direct::Placed;
use crate::error::{CliError, Exit};
use crate::policy::{Action, Asked, Finding, Policy, Violation};
use crate::progress::Progress;

/// Policy and hosts as they stand now.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    pub policy: Policy,
    pub hosts: Hosts,
}

impl Guard {
    /// # Errors
    /// A configuration file is there and cannot be used: nothing may be started.
    pub fn load() -> Result<Self, CliError> {
        let files = read_files(&variable)?;
        Ok(Self {
            policy: Policy::of(&files)?,
            hosts: Hosts::of(&files)?,
        })
    }

    /// A place with what is configured for it: what stands behind the name of its host, and the directories of nodes
    /// that may be mounted.
    ///
    /// # Errors
    /// No host is named, and it is not clear which one is meant.
    pub fn fit(&self, mut placed: Placed) -> Result<Placed, CliError> {
        match placed.backend.as_str() {
            "ssh" => {
                if let Some(chosen) = self.hosts.choose(placed.address.as_deref())? {
                    placed.address = Some(chosen.address);
                    placed.ssh = Some(chosen.settings);
                }
            }
            "k8s" | "kueue" => placed.node_paths = self.policy.node_paths(),
            _ => {}
        }
        Ok(placed)
    }

    /// Refuses a run of this machine that a file forbids; warns of what its command does.
    ///
    /// # Errors
    /// It is forbidden.
    pub fn check(&self, session: &Session, placed: &Placed, spec: &JobSpec) -> Result<(), CliError> {
        let warnings = self.forbids(&asked(placed, spec))?;
        warn(session.progress, &warnings, None);
        Ok(())
    }

    /// The same for a run of the server, as far as it can be known here.
    ///
    /// # Errors
    /// It is forbidden.
    pub fn check_remote(&self, session: &Session, spec: &JobSpec) -> Result<(), CliError> {
        let warnings = self.forbids(&asked_of_server(spec))?;
        warn(session.progress, &warnings, None);
        Ok(())
    }

    /// Refuses a run that a file forbids; gives what its user should know of.
    ///
    /// # Errors
    /// It is forbidden.
    pub fn forbids(&self, asked: &Asked<'_>) -> Result<Vec<Finding>, CliError> {
        let violations = self.policy.check(asked);
        if let Some((first, others)) = violations.split_first() {
            return Err(forbidden(first, others));
        }
        let (denied, warned): (Vec<Finding>, Vec<Finding>) = self
            .policy
            .look(asked)
            .into_iter()
            .partition(|finding| finding.action == Action::Deny);
        match denied.first() {
            Some(first) => Err(denied_by(first, &denied)),
            None => Ok(warned),
        }
    }
}

/// A run of this machine as the policy sees it.
pub fn asked<'a>(placed: &'a Placed, spec: &'a JobSpec) -> Asked<'a> {
    Asked {
        backend: &placed.backend,
        address: placed.address.as_deref(),
        spec,
        workspace: placed.workspace.as_deref(),
    }
}

/// A run of the server: it sees no files of this machine.
pub fn asked_of_server(spec: &JobSpec) -> Asked<'_> {
    Asked {
        backend: REMOTE,
        address: None,
        spec,
        workspace: None,
    }
}

/// Tells each finding once. `stage`: whose command it is.
pub fn warn(progress: Progress, findings: &[Finding], stage: Option<&str>) {
    let mut told = BTreeSet::new();
    for finding in findings {
        if told.insert((&finding.rule, &finding.at)) {
            let whose = stage.map(|stage| format!("stage {stage}: ")).unwrap_or_default();
            let message = format!("{whose}{}: {}", finding.at, finding.line);
            progress.stage(
                "warning",
                &format!("{message} ({}: {})", finding.rule, finding.message),
            );
        }
    }
}

fn forbidden(first: &Violation, others: &[Violation]) -> CliError {
    let mut error = CliError::new(Exit::Usage, first.what.clone())
        .why(format!("{} {}", first.place, first.rule))
        .fix(first.fix.clone());
    for other in others {
        error = error.fix(format!(
            "also {}: {} {}; {}",
            other.what, other.place, other.rule, other.fix
        ));
    }
    let file = first
        .place
        .rsplit_once(':')
        .map_or(first.place.as_str(), |(file, _)| file);
    error
        .fix(match first.owner {
            Owner::System => format!("or ask whoever keeps this machine: {file} is the system's"),
            Owner::User => format!("or change {file}, which is yours"),
        })
        .code("policy")
}

fn denied_by(first: &Finding, all: &[Finding]) -> CliError {
    let lines: Vec<String> = all
        .iter()
        .map(|finding| format!("  {}: {} ({})", finding.at, finding.line, finding.rule))
        .collect();
    let error = CliError::new(
        Exit::Usage,
        format!("the content rule {} forbids this command", first.rule),
    )
    .drawing(lines.join("\n"));
    let error = match &first.place {
        Some(place) => error.why(format!("{place} sets the rule")),
        None => error,
    };
    let advice = if first.message.is_empty() {
        "change the line, or ask whoever set the rule"
    } else {
        &first.message
    };
    error.fix(advice).code("content_rule")
}
