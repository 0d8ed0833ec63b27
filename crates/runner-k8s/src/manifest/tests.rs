//! Golden files of the manifest.

use std::path::PathBuf;

use qwex_core::spec::PullPolicy;
use qwex_core::{Attempt, Mount, MountKind, Project, QueueName, Resources, RunName, Span};
use qwex_runner::{Transfer, Workspace};

use super::*;

fn work() -> Work {
    Work {
        run_id: "0199aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee".parse().unwrap(),
        attempt: Attempt::FIRST,
        project: Project::new("default").unwrap(),
        name: None,
        labels: BTreeMap::new(),
        spec: JobSpec {
            command: vec!["echo".to_owned(), "hello".to_owned()],
            image: Some("busybox:1.36".to_owned()),
            ..JobSpec::default()
        },
        workspace: None,
    }
}

fn full() -> Work {
    let mut work = work();
    work.attempt = Attempt(3);
    work.name = Some(RunName::new("train").unwrap());
    work.labels = BTreeMap::from([("team".to_owned(), "vision ✓".to_owned())]);
    work.spec = JobSpec {
        command: ["sh", "-c", "echo $$ $(HOME) $HOME"].map(str::to_owned).to_vec(),
        env: BTreeMap::from([
            ("LOG_LEVEL".to_owned(), "info".to_owned()),
            ("PRICE".to_owned(), "$(QWEX_RUN_ID) $5".to_owned()),
            ("QWEX_ATTEMPT".to_owned(), "forged".to_owned()),
        ]),
        secrets: BTreeMap::from([
            ("HF_TOKEN".to_owned(), "hf".to_owned()),
            ("PASSWORD".to_owned(), "db/pw".to_owned()),
        ]),
        working_dir: Some("/work".to_owned()),
        resources: Resources {
            cpu: Some("500m".to_owned()),
            memory: Some("4Gi".to_owned()),
            gpu: Some(1),
            pids: None,
        },
        timeout: Some(Span::from_secs(3600)),
        queue: Some(QueueName::new("gpu-queue").unwrap()),
        pull_policy: Some(PullPolicy::Always),
        ..work.spec
    };
    work
}

/// As a server makes Jobs.
fn server() -> K8sConfig {
    K8sConfig {
        namespace: Some("qwex-default".to_owned()),
        ..K8sConfig::from_kubeconfig("")
    }
}

/// As the command line makes Jobs with the user's own rights.
fn direct() -> K8sConfig {
    let policy = crate::config::Policy {
        any_user: true,
        env_secrets: true,
        host_paths: vec!["/data".to_owned()],
        service_accounts: crate::config::Names::Any,
        files: Some(crate::config::FilesPolicy::default()),
    };
    K8sConfig { policy, ..server() }
}

/// The Job of a work, with a word in place of the hash of its spec, which the golden files must not
/// pin: it is `qwex-core`'s.
fn golden(work: &Work, config: &K8sConfig) -> Job {
    let mut job = job(work, config, work.spec.queue.as_ref()).unwrap();
    let annotations = job.metadata.annotations.as_mut().unwrap();
    let hash = annotations.insert(names::SPEC_HASH.to_owned(), "<hash>".to_owned());
    assert_eq!(hash, Some(work.spec.hash()));
    job
}

#[test]
fn the_least_job() {
    insta::assert_yaml_snapshot!(golden(&work(), &server()));
}

#[test]
fn the_fullest_job() {
    insta::assert_yaml_snapshot!(golden(&full(), &server()));
}

#[test]
fn the_users_own_job() {
    insta::assert_yaml_snapshot!(golden(&work(), &direct()));
}

fn mount(kind: MountKind, source: Option<&str>, target: &str) -> Mount {
    Mount {
        kind,
        source: source.map(str::to_owned),
        target: target.to_owned(),
        read_only: kind != MountKind::EmptyDir,
        size: (kind == MountKind::EmptyDir).then(|| "64Mi".to_owned()),
    }
}

#[test]
fn every_mount_with_a_user_and_an_account() {
    let mut work = work();
    work.spec.mounts = vec![
        mount(MountKind::EmptyDir, None, "/scratch"),
        mount(MountKind::Pvc, Some("datasets"), "/datasets"),
        mount(MountKind::ConfigMap, Some("settings"), "/etc/app"),
        mount(MountKind::Secret, Some("keys"), "/keys"),
        mount(MountKind::Bind, Some("/data/cache"), "/cache"),
    ];
    work.spec.user = Some("1000:100".to_owned());
    work.spec.service_account = Some("builder".to_owned());
    work.spec.secrets = BTreeMap::from([("HF_TOKEN".to_owned(), "env:MY_TOKEN".to_owned())]);
    insta::assert_yaml_snapshot!(golden(&work, &direct()));
}

#[test]
fn files_go_over_and_come_back() {
    let mut work = work();
    work.spec.outputs = vec!["out/**".to_owned()];
    work.spec.timeout = Some(Span::from_secs(60));
    work.spec.mounts = vec![mount(MountKind::Pvc, Some("models"), "/workspace/models")];
    work.workspace = Some(Workspace {
        dir: PathBuf::from("/srv/me/project"),
        send: Transfer::Everything,
    });
    insta::assert_yaml_snapshot!(golden(&work, &direct()));
}

#[test]
fn a_workspace_that_is_not_sent_changes_nothing() {
    let mut near = work();
    near.workspace = Some(Workspace {
        dir: PathBuf::from("/srv/me/project"),
        send: Transfer::Nothing,
    });
    assert_eq!(golden(&near, &direct()), golden(&work(), &direct()));
}

#[test]
fn the_images_own_user_is_not_root_on_a_server() {
    let mut config = server();
    config.tuning.run_as_user = None;
    let job = job(&work(), &config, None).unwrap();
    let pod = job.spec.unwrap().template.spec.unwrap();
    let security = pod.security_context.unwrap();
    assert_eq!(security.run_as_user, None);
    assert_eq!(security.run_as_non_root, Some(true));
}

#[test]
fn root_by_name_of_the_user() {
    let mut root = work();
    root.spec.user = Some("0".to_owned());
    let refused = job(&root, &server(), None).unwrap_err();
    assert!(matches!(refused, ManifestError::Refused(problem) if problem.pointer == "/user"));
    let job = job(&root, &direct(), None).unwrap();
    let security = job.spec.unwrap().template.spec.unwrap().security_context.unwrap();
    assert_eq!((security.run_as_user, security.run_as_non_root), (Some(0), None));
}

#[test]
fn refuses_what_cannot_run() {
    let refused = |work: &Work| job(work, &server(), None).unwrap_err();
    let mut bad = work();
    bad.spec.image = None;
    assert!(matches!(refused(&bad), ManifestError::Refused(problem) if problem.pointer == "/image"));
    let mut bad = work();
    bad.spec.command.clear();
    assert_eq!(refused(&bad), ManifestError::NoCommand);
    for reference in ["", "/key", "name/", "a/b/c"] {
        let mut bad = work();
        bad.spec.secrets.insert("X".to_owned(), reference.to_owned());
        assert!(
            matches!(refused(&bad), ManifestError::BadSecret { .. }),
            "{reference}"
        );
    }
}

#[test]
fn user_labels_stay_under_the_cap() {
    let mut many = work();
    many.labels = (0..10_000)
        .map(|n| (format!("key-{n:05}"), "x".repeat(50)))
        .collect();
    let job = job(&many, &server(), None).unwrap();
    let annotations = job.metadata.annotations.unwrap();
    assert!(annotations[names::USER_LABELS].len() <= LABELS_CAP);
    assert!(annotations[names::USER_LABELS].starts_with(r#"{"key-00000":"#));
}
