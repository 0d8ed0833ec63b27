//! Runs on a cluster with the user's own kubeconfig, as far as that needs no cluster.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{User, seen};

const KUBECONFIG: &str = "
current-context: one
clusters:
- {name: first, cluster: {server: 'http://127.0.0.1:1'}}
- {name: second, cluster: {server: 'http://127.0.0.1:2'}}
contexts:
- {name: one, context: {cluster: first, namespace: team, user: me}}
- {name: two, context: {cluster: second, user: me}}
users:
- {name: me, user: {token: secret}}
";

fn placed(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(placed(&path));
        } else if path.ends_with("placed.json") {
            found.push(path);
        }
    }
    found
}

/// What is current when a run is placed may be another thing when the next process looks.
#[test]
fn a15_a_run_is_kept_with_the_context_the_namespace_and_the_cluster_it_was_given_to() {
    let user = User::new();
    std::fs::create_dir(user.dir().join(".kube")).unwrap();
    std::fs::write(user.dir().join(".kube/config"), KUBECONFIG).unwrap();
    let run = [
        "run",
        "--backend",
        "k8s",
        "--image",
        "busybox",
        "-d",
        "--",
        "true",
    ];
    // No cluster is there: the run fails, and is recorded.
    seen(user.qwexctl(&run));
    let files = placed(&user.dir().join(".qwex"));
    assert_eq!(files.len(), 1, "{files:?}");
    let placed: Value = serde_json::from_slice(&std::fs::read(&files[0]).unwrap()).unwrap();
    assert_eq!(placed["address"], "one", "{placed}");
    assert_eq!(placed["namespace"], "team", "{placed}");
    assert_eq!(placed["cluster"]["server"], "http://127.0.0.1:1", "{placed}");
}

#[test]
fn a_context_that_is_not_there_is_a_mistake_to_mend_and_no_cluster_that_is_away() {
    let user = User::new();
    std::fs::create_dir(user.dir().join(".kube")).unwrap();
    std::fs::write(user.dir().join(".kube/config"), KUBECONFIG).unwrap();
    for backend in ["k8s", "kueue"] {
        let words = ["run", "--backend", backend, "--kube-context", "three"];
        let told = user
            .qwexctl(&[&words[..], &["--image", "busybox", "-d", "--", "true"]].concat())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&told.stderr).into_owned();
        assert_eq!(told.status.code(), Some(3), "{said}");
        assert!(
            said.contains(r#"the kubeconfig has no context "three""#),
            "{said}"
        );
        assert!(said.contains("one, two"), "{said}");
        assert!(!user.dir().join(".qwex/runs").exists() || placed(&user.dir().join(".qwex")).is_empty());
    }
}
