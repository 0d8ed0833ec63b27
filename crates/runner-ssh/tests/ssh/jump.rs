//! A host that is reached by way of another one, as `ssh -J` does.

use std::fs;

use qwex_core::FailureCode;
use qwex_runner::{Backend, Runner, RunnerError};
use qwex_runner_ssh::SshConfig;
use qwex_testbed::sshd::Sshd;

use crate::support::{bench_over, by_program, code, in_copy_of, shell};

/// Both hosts in one client configuration, under their own names.
fn both(bastion: &Sshd, inner: &Sshd) -> String {
    let host = |sshd: &Sshd, name: &str| {
        let config = fs::read_to_string(sshd.config()).unwrap();
        config.replacen("Host testbed", &format!("Host {name}"), 1)
    };
    host(bastion, "bastion") + &host(inner, "inner")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_by_way_of_a_jump_host_and_its_files_come_back() {
    let (bastion, inner) = (Sshd::start().await.unwrap(), Sshd::start().await.unwrap());
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("ssh_config");
    fs::write(&file, both(&bastion, &inner)).unwrap();
    let by_jump = |config: &mut SshConfig| {
        by_program(config);
        config.host = "inner".to_owned();
        config.jump = vec!["bastion".to_owned()];
    };
    let bench = bench_over(file.clone(), by_jump);

    let project = temp.path().join("project");
    fs::create_dir(&project).unwrap();
    fs::write(project.join("in.txt"), "there and back").unwrap();
    let mut work = in_copy_of(&project, "tr a-z A-Z < in.txt > out.txt; exit 7");
    work.spec.outputs = vec!["out.txt".to_owned()];
    let handle = bench.submit(&work).await;
    let ended = bench.wait(&handle).await;
    assert_eq!(code(&ended), Some((FailureCode::ExitCode, Some(7))));
    let outputs = &work.spec.outputs;
    bench.backend.collect(&handle, &project, outputs).await.unwrap();
    assert_eq!(
        fs::read_to_string(project.join("out.txt")).unwrap(),
        "THERE AND BACK"
    );

    // Without the host in between there is no way, and a run is not lost for it.
    bastion.stop().await.unwrap();
    let alone = bench_over(file, by_jump);
    let error = alone.backend.submit(&shell("true")).await.unwrap_err();
    assert!(matches!(error, RunnerError::NoConnection { .. }), "{error:?}");
}
