use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::*;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = temp.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    temp
}

fn names(listing: &Listing) -> Vec<String> {
    let name = |entry: &Entry| entry.path.display().to_string();
    listing.entries.iter().map(name).collect()
}

/// A tar of our own making, with whatever a hostile one would hold.
pub(super) fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (kind, path, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o6777);
        let link = matches!(kind, EntryType::Symlink | EntryType::Link);
        let data = if link { "" } else { content };
        header.set_size(data.len() as u64);
        // The checks of the library are for honest writers.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        if link {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_cksum();
        tar.append(&header, data.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn unpack_all(dir: &Path, bytes: &[u8]) -> std::io::Result<Vec<PathBuf>> {
    unpack(dir, Cursor::new(bytes), &Globs::everything(), Limits::default())
}

#[test]
fn ignore_rules_are_kept_and_ours_go_first() {
    let temp = tree(&[
        (".gitignore", "*.log\ndata/\n"),
        (".qwexignore", "!keep.log\nsecret\n"),
        (".git/HEAD", "ref"),
        (".qwex/runs/x", "record"),
        ("sub/.git/HEAD", "ref"),
        ("sub/.gitignore", "local"),
        ("sub/local", ""),
        ("sub/a", ""),
        ("data/big", ""),
        ("a.log", ""),
        ("keep.log", ""),
        ("secret", ""),
        (".hidden", ""),
    ]);
    let listing = list_everything(temp.path()).unwrap();
    let wanted = [
        ".gitignore",
        ".hidden",
        ".qwexignore",
        "keep.log",
        "sub",
        "sub/.gitignore",
        "sub/a",
    ];
    assert_eq!(names(&listing), wanted);
}

#[test]
fn rules_above_the_workspace_count_only_within_a_repository() {
    let temp = tree(&[(".gitignore", "*\n"), ("project/a", "")]);
    let project = temp.path().join("project");
    assert_eq!(names(&list_everything(&project).unwrap()), ["a"]);
    fs::create_dir(temp.path().join(".git")).unwrap();
    assert!(names(&list_everything(&project).unwrap()).is_empty());
}

#[test]
fn only_what_was_named_with_the_directories_above_it() {
    let temp = tree(&[
        (".gitignore", "out\n"),
        ("out/deep/a", ""),
        ("out/b", ""),
        ("c", ""),
    ]);
    let only = |paths: &[&str]| {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        list_only(temp.path(), &paths).map(|listing| names(&listing))
    };
    assert_eq!(
        only(&["./out/deep", "c"]).unwrap(),
        ["c", "out", "out/deep", "out/deep/a"]
    );
    for bad in ["../x", "/etc/passwd", "absent"] {
        assert!(only(&[bad]).unwrap_err().to_string().contains(bad), "{bad}");
    }
    symlink("out", temp.path().join("link")).unwrap();
    assert!(only(&["link/b"]).is_err());
}

#[test]
fn links_out_and_special_files_are_skipped_and_said() {
    let temp = tree(&[("d/e/a", "")]);
    let link = |at: &str, to: &str| symlink(to, temp.path().join(at)).unwrap();
    link("d/e/fine", "../../d");
    link("abs", "/etc/passwd");
    link("d/up", "../../x");
    link("d/e/s", "../..");
    link("d/e/chain", "s/../x");
    nix::unistd::mkfifo(&temp.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let listing = list_everything(temp.path()).unwrap();
    assert_eq!(names(&listing), ["d", "d/e", "d/e/a", "d/e/fine", "d/e/s"]);
    let mut skipped: Vec<&Path> = listing
        .skipped
        .iter()
        .map(|skipped| skipped.path.as_path())
        .collect();
    skipped.sort();
    assert_eq!(skipped, ["abs", "d/e/chain", "d/up", "pipe"].map(Path::new));
}

#[test]
fn what_is_packed_comes_back_as_it_was() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let temp = tree(&[
        ("a b\nc", "odd\0name"),
        (&long, "long"),
        ("bin/tool", "#!"),
        ("empty", ""),
    ]);
    fs::set_permissions(temp.path().join("bin/tool"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("../empty", temp.path().join("bin/link")).unwrap();
    let listing = list_everything(temp.path()).unwrap();
    let mut bytes = Vec::new();
    assert_eq!(
        pack(temp.path(), &listing.entries, &mut bytes).unwrap(),
        listing.bytes()
    );
    let there = tempfile::tempdir().unwrap();
    let files = unpack_all(there.path(), &bytes).unwrap();
    assert_eq!(files.len(), 5);
    let again = list_everything(there.path()).unwrap();
    assert_eq!(names(&again), names(&listing));
    assert_eq!(fs::read(there.path().join("a b\nc")).unwrap(), b"odd\0name");
    assert_eq!(
        fs::read_link(there.path().join("bin/link")).unwrap(),
        Path::new("../empty")
    );
    let mode = |path: &str| {
        fs::metadata(there.path().join(path))
            .unwrap()
            .permissions()
            .mode()
    };
    assert_eq!((mode("bin/tool") & 0o7100, mode("empty") & 0o7100), (0o100, 0));
}

#[test]
fn a_hostile_archive_gets_nowhere() {
    use EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};
    let hostile: &[&[(EntryType, &str, &str)]] = &[
        &[(Regular, "../x", "x")],
        &[(Regular, "a/../../x", "x")],
        &[(Regular, "/x", "x")],
        &[(Directory, "../x", "")],
        &[(Symlink, "l", "/etc")],
        &[(Symlink, "l", "../x")],
        &[(Symlink, "d/l", "../../x")],
        &[(Symlink, "l", "a/../../x")],
        &[(Symlink, "l", "d"), (Regular, "l/x", "x")],
        &[(Link, "h", "/etc/passwd")],
        &[(Link, "h", "../x")],
        &[(Link, "h", "mine")],
        &[(Char, "c", "")],
        &[(Block, "b", "")],
        &[(Fifo, "f", "")],
    ];
    for entries in hostile {
        let temp = tree(&[("ws/mine", "mine"), ("x", "theirs")]);
        let ws = temp.path().join("ws");
        fs::create_dir(ws.join("d")).unwrap();
        assert!(unpack_all(&ws, &archive(entries)).is_err(), "{entries:?}");
        assert_eq!(fs::read(temp.path().join("x")).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2, "{entries:?}");
        assert_eq!(fs::read(ws.join("mine")).unwrap(), b"mine");
    }
}

#[test]
fn links_of_the_workspace_are_replaced_or_refused_never_followed() {
    let temp = tree(&[("ws/a", ""), ("out/x", "theirs")]);
    let ws = temp.path().join("ws");
    symlink("../out/x", ws.join("file")).unwrap();
    symlink("../out", ws.join("dir")).unwrap();
    unpack_all(&ws, &archive(&[(EntryType::Regular, "file", "ours")])).unwrap();
    assert!(unpack_all(&ws, &archive(&[(EntryType::Regular, "dir/x", "ours")])).is_err());
    assert_eq!(fs::read(temp.path().join("out/x")).unwrap(), b"theirs");
    assert_eq!(fs::read(ws.join("file")).unwrap(), b"ours");
}

#[test]
fn hard_links_within_the_archive_are_files() {
    let temp = tempfile::tempdir().unwrap();
    let bytes = archive(&[(EntryType::Regular, "d/a", "text"), (EntryType::Link, "b", "d/a")]);
    unpack_all(temp.path(), &bytes).unwrap();
    assert_eq!(fs::read(temp.path().join("b")).unwrap(), b"text");
}

#[test]
fn an_archive_cut_anywhere_is_told_from_a_whole_one() {
    let bytes = archive(&[(EntryType::Regular, "a", "text"), (EntryType::Regular, "b", "")]);
    assert!(unpack_all(tempfile::tempdir().unwrap().path(), &bytes).is_ok());
    for cut in (0..bytes.len() - 1024).step_by(64) {
        let temp = tempfile::tempdir().unwrap();
        let error = unpack_all(temp.path(), &bytes[..cut]).unwrap_err();
        // Told apart from one that will be refused however often it is sent.
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::UnexpectedEof,
            "cut at {cut}: {error}"
        );
    }
}

#[test]
fn limits_and_globs_hold() {
    let bytes = archive(&[
        (EntryType::Regular, "out/a.json", "12345"),
        (EntryType::Regular, "b", "12345"),
    ]);
    let with = |globs: &Globs, entries, bytes_left| {
        let temp = tempfile::tempdir().unwrap();
        let limits = Limits {
            entries,
            bytes: bytes_left,
        };
        unpack(temp.path(), Cursor::new(&bytes), globs, limits)
    };
    let everything = Globs::everything();
    assert!(with(&everything, 1, 100).is_err());
    assert!(with(&everything, 2, 9).is_err());
    assert_eq!(with(&everything, 2, 10).unwrap().len(), 2);
    let json = Globs::new(&["out/*.json"]).unwrap();
    assert_eq!(with(&json, 2, 5).unwrap(), [Path::new("out/a.json")]);
}

/// What the user has there may be moved away; what the archive says twice stays wrong however often it is sent.
#[test]
fn what_is_in_the_way_is_left_and_told_apart_from_an_archive_that_contradicts_itself() {
    let bytes = archive(&[(EntryType::Regular, "out/deep/a", "x")]);
    for (kind, words) in [("link", "a link"), ("file", "a file"), ("pipe", "no directory")] {
        let temp = tree(&[("elsewhere/own", "")]);
        let path = temp.path().join("out");
        match kind {
            "link" => symlink("elsewhere", &path).unwrap(),
            "file" => fs::write(&path, "").unwrap(),
            _ => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        }
        let error = unpack_all(temp.path(), &bytes).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotADirectory, "{error}");
        let told = format!("\"out\" is {words} in the workspace");
        assert!(error.to_string().contains(&told), "{error}");
        assert!(!fs::symlink_metadata(path).unwrap().is_dir());
        assert_eq!(fs::read_dir(temp.path().join("elsewhere")).unwrap().count(), 1);
    }
    for kind in [EntryType::Symlink, EntryType::Regular] {
        let mad = archive(&[(kind, "out", "elsewhere"), (EntryType::Regular, "out/a", "x")]);
        let temp = tree(&[("elsewhere/own", "")]);
        let error = unpack_all(temp.path(), &mad).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
    }
}

#[test]
fn globs_mean_what_people_mean() {
    let globs = Globs::new(&["out", "./*.txt", "models/**/best.bin"]).unwrap();
    let yes = [
        "out/a",
        "out/deep/b",
        "a.txt",
        "models/best.bin",
        "models/1/2/best.bin",
    ];
    let no = ["outer/a", "deep/a.txt", "models/1/worse.bin"];
    assert!(yes.iter().all(|path| globs.matches(Path::new(path))));
    assert!(!no.iter().any(|path| globs.matches(Path::new(path))));
    for bad in ["", "/etc/*", "../x", "a/../b", "a["] {
        let error = Globs::new(&[bad]).unwrap_err().to_string();
        assert!(error.contains("relative to the workspace"), "{error}");
    }
    let temp = tree(&[("out/a", ""), ("b.txt", ""), (".git/x.txt", "")]);
    let found = find(temp.path(), &Globs::new(&["out", "**/*.txt"]).unwrap()).unwrap();
    assert_eq!(found, ["b.txt", "out/a"].map(PathBuf::from));
}
