//! Which kubeconfigs are refused, and with what sentence.

use super::*;

fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
         contexts:\n- {{name: a, context: {{cluster: c, user: u}}}}\n\
         clusters:\n- name: c\n  cluster: {{server: 'https://127.0.0.1:1', {cluster}}}\n\
         users:\n- name: u\n  user: {{{user}}}\n"
    )
}

async fn refusal(yaml: String, context: Option<&str>) -> String {
    match load(&yaml.into(), context).await {
        Ok(_) => panic!("was accepted"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_token_is_enough() {
    let config = load(&kubeconfig("", "token: t").into(), None).await.unwrap();
    assert_eq!(config.cluster_url.to_string(), "https://127.0.0.1:1/");
}

#[tokio::test]
async fn f13_programs_are_refused() {
    let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/sh}";
    let error = refusal(kubeconfig("", exec), None).await;
    assert!(
        error.contains("runs a program") && error.contains("exec"),
        "{error}"
    );
    let legacy = "auth-provider: {name: gcp}";
    let error = refusal(kubeconfig("", legacy), None).await;
    assert!(error.contains("auth-provider"), "{error}");
}

#[tokio::test]
async fn f13_files_are_refused() {
    for (cluster, user) in [
        ("certificate-authority: /etc/passwd", "token: t"),
        ("", "tokenFile: /etc/passwd"),
        ("", "client-certificate: /etc/passwd"),
        ("", "client-key: /etc/passwd"),
    ] {
        let error = refusal(kubeconfig(cluster, user), None).await;
        assert!(
            error.contains("/etc/passwd") && error.contains("--flatten"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let error = refusal(kubeconfig("", "token: t"), Some("b")).await;
    assert_eq!(error, r#"the kubeconfig has no context "b"; it has: a"#);
    let error = refusal("{}".to_owned(), None).await;
    assert!(error.contains("no current context"), "{error}");
    let error = refusal("a: [".to_owned(), None).await;
    assert!(error.contains("cannot be read"), "{error}");
}

#[tokio::test]
async fn a_program_that_never_logs_in_is_given_up_by_its_name() {
    let yaml = "
current-context: prod
clusters:
- {name: c, cluster: {server: 'https://127.0.0.1:1'}}
contexts:
- {name: prod, context: {cluster: c, user: me}}
users:
- {name: me, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: aws-sleepy, interactiveMode: Never}}}
";
    let kubeconfig = Kubeconfig::from_yaml(yaml).unwrap();
    let login = login_program(&kubeconfig, "prod");
    let (_open, closed) = std::sync::mpsc::channel::<()>();
    let hangs = move || {
        closed.recv().ok();
        Ok(())
    };
    let error = within(login, Duration::from_millis(50), hangs).await.unwrap_err();
    assert!(error.to_string().contains("\"aws-sleepy\""), "{error}");
    assert_eq!(login_program(&kubeconfig, "other"), None);
}
