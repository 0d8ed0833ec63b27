//! Whose files a run writes: the caller's, on both engines.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use anyhow::{Context as _, Result};
use qwex_runner::backend::Backend as _;
use qwex_testbed::podman::Podman;
use qwex_testbed::require;

use crate::support::{BOTH, Which, cancel, in_workspace, log};

const USER: u32 = 1000;

/// A directory of the user, as a home is: nobody else may enter it.
fn home(user: u32) -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700))?;
    chown(dir.path(), Some(user), Some(user))?;
    Ok(dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn h06_outputs_belong_to_the_user_and_can_be_removed() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let mut bench = which.bench().await;
        bench.config.outputs_belong_to = Some((USER, USER));
        bench.backend = bench.another();
        let dir = home(USER)?;
        let script = "pwd; id -u; mkdir out && echo result > out/file && umask 077 && echo secret > out/own";
        let said = bench.said(in_workspace(bench.shell(script), dir.path())).await?;
        assert_eq!(said, format!("/workspace\n{USER}\n"), "{which:?}");
        for path in ["out", "out/file", "out/own"] {
            let meta = std::fs::metadata(dir.path().join(path))?;
            assert_eq!((meta.uid(), meta.gid()), (USER, USER), "{which:?} {path}");
        }
        let removed = tokio::process::Command::new("rm")
            .args(["-r", "out"])
            .current_dir(dir.path())
            .uid(USER)
            .gid(USER)
            .status()
            .await?;
        assert!(
            removed.success(),
            "{which:?}: the user removes what the run wrote"
        );
    }
    Ok(())
}

/// As above, with a podman that runs without root: its root is the user.
#[tokio::test(flavor = "multi_thread")]
async fn h06_outputs_of_a_rootless_podman_belong_to_its_user() -> Result<()> {
    require!(Root, Podman);
    let podman = Podman::start_rootless().await?;
    let bench = Which::Podman.bench_at(&podman.host(), podman.load_busybox().await?);
    let probe = bench.backend.probe().await?;
    assert!(probe.detail.contains("rootless"), "{probe:?}");
    let nobody = nix::unistd::User::from_name("nobody")?.context("there is no user nobody")?;
    let dir = home(nobody.uid.as_raw())?;
    let mut work = in_workspace(
        bench.shell("mkdir out && echo result > out/file; echo said; exit 3"),
        dir.path(),
    );
    work.spec.network = Some("none".to_owned());
    let (submission, end) = bench.run(work).await?;
    assert_eq!(end.exit_code, Some(3), "{end:?}");
    assert_eq!(
        log(&bench.backend, &submission.handle, "stdout").await?,
        b"said\n"
    );
    for path in ["out", "out/file"] {
        let meta = std::fs::metadata(dir.path().join(path))?;
        assert_eq!(meta.uid(), nobody.uid.as_raw(), "{path}");
    }
    let mut endless = bench.work(&["sleep", "600"]);
    endless.spec.network = Some("host".to_owned());
    let endless = bench.submit(endless).await?;
    cancel(&bench.backend, &endless.handle).await;
    for submission in [submission, endless] {
        bench.backend.remove(&submission.handle).await?;
    }
    assert_eq!(podman.podman(&["ps", "-aq"]).await?, "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn h06_nothing_but_the_workspace_is_mounted() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let outside = home(USER)?;
        let dir = tempfile::tempdir_in(outside.path())?;
        std::fs::write(outside.path().join("secret"), "x")?;
        std::os::unix::fs::symlink("../secret", dir.path().join("link"))?;
        let script = "ls -a /workspace | grep -v '^[.]*$'; cat link || echo nothing behind the link";
        let said = bench.said(in_workspace(bench.shell(script), dir.path())).await?;
        assert_eq!(said, "link\nnothing behind the link\n", "{which:?}");
    }
    Ok(())
}
