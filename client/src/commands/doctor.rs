//! `doctor`: what works here, and what to do about what does not.

use jiff::Timestamp;
use qwex_api::meta::Meta;
use serde::Serialize;

use super::Done;
use super::session::Session;
use crate::config::contexts::is_open_to_others;
use crate::direct::{Opening, Placed, registry};
use crate::error::CliError;
use crate::output::{Row, escape::one_line, print};
use crate::remote::{Answer, JobApiClient};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warning,
    Failed,
    /// Not tried, because something before it failed or is not set.
    Skipped,
}

#[derive(Debug, Serialize)]
struct Check {
    check: String,
    verdict: Verdict,
    message: String,
    fix: Vec<String>,
}

impl Check {
    fn new(check: impl Into<String>, verdict: Verdict, message: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            verdict,
            message: message.into(),
            fix: Vec::new(),
        }
    }

    fn failed(check: impl Into<String>, error: CliError) -> Self {
        let message = match error.why {
            Some(why) => format!("{}: {why}", error.what),
            None => error.what,
        };
        Self {
            check: check.into(),
            verdict: Verdict::Failed,
            message,
            fix: error.fix,
        }
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix.push(fix.into());
        self
    }
}

impl Row for Check {
    fn name(&self) -> String {
        self.check.clone()
    }

    fn heads(_wide: bool) -> Vec<&'static str> {
        vec!["CHECK", "VERDICT", "MESSAGE"]
    }

    fn cells(&self, _wide: bool, _now: Timestamp) -> Vec<String> {
        let verdict = format!("{:?}", self.verdict).to_lowercase();
        vec![self.check.clone(), verdict, self.message.clone()]
    }
}

pub async fn doctor(session: &Session) -> Done {
    let mut checks = vec![version(), context_file(session), directory()];
    checks.extend(backends().await);
    checks.extend(server(session).await);
    session.out.list(checks.iter().map(|check| (check, check)))?;
    if session.out.for_people() {
        let fixes = checks
            .iter()
            .flat_map(|check| check.fix.iter().map(move |fix| (&check.check, fix)));
        let fixes: String = fixes
            .map(|(check, fix)| format!("{check}: {}\n", one_line(fix)))
            .collect();
        if !fixes.is_empty() {
            print(&format!("\nWHAT TO DO\n{fixes}"))?;
        }
    }
    let failed = checks.iter().any(|check| check.verdict == Verdict::Failed);
    Ok(u8::from(failed))
}

fn version() -> Check {
    Check::new(
        "qwexctl",
        Verdict::Ok,
        format!("version {}", env!("CARGO_PKG_VERSION")),
    )
}

fn context_file(session: &Session) -> Check {
    match &session.settings.context_path {
        None => Check::new("context_file", Verdict::Warning, "there is no place for it")
            .fix("set HOME or QWEX_CONFIG_DIR"),
        Some(path) if is_open_to_others(path) => Check::new(
            "context_file",
            Verdict::Warning,
            format!("others may read {}, and it holds tokens", path.display()),
        )
        .fix(format!("chmod 600 {}", path.display())),
        Some(path) if path.exists() => Check::new("context_file", Verdict::Ok, path.display().to_string()),
        Some(path) => Check::new(
            "context_file",
            Verdict::Skipped,
            format!("there is no {} yet", path.display()),
        ),
    }
}

fn directory() -> Check {
    match crate::direct::check() {
        Ok(place) => Check::new("directory", Verdict::Ok, place),
        Err(why) => {
            Check::new("directory", Verdict::Failed, why).fix("change to a directory in which you may write")
        }
    }
}

/// Every backend at its default address. What is not there is no failure: nobody has them all.
async fn backends() -> Vec<Check> {
    let mut checks = Vec::new();
    for entry in registry::REGISTRY {
        // Nothing is recorded, so no store is made for it.
        let opening = Opening {
            runs: std::env::temp_dir(),
            dir: std::env::temp_dir(),
            placed: Placed {
                backend: entry.name.to_owned(),
                ..Placed::default()
            },
        };
        let name = format!("backend {}", entry.name);
        let probed = match registry::open(opening).await {
            Ok(backend) => backend.probe().await,
            Err(error) => Err(error),
        };
        checks.push(match probed {
            Ok(probe) => {
                let version = probe.version.map(|version| format!(", version {version}"));
                let message = format!("{}{}", probe.detail, version.unwrap_or_default());
                let verdict = if probe.notes.is_empty() {
                    Verdict::Ok
                } else {
                    Verdict::Warning
                };
                let check = Check::new(name, verdict, message);
                probe.notes.into_iter().fold(check, Check::fix)
            }
            Err(error) => Check::new(name, Verdict::Skipped, error.to_string()),
        });
    }
    checks
}

async fn server(session: &Session) -> Vec<Check> {
    let client = match session.client() {
        Ok(client) => client,
        Err(error) => {
            return vec![Check {
                verdict: Verdict::Skipped,
                ..Check::failed("server", error)
            }];
        }
    };
    let meta = match client.meta().await {
        Ok(meta) => meta,
        Err(error) => return vec![Check::failed("server", error.into())],
    };
    let mut checks = vec![
        Check::new(
            "server",
            Verdict::Ok,
            format!("{}, version {}", client.server(), meta.value.server_version),
        ),
        skew(&meta),
    ];
    checks.extend(token(client.as_ref()).await);
    checks
}

fn skew(meta: &Answer<Meta>) -> Check {
    let least = &meta.value.min_client_version;
    let own = env!("CARGO_PKG_VERSION");
    if number(own) < number(least) {
        return Check::new(
            "version",
            Verdict::Failed,
            format!("this is {own}, the server serves {least} and newer"),
        )
        .fix("install a newer qwexctl");
    }
    Check::new(
        "version",
        Verdict::Ok,
        format!("this is {own}, the server serves {least} and newer"),
    )
}

/// `1.2.3` as numbers; words behind them do not count.
fn number(version: &str) -> Vec<u64> {
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
    version
        .split('.')
        .map(|part| digits(part).parse().unwrap_or(0))
        .collect()
}

async fn token(client: &dyn JobApiClient) -> Vec<Check> {
    let who = match client.whoami().await {
        Ok(who) => who.value,
        Err(error) => return vec![Check::failed("token", error.into())],
    };
    let expires = who
        .expires_at
        .as_deref()
        .map_or("does not expire".to_owned(), |at| format!("expires {at}"));
    let role = who.role.as_str();
    let mut checks = vec![Check::new(
        "token",
        Verdict::Ok,
        format!("{}, {role} of project {}, {expires}", who.principal, who.project),
    )];
    match client.list_clusters().await {
        Err(error) => checks.push(Check::failed("clusters", error.into())),
        Ok(clusters) if clusters.items.is_empty() => checks.push(
            Check::new(
                "clusters",
                Verdict::Warning,
                "none is registered, so no run can start",
            )
            .fix("qwexctl cluster add NAME --kubeconfig FILE"),
        ),
        Ok(clusters) => checks.extend(clusters.items.iter().map(|cluster| one_cluster(&cluster.value))),
    }
    checks
}

fn one_cluster(cluster: &qwex_api::cluster::ClusterInfo) -> Check {
    let name = &cluster.name;
    if cluster.reachable {
        return Check::new(
            "cluster",
            Verdict::Ok,
            format!("{name} is {}", cluster.status.as_str()),
        );
    }
    let why = cluster.message.as_deref().unwrap_or("it does not answer");
    Check::new("cluster", Verdict::Failed, format!("{name}: {why}")).fix(format!(
        "look at the network and the rights of cluster {name}; the server tries again by itself"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(number("0.10.0") > number("0.9.12"));
        assert!(number("1.0.0-rc1") >= number("1.0.0"));
    }
}
