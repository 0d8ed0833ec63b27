//! Where nothing more can be written: what is said, and that nobody's files are lost.

use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::support::{User, seen};

/// A small disk, also taken away by a test that fails.
struct Disk(PathBuf);

impl Disk {
    fn of(path: PathBuf) -> Self {
        std::fs::create_dir(&path).unwrap();
        let size = Some("size=256k");
        mount(Some("none"), &path, Some("tmpfs"), MsFlags::empty(), size).unwrap();
        Self(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).ok();
    }
}

/// A disk of 256 KiB that is full; the files of whoever works there are safe, and what may have been lost is said.
#[test]
fn a_full_disk_is_told_with_a_way_out_and_loses_nothing() {
    assert!(
        nix::unistd::Uid::effective().is_root(),
        "this test mounts a small disk, which only root can: run it as root"
    );
    let user = User::new();
    let mounted = Disk::of(user.dir().join("disk"));
    let disk = &mounted.0;
    let at = |words: &[&str]| {
        let mut command = user.qwexctl(words);
        command.current_dir(disk);
        seen(command)
    };
    let yaml = disk.join("qwex.yaml");
    std::fs::write(&yaml, "name: mine\n").unwrap();
    let fill = || std::fs::write(disk.join("fill"), vec![0; 1 << 20]).unwrap_err();
    fill();
    for words in [&["run", "--", "true"][..], &["init", "--force"]] {
        let told = at(words);
        assert_ne!(told.code, 0, "{words:?}");
        for expected in ["No space left", "fix:", "has room", "code:"] {
            assert!(told.err.contains(expected), "{words:?}: {}", told.err);
        }
    }
    assert_eq!(std::fs::read_to_string(&yaml).unwrap(), "name: mine\n");
    std::fs::remove_file(&yaml).unwrap();
    fill();
    assert_eq!(at(&["init"]).code, 1);
    assert!(!yaml.exists(), "an empty one is in the way of the next");
    std::fs::remove_file(disk.join("fill")).unwrap();
    // Not even its own words find room.
    let loud = at(&[
        "run",
        "--",
        "sh",
        "-c",
        "head -c 1000000 /dev/zero; echo full >&2",
    ]);
    let why = at(&["why", "@latest"]);
    assert_ne!(loud.code, 0);
    for told in [&loud.err, &why.out] {
        assert!(
            told.contains("is full") && told.contains("make room") && told.contains("qwexctl rerun"),
            "{told}"
        );
    }
}
