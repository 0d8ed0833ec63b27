//! Archives that nobody wrote by hand: random members with hostile names, random bytes, and bombs.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::tests::archive;
use super::*;

/// Parts of names and of link targets; few, so that members meet.
const PARTS: &[&str] = &["a", "b", "d", "..", ".", "", "out", "\u{fc}"];

const KINDS: &[EntryType] = &[
    EntryType::Regular,
    EntryType::Directory,
    EntryType::Symlink,
    EntryType::Link,
    EntryType::Char,
    EntryType::Block,
    EntryType::Fifo,
    EntryType::GNUSparse,
    EntryType::XHeader,
    EntryType::GNULongName,
];

fn name() -> impl Strategy<Value = String> {
    let parts = proptest::collection::vec(proptest::sample::select(PARTS), 1..5);
    (any::<bool>(), parts).prop_map(|(rooted, parts)| {
        let root = if rooted && parts.len() > 3 { "/" } else { "" };
        format!("{root}{}", parts.join("/"))
    })
}

/// Kinds that do something come more often.
fn members() -> impl Strategy<Value = Vec<(EntryType, String, String)>> {
    let kind = prop_oneof![
        3 => Just(EntryType::Regular),
        3 => Just(EntryType::Symlink),
        2 => Just(EntryType::Link),
        1 => Just(EntryType::Directory),
        1 => proptest::sample::select(KINDS),
    ];
    proptest::collection::vec((kind, name(), name()), 0..12)
}

fn packed(members: &[(EntryType, String, String)]) -> Vec<u8> {
    let members: Vec<(EntryType, &str, &str)> = members
        .iter()
        .map(|(kind, name, content)| (*kind, name.as_str(), content.as_str()))
        .collect();
    archive(&members)
}

/// A workspace with something beside it that is none of an archive's business.
struct Place {
    temp: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("deep/ws")).unwrap();
        for name in ["a", "out", "deep/a", "deep/out"] {
            fs::write(temp.path().join(name), "theirs").unwrap();
        }
        Self { temp }
    }

    fn unpack(&self, bytes: &[u8], limits: Limits) -> std::io::Result<Vec<std::path::PathBuf>> {
        let dir = self.temp.path().join("deep/ws");
        unpack(&dir, Cursor::new(bytes), &Globs::everything(), limits)
    }

    /// Nothing outside was touched, no link leads there, and all is file, directory or link.
    fn is_sound(&self) {
        for name in ["a", "out", "deep/a", "deep/out"] {
            let path = self.temp.path().join(name);
            assert_eq!(fs::read(&path).unwrap(), b"theirs", "{name}");
            assert_eq!(
                std::os::unix::fs::MetadataExt::nlink(&fs::metadata(path).unwrap()),
                1,
                "{name}"
            );
        }
        let beside = |dir: &str| fs::read_dir(self.temp.path().join(dir)).unwrap().count();
        assert_eq!((beside("."), beside("deep")), (3, 3));
        let ws = self.temp.path().join("deep/ws").canonicalize().unwrap();
        walk(&ws, &ws);
    }
}

fn walk(dir: &Path, ws: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            walk(&path, ws);
        } else if kind.is_symlink() {
            // One that leads nowhere, or round in a circle, leads nobody out.
            let leads = path.canonicalize().unwrap_or_else(|_| ws.to_owned());
            assert!(leads.starts_with(ws), "{path:?} leads to {leads:?}");
        } else {
            assert!(kind.is_file(), "{path:?}");
        }
    }
}

/// Room for tests: what is refused must be refused by its shape.
const ROOM: Limits = Limits {
    entries: 1000,
    bytes: 1 << 20,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn f16_no_archive_gets_out_of_the_workspace(members in members()) {
        let place = Place::new();
        place.unpack(&packed(&members), ROOM).ok();
        place.is_sound();
    }

    #[test]
    fn f16_a_second_archive_gets_out_no_more_than_the_first(one in members(), two in members()) {
        let place = Place::new();
        place.unpack(&packed(&one), ROOM).ok();
        place.unpack(&packed(&two), ROOM).ok();
        place.is_sound();
    }

    #[test]
    fn f16_spoilt_archives_are_refused_or_read_never_followed(
        members in members(),
        spoilt in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut bytes = packed(&members);
        for (at, byte) in spoilt {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // A header whose sum is right reaches further than one that is not.
        for header in bytes.chunks_exact_mut(512) {
            if header[257..262] == *b"ustar" {
                mend(header);
            }
        }
        let place = Place::new();
        place.unpack(&bytes, ROOM).ok();
        place.is_sound();
    }

    #[test]
    fn f16_any_bytes_are_no_archive(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let place = Place::new();
        place.unpack(&bytes, ROOM).ok();
        place.is_sound();
    }
}

/// Writes the checksum that belongs to a header.
fn mend(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A run must not leave a program behind that the user's git runs, nor rewrite what qwex knows.
#[test]
fn f16_nothing_is_written_into_what_git_and_qwex_keep() {
    let place = Place::new();
    let ws = place.temp.path().join("deep/ws");
    fs::create_dir_all(ws.join(".git/info")).unwrap();
    fs::write(ws.join(".git/config"), "theirs").unwrap();
    let members = [
        (EntryType::Regular, ".git/info/attributes", "ours"),
        (EntryType::Regular, ".git/config", "ours"),
        (EntryType::Regular, ".GIT/config", "ours"),
        (EntryType::Regular, "./.qwex/runs/x/run.json", "{}"),
        (EntryType::Symlink, ".qwex", "b"),
        (EntryType::Directory, "b/.git", ""),
        (EntryType::Regular, "b/.git/config", "#!/bin/sh"),
        (EntryType::Regular, "b/.gitignore", "x"),
    ];
    let written = place.unpack(&archive(&members), ROOM).unwrap();
    assert_eq!(written, [Path::new("b/.gitignore")]);
    assert_eq!(fs::read(ws.join(".git/config")).unwrap(), b"theirs");
    assert_eq!(fs::read_dir(ws.join(".git/info")).unwrap().count(), 0);
    for absent in [".qwex", ".GIT", "b/.git"] {
        assert!(!ws.join(absent).exists(), "{absent}");
    }
    let linked = [
        (EntryType::Regular, ".git/config", "#!/bin/sh"),
        (EntryType::Link, "b/link", ".git/config"),
    ];
    assert!(place.unpack(&archive(&linked), ROOM).is_err());
    place.is_sound();
}

/// At another depth the same link would lead out.
#[test]
fn f16_a_hard_link_to_a_link_is_refused() {
    let place = Place::new();
    let members = [
        (EntryType::Symlink, "b/d/l", "../../x"),
        (EntryType::Link, "h", "b/d/l"),
    ];
    assert!(place.unpack(&archive(&members), ROOM).is_err());
    place.is_sound();
}

/// A kilobyte that says it is ten gibibytes.
fn sparse(size: u64) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_path("big").unwrap();
    header.set_mode(0o644);
    header.set_size(512);
    let gnu = header.as_gnu_mut().unwrap();
    octal(&mut gnu.sparse[0].offset, size - 512);
    octal(&mut gnu.sparse[0].numbytes, 512);
    octal(&mut gnu.realsize, size);
    header.set_cksum();
    let mut tar = Builder::new(Vec::new());
    tar.append(&header, &[b'x'; 512][..]).unwrap();
    tar.into_inner().unwrap()
}

fn octal(field: &mut [u8; 12], number: u64) {
    field.copy_from_slice(format!("{number:011o}\0").as_bytes());
}

#[test]
fn f16_a_bomb_of_holes_is_refused_before_it_is_written() {
    let place = Place::new();
    let error = place.unpack(&sparse(7 << 30), Limits::default()).unwrap_err();
    assert!(error.to_string().contains("more holes than bytes"), "{error}");
    assert_eq!(
        fs::read_dir(place.temp.path().join("deep/ws")).unwrap().count(),
        0
    );
    assert_eq!(
        place.unpack(&sparse(64 << 10), Limits::default()).unwrap().len(),
        1
    );
    let big = fs::metadata(place.temp.path().join("deep/ws/big")).unwrap();
    assert_eq!(big.len(), 64 << 10);
}

#[test]
fn f16_a_bomb_of_many_files_and_one_of_many_bytes_stop_at_the_cap() {
    let place = Place::new();
    let names: Vec<String> = (0..2000).map(|number| format!("f{number}")).collect();
    let many: Vec<(EntryType, &str, &str)> = names
        .iter()
        .map(|name| (EntryType::Regular, name.as_str(), ""))
        .collect();
    let error = place.unpack(&archive(&many), ROOM).unwrap_err();
    assert!(error.to_string().contains("too many files"), "{error}");
    let heavy = "x".repeat(300 << 10);
    let heavy: Vec<(EntryType, &str, &str)> = ["1", "2", "3", "4"]
        .map(|name| (EntryType::Regular, name, heavy.as_str()))
        .to_vec();
    let error = place.unpack(&archive(&heavy), ROOM).unwrap_err();
    assert!(error.to_string().contains("too many bytes"), "{error}");
    assert!(!place.temp.path().join("deep/ws/4").exists());
}

/// What builds leave: links within the tree, also up and down again from where they are.
#[test]
fn f16_links_that_stay_inside_come_back_as_they_were() {
    let place = Place::new();
    let members = [
        (EntryType::Regular, "node_modules/tsc/bin/tsc", "x"),
        (EntryType::Symlink, "node_modules/.bin/tsc", "../tsc/bin/tsc"),
        (EntryType::Symlink, "lib/libz.so", "libz.so.1"),
        (EntryType::Symlink, "current", "release-7/./lib"),
    ];
    place.unpack(&archive(&members), ROOM).unwrap();
    place.is_sound();
    let ws = place.temp.path().join("deep/ws");
    assert_eq!(fs::read(ws.join("node_modules/.bin/tsc")).unwrap(), b"x");
    let current = fs::read_link(ws.join("current")).unwrap();
    assert_eq!(current, Path::new("release-7/./lib"));
}

/// Each link alone looks harmless; together they would climb.
#[test]
fn f16_no_chain_of_links_climbs_out() {
    for members in [
        &[(EntryType::Symlink, "d", "."), (EntryType::Symlink, "d/up", "..")][..],
        &[
            (EntryType::Symlink, "b/d", ".."),
            (EntryType::Regular, "b/d/out", "ours"),
        ],
        &[
            (EntryType::Symlink, "b/top", ".."),
            (EntryType::Symlink, "out", "b/top/../a"),
        ],
        &[
            (EntryType::Directory, "b", ""),
            (EntryType::Symlink, "b/l", "../.."),
        ],
        &[
            (EntryType::Symlink, "l", "b/d/x"),
            (EntryType::Symlink, "b/d/x", "../../.."),
        ],
        &[
            (EntryType::Symlink, "l", "b"),
            (EntryType::Symlink, "b", "/"),
            (EntryType::Regular, "l/out", "ours"),
        ],
    ] {
        let place = Place::new();
        assert!(place.unpack(&archive(members), ROOM).is_err(), "{members:?}");
        place.is_sound();
    }
}

/// Somebody of that directory swaps it for a link out, and back, while an archive is written below it.
#[test]
fn f16_a_link_put_in_the_way_meanwhile_is_not_followed() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let place = Place::new();
    let ws = place.temp.path().join("deep/ws");
    let outside = tempfile::tempdir().unwrap();
    let (there, kept) = (ws.join("b"), ws.join("kept"));
    fs::create_dir(&there).unwrap();
    let names: Vec<String> = (0..40).map(|number| format!("b/d{number}/f")).collect();
    let members: Vec<(EntryType, &str, &str)> = names
        .iter()
        .map(|name| (EntryType::Regular, name.as_str(), "ours"))
        .collect();
    let bytes = archive(&members);
    let is_over = AtomicBool::new(false);
    let (mut rounds, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Whoever unpacks makes directories where there are none, so any of these may fail.
            while !is_over.load(Ordering::Relaxed) {
                fs::remove_dir_all(&kept).ok();
                fs::rename(&there, &kept).ok();
                std::os::unix::fs::symlink(outside.path(), &there).ok();
                std::thread::yield_now();
                fs::remove_file(&there).ok();
                fs::rename(&kept, &there).ok();
            }
        });
        while rounds < 100 || (refused < 10 && rounds < 20_000) {
            rounds += 1;
            refused += usize::from(place.unpack(&bytes, ROOM).is_err());
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(
        refused >= 10,
        "hardly anything was ever in the way: {refused} of {rounds}"
    );
}
