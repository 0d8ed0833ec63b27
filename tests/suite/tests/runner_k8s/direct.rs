//! The way to a cluster with the user's own rights, and what is said where they do not suffice.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleRef, Subject};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::config::Kubeconfig;
use qwex_core::Ending;
use qwex_runner::backend::Backend;
use qwex_runner::{Runner as _, RunnerError, Watcher as _};
use qwex_runner_k8s::{K8sBackend, K8sDirectConfig, Surroundings, Word};
use qwex_testbed::{Cluster, require, shared, wait};

use crate::rig::{LIMIT, Rig, shell, work};

fn nowhere(dir: &Path) -> Surroundings {
    Surroundings {
        kubeconfig: None,
        home: None,
        service: None,
        service_account: dir.to_owned(),
    }
}

#[tokio::test]
async fn a_run_from_the_laptop_and_nothing_is_left() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::direct(shared::alpha().await?, |_| {}).await?;
    let listener = rig.listen();
    let run = shell("id -u; pwd; exit 3");
    assert!(Backend::validate(&rig.backend, &run.spec).is_empty());
    let handle = rig.submit(&run).await?;
    assert_eq!(handle.backend.address.as_deref(), Some("alpha"));
    let failure = listener.failure(&run).await?;
    assert_eq!(failure.exit_code, Some(3));
    let log = rig.whole_log(&listener.log_of(&run).await?).await?;
    assert_eq!(log.text(), "0\n/\n", "the image's own user and directory");
    let details = rig.backend.details(&handle).await?;
    assert_eq!(details.host.as_deref(), Some("localhost"));
    assert!(details.image_digest.context("a digest")?.contains("sha256:"));
    for _ in 0..2 {
        rig.backend.remove(&handle).await?;
    }
    let gone = || async {
        let jobs = rig.jobs().get_opt(&handle.backend.object).await.ok()?;
        let pods = rig.pods_of(&run).await.ok()?;
        (jobs.is_none() && pods.is_empty()).then_some(())
    };
    wait::until(LIMIT, "the objects to go", gone).await?;
    // An object of that name that is another's is left alone.
    let other = rig.submit(&run).await?;
    assert_ne!(other.backend.uid, handle.backend.uid);
    rig.backend.remove(&handle).await?;
    assert!(rig.jobs().get_opt(&handle.backend.object).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn contexts_and_namespaces_choose_the_cluster() -> Result<()> {
    require!(Root, Go, Containerd);
    let (alpha, beta) = (shared::alpha().await?, shared::beta().await?);
    let list = std::env::join_paths([alpha.kubeconfig_path(), beta.kubeconfig_path()])?;
    let around = Surroundings {
        kubeconfig: Some(list),
        ..nowhere(Path::new("/nonexistent"))
    };
    let connect = |context: Option<&str>, namespace: Option<&str>| {
        K8sBackend::connect_direct(K8sDirectConfig {
            context: context.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
            surroundings: Some(around.clone()),
            ..K8sDirectConfig::default()
        })
    };
    let first = connect(None, None).await?;
    let detail = Backend::probe(&first).await?.detail;
    assert!(detail.contains("context alpha, namespace default"), "{detail}");
    let second = connect(Some("beta"), Some("team")).await?;
    let detail = Backend::probe(&second).await?.detail;
    assert!(detail.contains("context beta, namespace team"), "{detail}");
    let error = connect(Some("gamma"), None)
        .await
        .err()
        .context("no such context")?;
    assert_eq!(
        error.to_string(),
        r#"the kubeconfig has no context "gamma"; it has: alpha, beta"#
    );
    Ok(())
}

/// A kubeconfig whose only context is named as another cluster's.
fn posing_as(name: &str, cluster: &Cluster) -> Result<String> {
    let mut kubeconfig = Kubeconfig::from_yaml(cluster.kubeconfig())?;
    name.clone_into(&mut kubeconfig.contexts[0].name);
    kubeconfig.current_context = Some(name.to_owned());
    Ok(serde_json::to_string(&kubeconfig)?)
}

#[tokio::test]
async fn a15_a_run_stays_with_the_cluster_it_was_given_to() -> Result<()> {
    require!(Root, Go, Containerd);
    let (alpha, beta) = (shared::alpha().await?, shared::beta().await?);
    let rig = Rig::direct(alpha, |_| {}).await?;
    let placed = rig.backend.placement().await.context("a placement")?;
    assert_eq!(
        (placed.context.as_str(), &placed.namespace),
        ("alpha", &rig.namespace)
    );
    assert!(placed.identity.uid.is_some(), "{placed:?}");
    let run = shell("trap 'exit 0' TERM; while :; do sleep 0.1; done");
    let handle = rig.submit(&run).await?;
    let later = |list: std::ffi::OsString| {
        K8sBackend::connect_direct(K8sDirectConfig {
            context: Some(placed.context.clone()),
            namespace: Some(placed.namespace.clone()),
            identity: Some(placed.identity.clone()),
            surroundings: Some(Surroundings {
                kubeconfig: Some(list),
                ..nowhere(Path::new("/nonexistent"))
            }),
            ..K8sDirectConfig::default()
        })
    };
    // `kubectl config use-context beta`: the first file's current context wins.
    let switched = std::env::join_paths([beta.kubeconfig_path(), alpha.kubeconfig_path()])?;
    let facts = later(switched).await?.observe(&handle).await?;
    assert!(!facts.is_empty());
    assert!(
        !facts
            .iter()
            .any(|seen| matches!(seen.fact, qwex_core::Fact::Gone { .. })),
        "{facts:?}"
    );

    let dir = tempfile::tempdir()?;
    let file = dir.path().join("config");
    std::fs::write(&file, posing_as("alpha", beta)?)?;
    let error = later(file.into_os_string())
        .await
        .err()
        .context("another cluster")?;
    let error = RunnerError::from(error);
    assert!(matches!(error, RunnerError::Unreachable { .. }), "{error:?}");
    let told = error.to_string();
    assert!(
        told.contains("context \"alpha\"") && told.contains("KUBECONFIG"),
        "{told}"
    );
    let gone = later(beta.kubeconfig_path().into_os_string())
        .await
        .err()
        .context("no such context")?;
    assert!(RunnerError::from(gone).is_cut());
    rig.backend.cancel(&handle).await?;
    Ok(())
}

/// Files as a kubelet writes them into a pod, for a service account that may do everything.
async fn service_account(cluster: &Cluster, namespace: &str, dir: &Path) -> Result<String> {
    let client = cluster.client().await?;
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let binding = ClusterRoleBinding {
        metadata: ObjectMeta {
            name: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "ClusterRole".to_owned(),
            name: "admin".to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: "default".to_owned(),
            namespace: Some(namespace.to_owned()),
            api_group: None,
        }]),
    };
    bindings.create(&PostParams::default(), &binding).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace);
    let request = TokenRequest {
        metadata: ObjectMeta::default(),
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(3600),
            ..TokenRequestSpec::default()
        }),
        status: None,
    };
    let answer = accounts
        .create_token_request("default", &PostParams::default(), &request)
        .await?;
    let token = answer.status.context("a status")?.token.context("a token")?;
    let kubeconfig = Kubeconfig::from_yaml(cluster.kubeconfig())?;
    let authority = kubeconfig.clusters[0].cluster.as_ref().context("a cluster")?;
    let authority = authority.certificate_authority_data.as_deref().context("a CA")?;
    use base64::Engine as _;
    std::fs::write(
        dir.join("ca.crt"),
        base64::engine::general_purpose::STANDARD.decode(authority)?,
    )?;
    std::fs::write(dir.join("token"), &token)?;
    std::fs::write(dir.join("namespace"), namespace)?;
    Ok(token)
}

#[tokio::test]
async fn inside_a_pod_its_service_account_is_used() -> Result<()> {
    require!(Root, Go, Containerd);
    let alpha = shared::alpha().await?;
    let namespace = alpha.namespace("incluster").await?;
    let dir = tempfile::tempdir()?;
    service_account(alpha, &namespace, dir.path()).await?;
    let address = alpha.api_addr();
    let backend = K8sBackend::connect_direct(K8sDirectConfig {
        surroundings: Some(Surroundings {
            service: Some((address.ip().to_string(), address.port().to_string())),
            ..nowhere(dir.path())
        }),
        ..K8sDirectConfig::default()
    })
    .await?;
    let probe = Backend::probe(&backend).await?;
    assert!(
        probe
            .detail
            .contains(&format!("context in-cluster, namespace {namespace}")),
        "{probe:?}"
    );
    assert_eq!(probe.notes, Vec::<String>::new());
    let rig = Rig {
        backend,
        namespace,
        client: alpha.client().await?,
    };
    let listener = rig.listen();
    let run = work(&["true"]);
    rig.submit(&run).await?;
    assert_eq!(listener.ending(&run).await?, Ending::Succeeded { verified: true });
    Ok(())
}

#[tokio::test]
async fn a_program_that_logs_in_is_run_here() -> Result<()> {
    require!(Root, Go, Containerd);
    let alpha = shared::alpha().await?;
    let namespace = alpha.namespace("exec").await?;
    let dir = tempfile::tempdir()?;
    let token = service_account(alpha, &namespace, dir.path()).await?;
    let program = dir.path().join("login");
    let mut file = std::fs::File::create(&program)?;
    write!(
        file,
        "#!/bin/sh\necho '{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{{\"token\":\"{token}\"}}}}'\n"
    )?;
    file.set_permissions(std::fs::Permissions::from_mode(0o700))?;
    drop(file);
    let kubeconfig = dir.path().join("kubeconfig");
    std::fs::write(
        &kubeconfig,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: exec\n\
             contexts:\n- {{name: exec, context: {{cluster: c, user: u, namespace: {namespace}}}}}\n\
             clusters:\n- {{name: c, cluster: {{server: 'https://{}', certificate-authority: ca.crt}}}}\n\
             users:\n- name: u\n  user:\n    exec: {{apiVersion: client.authentication.k8s.io/v1, command: ./login, interactiveMode: Never}}\n",
            alpha.api_addr()
        ),
    )?;
    let backend = K8sBackend::connect_direct(K8sDirectConfig {
        kubeconfig: Some(kubeconfig),
        ..K8sDirectConfig::default()
    })
    .await?;
    let probe = Backend::probe(&backend).await?;
    assert_eq!(probe.notes, Vec::<String>::new(), "{probe:?}");
    Ok(())
}

#[tokio::test]
async fn missing_rights_are_named_with_what_to_ask_for() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let dir = tempfile::tempdir()?;
    let kubeconfig = dir.path().join("kubeconfig");
    std::fs::write(&kubeconfig, beta.mint_user("nobody-direct", &[])?)?;
    let backend = K8sBackend::connect_direct(K8sDirectConfig {
        kubeconfig: Some(kubeconfig),
        ..K8sDirectConfig::default()
    })
    .await?;
    let notes = Backend::probe(&backend).await?.notes;
    assert!(
        notes[0].contains("create jobs in namespace default") && notes[0].contains("ask for a Role"),
        "{notes:#?}"
    );
    assert!(notes.iter().any(|note| note.contains("pods/exec")), "{notes:#?}");
    let error = backend
        .submit(&work(&["true"]))
        .await
        .err()
        .context("no rights")?;
    let RunnerError::Unauthorized { message } = error else {
        anyhow::bail!("{error:?}");
    };
    assert!(
        message.contains(
            "ask for a Role in namespace default with the verb `create` on `jobs` of batch (context "
        ),
        "{message}"
    );
    let error = backend.watch(None).await.err().context("no rights")?;
    assert!(error.to_string().contains("with the verb `list` on"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_told_in_time() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let kubeconfig = dir.path().join("kubeconfig");
    std::fs::write(
        &kubeconfig,
        "apiVersion: v1\nkind: Config\ncurrent-context: away\n\
         contexts:\n- {name: away, context: {cluster: c, user: u}}\n\
         clusters:\n- {name: c, cluster: {server: 'https://127.0.0.1:1'}}\n\
         users:\n- {name: u, user: {token: t}}\n",
    )?;
    let backend = K8sBackend::connect_direct(K8sDirectConfig {
        kubeconfig: Some(kubeconfig),
        ..K8sDirectConfig::default()
    })
    .await?;
    let error = Backend::probe(&backend).await.err().context("nobody is there")?;
    let text = error.to_string();
    assert!(
        text.contains("context away") && text.contains("is the cluster up"),
        "{text}"
    );
    // A submit says so too, and that nothing was sent.
    let error = backend.submit(&work(&["true"])).await.err().context("away")?;
    assert!(
        matches!(&error, RunnerError::NoConnection { message } if message.contains("context away")),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn kueue_is_k8s_that_needs_a_queue() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::direct(shared::alpha().await?, |config| config.word = Word::Kueue).await?;
    assert_eq!(Backend::name(&rig.backend), "kueue");
    let notes = Backend::probe(&rig.backend).await?.notes;
    assert!(notes.iter().any(|note| note.contains("no Kueue")), "{notes:#?}");
    let error = rig
        .backend
        .submit(&work(&["true"]))
        .await
        .err()
        .context("no Kueue on alpha")?;
    assert!(
        matches!(&error, RunnerError::Unsupported { message } if message.contains("use the backend k8s")),
        "{error:?}"
    );
    Ok(())
}
