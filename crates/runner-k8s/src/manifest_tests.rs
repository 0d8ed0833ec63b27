//! Golden files of the manifest.

use qwex_core::spec::PullPolicy;
use qwex_core::{Attempt, Project, QueueName, Resources, RunName, Span};

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

/// The Job of a work, with a word in place of the hash of its spec, which the golden files must not
/// pin: it is `qwex-core`'s.
fn golden(work: &Work) -> Job {
    let mut job = job(work, "qwex-default", Some(65532)).unwrap();
    let annotations = job.metadata.annotations.as_mut().unwrap();
    let hash = annotations.insert(names::SPEC_HASH.to_owned(), "<hash>".to_owned());
    assert_eq!(hash, Some(work.spec.hash()));
    job
}

#[test]
fn the_least_job() {
    insta::assert_yaml_snapshot!(golden(&work()));
}

#[test]
fn the_fullest_job() {
    insta::assert_yaml_snapshot!(golden(&full()));
}

#[test]
fn the_images_own_user() {
    let job = job(&work(), "n", None).unwrap();
    let pod = job.spec.unwrap().template.spec.unwrap();
    let security = pod.security_context.unwrap();
    assert_eq!(security.run_as_user, None);
    assert_eq!(security.run_as_non_root, Some(true));
}

#[test]
fn refuses_what_cannot_run() {
    let mut bad = work();
    bad.spec.image = None;
    assert_eq!(job(&bad, "n", None).unwrap_err(), ManifestError::NoImage);
    let mut bad = work();
    bad.spec.command.clear();
    assert_eq!(job(&bad, "n", None).unwrap_err(), ManifestError::NoCommand);
    for reference in ["", "/key", "name/", "a/b/c"] {
        let mut bad = work();
        bad.spec.secrets.insert("X".to_owned(), reference.to_owned());
        assert!(
            matches!(job(&bad, "n", None), Err(ManifestError::BadSecret { .. })),
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
    let job = job(&many, "n", None).unwrap();
    let annotations = job.metadata.annotations.unwrap();
    assert!(annotations[names::USER_LABELS].len() <= LABELS_CAP);
    assert!(annotations[names::USER_LABELS].starts_with(r#"{"key-00000":"#));
}
