//! Which cluster a machine leads to.

use super::*;

/// A kubeconfig file with one cluster, user and context of this name.
fn write(dir: &Path, name: &str, namespace: &str) -> PathBuf {
    let path = dir.join(format!("{name}.yaml"));
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
         contexts:\n- {{name: {name}, context: {{cluster: {name}, user: {name}, namespace: '{namespace}'}}}}\n\
         clusters:\n- {{name: {name}, cluster: {{server: 'https://{name}.test:6443'}}}}\n\
         users:\n- {{name: {name}, user: {{token: t}}}}\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn nowhere(dir: &Path) -> Surroundings {
    Surroundings {
        kubeconfig: None,
        home: Some(dir.join("home")),
        service: None,
        service_account: dir.join("serviceaccount"),
    }
}

#[test]
fn the_list_is_merged_and_missing_files_are_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let list = [
        write(dir.path(), "one", "team"),
        dir.path().join("absent"),
        write(dir.path(), "two", ""),
    ];
    let around = Surroundings {
        kubeconfig: Some(std::env::join_paths(list).unwrap()),
        ..nowhere(dir.path())
    };
    let first = find(None, None, &around).unwrap();
    assert_eq!(
        (first.context.as_str(), first.namespace.as_str()),
        ("one", "team")
    );
    assert!(first.origin.contains("one.yaml") && first.origin.contains("two.yaml"));
    let second = find(None, Some("two"), &around).unwrap();
    assert_eq!(
        (second.context.as_str(), second.namespace.as_str()),
        ("two", "default")
    );
    let error = find(None, Some("three"), &around).unwrap_err().to_string();
    assert_eq!(
        error,
        r#"the kubeconfig has no context "three"; it has: one, two"#
    );
}

#[test]
fn a_named_file_stands_alone_and_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let around = Surroundings {
        kubeconfig: Some(write(dir.path(), "listed", "").into()),
        ..nowhere(dir.path())
    };
    let named = write(dir.path(), "named", "");
    assert_eq!(find(Some(&named), None, &around).unwrap().context, "named");
    let error = find(Some(&dir.path().join("typo")), None, &around)
        .unwrap_err()
        .to_string();
    assert!(error.contains("typo"), "{error}");
}

#[test]
fn the_home_directory_comes_last() {
    let dir = tempfile::tempdir().unwrap();
    let around = nowhere(dir.path());
    let error = find(None, None, &around).unwrap_err().to_string();
    assert!(
        error.contains(".kube/config") && error.contains("KUBECONFIG"),
        "{error}"
    );
    std::fs::create_dir_all(dir.path().join("home/.kube")).unwrap();
    std::fs::rename(write(dir.path(), "own", ""), dir.path().join("home/.kube/config")).unwrap();
    assert_eq!(find(None, None, &around).unwrap().context, "own");
}

#[test]
fn a_pod_has_its_service_account() {
    let dir = tempfile::tempdir().unwrap();
    let around = Surroundings {
        service: Some(("fd00::1".to_owned(), "443".to_owned())),
        ..nowhere(dir.path())
    };
    assert!(find(None, None, &around).is_err(), "no token");
    std::fs::create_dir_all(&around.service_account).unwrap();
    std::fs::write(around.service_account.join("token"), "t").unwrap();
    std::fs::write(around.service_account.join("namespace"), "jobs\n").unwrap();
    let found = find(None, None, &around).unwrap();
    assert_eq!(
        (found.context.as_str(), found.namespace.as_str()),
        ("in-cluster", "jobs")
    );
    let cluster = found.kubeconfig.clusters[0].cluster.as_ref().unwrap();
    assert_eq!(cluster.server.as_deref(), Some("https://[fd00::1]:443"));
}
