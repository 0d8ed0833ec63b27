//! Outputs on their way back: what is in their way here, and a host that tells too much.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use qwex_runner::{Backend, RunnerError};
use qwex_testbed::sshd::Sshd;

use crate::support::{bench_over, host_with, in_copy_of, script};

#[tokio::test(flavor = "multi_thread")]
async fn a_link_of_the_user_in_the_way_of_outputs_is_left_and_told_and_does_not_end_it() {
    let bench = script().await;
    let here = tempfile::tempdir().unwrap();
    let handle = bench
        .succeed(&in_copy_of(
            here.path(),
            "mkdir -p out/deep && echo 42 > out/deep/model",
        ))
        .await;
    let own = tempfile::tempdir().unwrap();
    let outputs = ["out".to_owned()];
    // Within the workspace, out of it, and to nothing.
    for target in [Path::new("elsewhere"), own.path(), Path::new("nowhere")] {
        for in_the_way in ["out", "out/deep"] {
            let link = here.path().join(in_the_way);
            fs::remove_dir_all(here.path().join("out")).ok();
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            fs::create_dir_all(here.path().join("elsewhere")).unwrap();
            symlink(target, &link).unwrap();
            let told = bench
                .backend
                .collect(&handle, here.path(), &outputs)
                .await
                .unwrap_err();
            assert!(told.is_retryable(), "{target:?} {in_the_way}: {told:?}");
            let words = format!("{in_the_way:?} is a link in the workspace");
            assert!(told.to_string().contains(&words), "{told}");
            assert!(told.to_string().contains("move it away"), "{told}");
            assert_eq!(fs::read_link(&link).unwrap(), target, "it is as it was");
            fs::remove_file(link).unwrap();
        }
    }
    for untouched in [own.path(), &here.path().join("elsewhere")] {
        assert_eq!(fs::read_dir(untouched).unwrap().count(), 0, "{untouched:?}");
    }
    let brought = bench.backend.collect(&handle, here.path(), &outputs).await;
    assert_eq!(brought.unwrap(), [Path::new("out/deep/model")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_lists_files_without_end_is_heard_so_far_and_no_further() {
    let mad = "yes ./out/model | head -c 400000000 | tr '\\n' '\\0'";
    let (programs, sshd) = host_with(&[("find", mad)]).await;
    let bench = bench_over(sshd.config(), |_| {});
    let here = tempfile::tempdir().unwrap();
    let handle = bench
        .succeed(&in_copy_of(here.path(), "mkdir out && echo 42 > out/model"))
        .await;
    let outputs = ["out".to_owned()];
    let collect = || bench.backend.collect(&handle, here.path(), &outputs);
    let told = collect().await.unwrap_err();
    assert!(matches!(told, RunnerError::Rejected { .. }), "{told:?}");
    assert!(told.to_string().contains("the list of files"), "{told}");
    assert!(told.to_string().contains("128 MiB"), "{told}");
    // The connection is good for more.
    fs::remove_file(programs.path().join("find")).unwrap();
    assert_eq!(collect().await.unwrap(), [Path::new("out/model")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_announces_more_than_any_memory_holds_is_not_believed() {
    for words in ["data 99999999999999999", "data 9999999999"] {
        let lines = format!("ForceCommand echo 'qwex go'; echo '{words}'; exec cat");
        let sshd = Sshd::start_with(&lines).await.unwrap();
        let bench = bench_over(sshd.config(), |_| {});
        let told = bench.backend.probe().await.unwrap_err();
        assert!(told.is_blind(), "{told:?}");
        assert!(told.to_string().contains("more than 256 MiB"), "{told}");
    }
}
