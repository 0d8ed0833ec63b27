//! What a test needs from the machine. A missing part is an error where `CI` is set; on a laptop the test is skipped
//! with a line on stderr that the test harness cannot swallow. Tests call [`require!`](crate::require!) first.

use std::io::Write;

use crate::process::find;

/// Something a test may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Root,
    Postgres,
    Docker,
    Podman,
    Sshd,
    /// `ip` and `nsenter`, for links to namespaces.
    Ip,
    Containerd,
    Go,
    Chromium,
}

impl Part {
    /// Why the part is not there and what would mend it; `None` when it is there.
    pub fn missing(self) -> Option<String> {
        let (programs, package): (&[&str], &str) = match self {
            Self::Root => return (!is_root()).then(|| "root is needed: run the tests as root".to_owned()),
            Self::Postgres if crate::postgres::binaries().is_some() => return None,
            Self::Postgres => {
                return Some("postgres is not installed: apt-get install postgresql".to_owned());
            }
            Self::Docker => (&["dockerd", "docker"], "docker.io"),
            Self::Podman => (&["podman", "runc"], "podman runc"),
            Self::Sshd => (&["sshd", "ssh", "ssh-keygen"], "openssh-server openssh-client"),
            Self::Ip => (&["ip", "nsenter"], "iproute2 util-linux"),
            Self::Containerd => (
                &["containerd", "ctr", "runc"],
                "containerd runc containernetworking-plugins",
            ),
            Self::Go => (&["go"], "golang-go (1.24 or newer)"),
            Self::Chromium => (&["chromium"], "chromium"),
        };
        let absent = programs.iter().find(|program| find(program).is_none())?;
        Some(format!("{absent} is not installed: apt-get install {package}"))
    }
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// Whether the test has to be skipped; tells it on stderr. Called by [`require!`](crate::require!).
///
/// # Panics
/// A part is missing and `CI` is set: there a skipped test would pass for a green one.
pub fn must_skip(parts: &[Part]) -> bool {
    skip_for(parts.iter().find_map(|part| part.missing()))
}

/// As [`must_skip`], for a part that says itself why it is missing.
///
/// # Panics
/// `missing` is given and `CI` is set.
pub fn skip_for(missing: Option<String>) -> bool {
    let Some(why) = missing else { return false };
    assert!(
        std::env::var_os("CI").is_none(),
        "{why} (CI is set, so nothing is skipped)"
    );
    let test = std::thread::current().name().unwrap_or("test").to_owned();
    // Written to the descriptor: the harness captures eprintln of a test that passes.
    writeln!(std::io::stderr(), "SKIPPED {test}: {why}").ok();
    true
}

/// What a skipped test returns.
pub trait Skipped {
    fn skipped() -> Self;
}

impl Skipped for () {
    fn skipped() -> Self {}
}

impl<E> Skipped for Result<(), E> {
    fn skipped() -> Self {
        Ok(())
    }
}

/// `require!(Postgres, Root);` at the top of a test: returns from it where a part is missing.
#[macro_export]
macro_rules! require {
    ($($part:ident),+ $(,)?) => {
        if $crate::require::must_skip(&[$($crate::require::Part::$part),+]) {
            return $crate::require::Skipped::skipped();
        }
    };
}
