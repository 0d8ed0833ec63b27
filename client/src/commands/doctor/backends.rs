//! Every backend at its default address, and every configured ssh host: found or not, version, rights, what to do.

use qwex_core::JobSpec;
use qwex_runner::RunnerError;
use qwex_runner_ssh::SshConfig;

use super::super::guard::{Guard, asked};
use super::super::uv::find_in_path;
use super::check::{Check, Verdict};
use super::clock::compared;
use crate::direct::{Opening, Placed, registry};

/// What is not there is no failure: nobody has them all.
pub async fn checks() -> Vec<Check> {
    // What is wrong with the files was told already.
    let guard = Guard::load().unwrap_or_default();
    let mut places = Vec::new();
    for entry in registry::REGISTRY {
        let hosts = guard.hosts.names();
        if entry.name == "ssh" && !hosts.is_empty() {
            places.extend(hosts.into_iter().map(|host| (entry.name, Some(host))));
        } else {
            places.push((entry.name, None));
        }
    }
    let checks = places.iter().map(|(backend, host)| one(&guard, backend, *host));
    futures::future::join_all(checks).await
}

async fn one(guard: &Guard, backend: &str, host: Option<&str>) -> Check {
    let name = match host {
        Some(host) => format!("backend {backend} {host}"),
        None => format!("backend {backend}"),
    };
    let placed = Placed {
        backend: backend.to_owned(),
        address: host.map(str::to_owned),
        ..Placed::default()
    };
    let placed = match guard.fit(placed) {
        Ok(placed) => placed,
        Err(error) => return Check::failed(name, error).with_verdict(Verdict::Skipped),
    };
    let is_forbidden = |pointer: &str| pointer == "/backend";
    let spec = JobSpec::default();
    let violations = guard.policy.check(&asked(&placed, &spec));
    if let Some(found) = violations.iter().find(|found| is_forbidden(&found.pointer)) {
        return Check::new(
            name,
            Verdict::Skipped,
            format!("{} ({} {})", found.what, found.place, found.rule),
        );
    }
    let named = host.and(placed.address.as_deref());
    let ssh = named.map(|host| SshConfig::new(host, "").with(&placed.ssh.clone().unwrap_or_default()));
    let placed_words = placed.words();
    // Nothing is recorded, so no store is made for it.
    let opening = Opening {
        runs: std::env::temp_dir(),
        dir: std::env::temp_dir(),
        placed,
        only: None,
    };
    let probed = match registry::open(opening).await {
        Ok(backend) => backend.probe().await,
        Err(error) => Err(error),
    };
    match probed {
        Ok(probe) => {
            let version = probe.version.map(|version| format!(", version {version}"));
            let message = format!("{}{}", probe.detail, version.unwrap_or_default());
            let verdict = if probe.notes.is_empty() {
                Verdict::Ok
            } else {
                Verdict::Warning
            };
            let check = Check::new(name, verdict, message);
            let check = match probe.skew {
                Some(skew) => compared(check, skew, &placed_words),
                None => check,
            };
            probe.notes.into_iter().fold(check, Check::fix)
        }
        Err(error) => {
            let advice = advice(backend, ssh.as_ref(), &error, &|program| {
                find_in_path(program).is_some()
            });
            let check = Check::new(name, Verdict::Skipped, error.to_string());
            advice.into_iter().fold(check, Check::fix)
        }
    }
}

/// What a person has to do so that it works. `ssh`: the way to the host, where one is named; `has`: whether a program
/// is installed.
fn advice(
    backend: &str,
    ssh: Option<&SshConfig>,
    error: &RunnerError,
    has: &dyn Fn(&str) -> bool,
) -> Vec<String> {
    let said = error.to_string().to_lowercase();
    let is_forbidden =
        said.contains("permission denied") || matches!(error, RunnerError::Unauthorized { .. });
    let told = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match (backend, ssh) {
        ("docker", _) if is_forbidden => told(&[
            "join the group of its socket and log in anew: sudo usermod -aG docker $USER (that is as much as root)",
            "or use podman, which needs no such right",
        ]),
        ("docker", _) if has("dockerd") => {
            told(&["start it: sudo systemctl start docker, or without systemd: sudo dockerd &"])
        }
        ("docker", _) => told(&[
            "to use it, install it: sudo apt install docker.io, or https://docs.docker.com/engine/install",
        ]),
        ("podman", _) if has("podman") => told(&[
            "start its socket: systemctl --user start podman.socket, or without systemd: podman system service --time=0 &",
        ]),
        ("podman", _) => told(&["to use it, install it: sudo apt install podman"]),
        ("ssh", _) if !has("ssh") => told(&["to use it, install it: sudo apt install openssh-client"]),
        ("ssh", None) => {
            told(&["to see hosts here, and to need no --host, name them in config.yaml: `qwexctl help ssh`"])
        }
        ("ssh", Some(ssh)) if said.contains("host key") => vec![format!(
            "look at its key and take it, if it is the right one: {}",
            ssh.by_hand("")
        )],
        ("ssh", Some(ssh)) => vec![format!(
            "see whether it works without qwex: {} true",
            ssh.by_hand("-v ")
        )],
        ("k8s" | "kueue", _) => told(&[
            "put a kubeconfig at ~/.kube/config or set KUBECONFIG; `--kube-context NAME` chooses one of its contexts",
        ]),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_backend_that_does_not_work_says_what_to_do() {
        let silent = || RunnerError::Unreachable {
            message: "nobody listens".to_owned(),
        };
        let denied = || RunnerError::Unreachable {
            message: "Permission denied (os error 13)".to_owned(),
        };
        let unknown = || RunnerError::Unauthorized {
            message: "the host key of b is not known".to_owned(),
        };
        let mut way = SshConfig::new("b", "");
        way.config_file = Some("/c/ssh".into());
        let ssh = Some(&way);
        for (backend, ssh, error, installed, words) in [
            ("docker", None, denied(), true, "usermod -aG docker"),
            ("docker", None, silent(), true, "systemctl start docker"),
            ("docker", None, silent(), false, "apt install docker.io"),
            ("podman", None, silent(), true, "podman.socket"),
            ("podman", None, silent(), false, "apt install podman"),
            ("ssh", None, silent(), false, "openssh-client"),
            ("ssh", None, silent(), true, "qwexctl help ssh"),
            (
                "ssh",
                ssh,
                unknown(),
                true,
                "take it, if it is the right one: ssh -F /c/ssh b",
            ),
            ("ssh", ssh, silent(), true, "ssh -v -F /c/ssh b true"),
            ("k8s", None, silent(), false, "KUBECONFIG"),
            ("kueue", None, silent(), false, "KUBECONFIG"),
        ] {
            let all = advice(backend, ssh, &error, &|_| installed).join("\n");
            assert!(all.contains(words), "{backend}: {all}");
        }
        assert!(advice("local", None, &silent(), &|_| true).is_empty());
    }
}
