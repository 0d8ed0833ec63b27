//! Starts programs of the embedded Postgres: as its owner, out of reach of the terminal's Ctrl-C, and told to end when
//! this process dies in any way.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::owner::Owner;

/// Postgres rolls open transactions back and ends.
const WHEN_WE_DIE: Signal = Signal::SIGINT;

/// `setpriv` of util-linux: it can leave a single right to a user that is not root.
pub fn setpriv() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.push("/usr/bin".into());
    places
        .into_iter()
        .map(|dir| dir.join("setpriv"))
        .find(|file| file.is_file())
}

/// The command that runs `program` as `owner`, with stdout and stderr going to `log`.
pub fn command(owner: &Owner, program: &Path, log: &Path) -> io::Result<Command> {
    let out = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    let err = out.try_clone()?;
    let mut command = match owner {
        Owner::Ourselves => Command::new(program),
        Owner::Other {
            user,
            needs_passage: false,
        } => {
            let mut command = Command::new(program);
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
            command
        }
        Owner::Other {
            user,
            needs_passage: true,
        } => {
            let setpriv = setpriv().ok_or_else(|| io::Error::other("setpriv is gone"))?;
            let mut command = Command::new(setpriv);
            command
                .arg(format!("--reuid={}", user.uid))
                .arg(format!("--regid={}", user.gid))
                .args([
                    "--clear-groups",
                    "--inh-caps=+dac_read_search",
                    "--ambient-caps=+dac_read_search",
                ])
                .args(["--pdeathsig", signal_word()])
                .arg("--")
                .arg(program);
            command
        }
    };
    // A variable of the user's (PGDATA, PGPORT, LC_ALL…) must not lead it elsewhere.
    command
        .env_clear()
        .envs(kept_environment())
        .env("LC_ALL", "C")
        .env("TZ", "UTC");
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0);
    die_with_us(&mut command);
    Ok(command)
}

fn signal_word() -> &'static str {
    WHEN_WE_DIE.as_str().trim_start_matches("SIG")
}

fn kept_environment() -> Vec<(&'static str, std::ffi::OsString)> {
    ["PATH", "HOME", "TMPDIR"]
        .into_iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)))
        .collect()
}

/// Starts a command that lives as long as this process. The kernel signals a child when the *thread* that forked it
/// ends, so one thread forks and then waits for ever.
pub fn start(mut command: Command) -> io::Result<Child> {
    let (told, started) = mpsc::channel();
    std::thread::Builder::new()
        .name("dev-postgres".to_owned())
        .spawn(move || {
            if told.send(command.spawn()).is_ok() {
                loop {
                    std::thread::park();
                }
            }
        })?;
    started
        .recv()
        .map_err(|_| io::Error::other("the thread that starts Postgres is gone"))?
}

/// Asks the kernel for a signal to the child when we die.
#[expect(
    unsafe_code,
    reason = "pre_exec is the only place between fork and exec; prctl and getppid are signal-safe"
)]
fn die_with_us(command: &mut Command) {
    let parent = Pid::this();
    // SAFETY: only prctl and getppid run in the forked child; neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(WHEN_WE_DIE)?;
            // We may have died before the prctl; then no signal will ever come.
            if Pid::parent() == parent {
                Ok(())
            } else {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        });
    }
}

/// The last lines of a log, for an error message.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// A path as an argument `name=path`.
pub fn setting(name: &str, value: impl AsRef<OsStr>) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(name);
    text.push("=");
    text.push(value.as_ref());
    text
}
