//! Who a process is: boot id, pid and start time together never name two processes. A pid alone does,
//! so every signal goes through a pidfd after the identity was checked.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::sys::signal::Signal;
use qwex_core::{EpisodeId, ObjectUid};
use serde::{Deserialize, Serialize};

use crate::sys;

/// Identity of a process, written `<boot id>/<pid>/<start ticks>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProcessId {
    pub boot_id: String,
    pub pid: i32,
    /// Start time in clock ticks of 10 ms since boot (`/proc/<pid>/stat`, field 22). A pid comes round
    /// again only after all others were given out, which takes longer than a tick.
    pub start_ticks: u64,
}

/// What became of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Alive,
    /// It ended; whoever has its number now is another.
    Dead,
    /// The machine was started anew since.
    OtherBoot,
    /// It is of another machine or container than this one, which sees the files of it and not its processes.
    Elsewhere,
}

/// From where the processes of a machine can be seen: its name, and the namespace of process numbers. Several machines
/// and containers may share the files of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub machine: String,
    /// As `/proc/self/ns/pid` reads; `None` where it does not.
    pub pid_namespace: Option<String>,
}

/// The namespace that a machine has from its start to its end; any other goes with its container.
const FIRST_NAMESPACE: &str = "pid:[4026531836]";

impl Place {
    /// That of this process.
    pub fn own() -> &'static Self {
        static OWN: OnceLock<Place> = OnceLock::new();
        OWN.get_or_init(|| {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let namespace = std::fs::read_link("/proc/self/ns/pid").ok();
            Self {
                machine: plain(name.trim()).to_owned(),
                pid_namespace: namespace.and_then(|path| path.into_os_string().into_string().ok()),
            }
        })
    }

    /// Whether this is no container, as far as process numbers go.
    #[must_use]
    pub fn is_the_machine(&self) -> bool {
        self.pid_namespace.as_deref() == Some(FIRST_NAMESPACE)
    }

    /// What became of a process of `there`, as it can be told from here.
    #[must_use]
    pub fn life_of(&self, process: &ProcessId, there: &Self) -> Life {
        if self.is_blind_for(process, there, may_have_processes) {
            Life::Elsewhere
        } else {
            process.life()
        }
    }

    /// A name alone does not make another machine, because machines are renamed, nor does a namespace, because a container
    /// that is started anew has another; but the machine itself sees whether there is anything left in it, and keeps its
    /// name where a container bears it too. `is_used`: whether a namespace may have processes.
    fn is_blind_for(&self, process: &ProcessId, there: &Self, is_used: impl Fn(&str) -> bool) -> bool {
        let renamed = there.machine != self.machine;
        if process.boot_id != boot_id() {
            return renamed;
        }
        match (&there.pid_namespace, &self.pid_namespace) {
            (Some(theirs), Some(ours)) if theirs != ours => match ours.as_str() {
                FIRST_NAMESPACE => is_used(theirs),
                _ => renamed || theirs == FIRST_NAMESPACE,
            },
            (Some(_) | None, _) => false,
        }
    }
}

/// Whether anything may run in a namespace of process numbers below this one; only who sees all processes can deny it.
fn may_have_processes(namespace: &str) -> bool {
    static WITNESSES: Witnesses = Witnesses(Mutex::new(BTreeMap::new()));
    namespace_of("1").is_err() || WITNESSES.may_have_processes(namespace, numbers)
}

/// A process by which each namespace was last found in use, or may be.
///
/// A record holds the number that its supervisor has within, which nobody out here knows it by, and the kernel lists nowhere
/// what is in a namespace: one process of it has to be looked for among all. It is then the only one that is looked at
/// until it ends, and as the first that was made it mostly ends with the namespace.
struct Witnesses(Mutex<BTreeMap<String, String>>);

impl Witnesses {
    /// `all`: the numbers of all processes, or none where they cannot be known.
    fn may_have_processes(&self, namespace: &str, all: impl FnOnce() -> Option<Vec<String>>) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known
            .get(namespace)
            .is_some_and(|pid| is_in(pid, namespace) != Some(false))
        {
            return true;
        }
        let Some(pids) = all() else { return true };
        let mut hidden = None;
        let found = pids.into_iter().find(|pid| match is_in(pid, namespace) {
            Some(is_in) => is_in,
            None => {
                hidden.get_or_insert_with(|| pid.clone());
                false
            }
        });
        match found.or(hidden) {
            Some(pid) => {
                known.insert(namespace.to_owned(), pid);
                true
            }
            None => {
                known.remove(namespace);
                false
            }
        }
    }
}

fn namespace_of(pid: &str) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/pid"))
}

/// `None` where that is hidden from us.
fn is_in(pid: &str, namespace: &str) -> Option<bool> {
    match namespace_of(pid) {
        Ok(found) => Some(found.as_os_str() == namespace && runs(pid)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        // It has ended meanwhile.
        Err(_) => Some(false),
    }
}

/// Whether it has not ended; one that only waits to be reaped has.
fn runs(pid: &str) -> bool {
    let stat = pid.parse().ok().and_then(Stat::read);
    stat.is_some_and(|stat| !stat.is_over())
}

/// The numbers of all processes, in the order of the numbers.
fn numbers() -> Option<Vec<String>> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Some(
        names
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
            .collect(),
    )
}

/// A name that any reader of our records reads, also one that is a shell.
fn plain(name: &str) -> &str {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.chars().all(is_plain) {
        name
    } else {
        "unnamed"
    }
}

/// Why a string names no process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not `<boot id>/<pid>/<start ticks>`")]
pub struct NotAProcess(String);

impl ProcessId {
    /// The process that has this number now; `None` if there is none or it only waits to be reaped.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid).filter(|stat| !stat.is_over())?;
        Some(Self {
            boot_id: boot_id().to_owned(),
            pid,
            start_ticks: stat.start_ticks,
        })
    }

    /// This very process.
    pub fn own() -> io::Result<Self> {
        let pid = nix::unistd::getpid().as_raw();
        Self::of(pid).ok_or_else(|| io::Error::other("/proc shows nothing of this process; is it mounted?"))
    }

    #[must_use]
    pub fn life(&self) -> Life {
        if self.boot_id != boot_id() {
            return Life::OtherBoot;
        }
        match Stat::read(self.pid) {
            Some(stat) if stat.start_ticks == self.start_ticks && !stat.is_over() => Life::Alive,
            Some(_) | None => Life::Dead,
        }
    }

    /// Sends a signal to this process and to no other; `false` if it is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        if self.boot_id != boot_id() {
            return Ok(false);
        }
        let pidfd = match sys::pidfd_open(self.pid) {
            Ok(pidfd) => pidfd,
            Err(error) if is_gone(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        // The pidfd holds on to whoever has the number now; only then it is worth asking who that is.
        if self.life() != Life::Alive {
            return Ok(false);
        }
        match sys::pidfd_send_signal(&pidfd, signal as i32) {
            Ok(()) => Ok(true),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    #[must_use]
    pub fn uid(&self) -> ObjectUid {
        ObjectUid(self.to_string())
    }

    #[must_use]
    pub fn episode(&self) -> EpisodeId {
        EpisodeId(self.to_string())
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::ESRCH)
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.boot_id, self.pid, self.start_ticks)
    }
}

impl FromStr for ProcessId {
    type Err = NotAProcess;

    fn from_str(text: &str) -> Result<Self, NotAProcess> {
        let bad = || NotAProcess(text.to_owned());
        let mut parts = text.split('/');
        let (Some(boot_id), Some(pid), Some(ticks), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        // Zero and negative numbers mean whole groups to the kernel.
        let pid = pid.parse().ok().filter(|pid: &i32| *pid > 0).ok_or_else(bad)?;
        Ok(Self {
            boot_id: boot_id.to_owned(),
            pid,
            start_ticks: ticks.parse().map_err(|_| bad())?,
        })
    }
}

impl TryFrom<String> for ProcessId {
    type Error = NotAProcess;
    fn try_from(text: String) -> Result<Self, NotAProcess> {
        text.parse()
    }
}

impl From<ProcessId> for String {
    fn from(id: ProcessId) -> Self {
        id.to_string()
    }
}

/// One line of `/proc/<pid>/stat`, as far as it is needed.
#[derive(Debug, Clone)]
pub struct Stat {
    pub pid: i32,
    pub state: char,
    pub parent: i32,
    pub group: i32,
    pub start_ticks: u64,
}

impl Stat {
    #[must_use]
    pub fn read(pid: i32) -> Option<Self> {
        let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(pid, &String::from_utf8_lossy(&text))
    }

    /// The program's name is in parentheses and may hold spaces and parentheses itself.
    fn parse(pid: i32, text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            pid,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }

    /// A zombie runs nothing any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Changes with every start of the machine.
pub fn boot_id() -> &'static str {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    BOOT_ID.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_or_else(|_| "unknown-boot".to_owned(), |id| id.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_name_with_parentheses() {
        let line = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        let stat = Stat::parse(7, line).unwrap();
        assert_eq!(
            (stat.state, stat.parent, stat.group, stat.start_ticks),
            ('S', 1, 7, 4242)
        );
    }

    #[test]
    fn knows_itself_and_reads_what_it_writes() {
        let own = ProcessId::own().unwrap();
        assert_eq!(own.life(), Life::Alive);
        assert_eq!(own.to_string().parse::<ProcessId>().unwrap(), own);
        for bad in ["", "b/1", "b/0/1", "b/-1/1", "b/1/x", "b/1/1/1"] {
            assert!(bad.parse::<ProcessId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_another_machine_or_container_is_elsewhere() {
        let own = ProcessId::own().unwrap();
        let before = ProcessId {
            boot_id: "0b5b2a66-0000-0000-0000-000000000000".to_owned(),
            ..own.clone()
        };
        let place = |machine: &str, namespace: Option<&str>| Place {
            machine: machine.to_owned(),
            pid_namespace: namespace.map(str::to_owned),
        };
        let inside = Some("pid:[4026532000]");
        let outside = Some(FIRST_NAMESPACE);
        let other = Some("pid:[4026532001]");
        for (process, there, here, blind) in [
            (&own, place("a", inside), place("a", inside), false),
            (&own, place("renamed", inside), place("a", inside), false),
            (&own, place("a", None), place("b", inside), false),
            (&own, place("a", inside), place("b", outside), true),
            // A container that shares the network of its machine bears its name.
            (&own, place("a", inside), place("a", outside), true),
            (&own, place("a", inside), place("b", other), true),
            (&own, place("a", outside), place("a", inside), true),
            (&before, place("a", inside), place("a", outside), false),
            (&before, place("a", outside), place("b", outside), true),
        ] {
            let found = here.is_blind_for(process, &there, |_| true);
            assert_eq!(found, blind, "{there:?} from {here:?}");
        }
        for name in ["a", "b"] {
            let there = place(name, inside);
            let is_blind = place("a", outside).is_blind_for(&own, &there, |_| false);
            assert!(!is_blind, "the machine sees that nothing of {name} is left");
        }
        // A container that was started again under its name: what ran in it went with its namespace.
        let gone = ProcessId {
            start_ticks: 1,
            ..own
        };
        let life = place("a", Some("pid:[4026532001]")).life_of(&gone, &place("a", inside));
        assert_eq!(life, Life::Dead);
    }

    /// Whatever becomes of the test.
    struct Killed(std::process::Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    #[test]
    fn a_namespace_in_use_is_looked_for_once_and_its_end_is_seen() {
        let mut container = std::process::Command::new("unshare");
        container.args(["--pid", "--fork", "--kill-child", "sleep", "600"]);
        let mut container = Killed(container.spawn().unwrap());
        let inside = format!("/proc/{}/ns/pid_for_children", container.0.id());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let namespace = loop {
            assert!(std::time::Instant::now() < deadline, "no namespace");
            let ended = container.0.try_wait().unwrap();
            assert_eq!(ended, None, "no namespace can be made; run the tests as root");
            // Whose link cannot be read before it has its first process.
            match std::fs::read_link(&inside) {
                Ok(found) if found != std::fs::read_link("/proc/self/ns/pid").unwrap() => {
                    break found.into_os_string().into_string().unwrap();
                }
                Ok(_) | Err(_) => std::thread::yield_now(),
            }
        };
        let is_inside = |pid: &String| is_in(pid, &namespace) == Some(true);
        while !numbers().unwrap().iter().any(is_inside) {
            assert!(std::time::Instant::now() < deadline, "nothing runs in it");
        }
        let scans = std::cell::Cell::new(0);
        let all = || {
            scans.set(scans.get() + 1);
            numbers()
        };
        let witnesses = Witnesses(Mutex::default());
        for _ in 0..100 {
            assert!(witnesses.may_have_processes(&namespace, all));
        }
        assert_eq!(scans.get(), 1, "the process that was found is asked alone");
        let first = witnesses.0.lock().unwrap()[&namespace].clone();
        drop(container);
        while witnesses.0.lock().unwrap().get(&namespace) == Some(&first) {
            assert!(std::time::Instant::now() < deadline, "its end is not seen");
            witnesses.may_have_processes(&namespace, all);
        }
        // Another one is left that hides from us, if any.
        let left = witnesses.0.lock().unwrap().get(&namespace).cloned();
        assert!(left.is_none_or(|pid| is_in(&pid, &namespace).is_none()));
        // Who cannot look says nothing.
        assert!(witnesses.may_have_processes(&namespace, || None));
    }

    #[test]
    fn g01_a_stranger_with_the_same_number_gets_no_signal() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let real = ProcessId::of(pid).unwrap();
        let earlier = ProcessId {
            start_ticks: real.start_ticks - 1,
            ..real.clone()
        };
        let before_reboot = ProcessId {
            boot_id: "0b5b2a66-0000-0000-0000-000000000000".to_owned(),
            ..real.clone()
        };
        assert!(!earlier.signal(Signal::SIGKILL).unwrap());
        assert!(!before_reboot.signal(Signal::SIGKILL).unwrap());
        assert_eq!(before_reboot.life(), Life::OtherBoot);
        assert_eq!(earlier.life(), Life::Dead);
        assert_eq!(real.life(), Life::Alive);
        assert!(real.signal(Signal::SIGKILL).unwrap());
        child.wait().unwrap();
        assert!(!real.signal(Signal::SIGKILL).unwrap());
    }
}
