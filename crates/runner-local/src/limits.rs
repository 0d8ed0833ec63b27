//! What the processes of an attempt may take of this machine: a control group of its own where one can be made (version
//! 1 or 2), else a limit that each process has for itself. Made by the supervisor before it starts the command, gone
//! when nothing of the attempt is left. It says what holds, because a limit that nobody keeps is worse than none.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::oom::count;

/// The period of a cpu quota, in microseconds.
const PERIOD: u64 = 100_000;
/// The shortest quota that a kernel takes.
const SHORTEST: u64 = 1_000;
/// How long a group may take to be empty after its last process was reaped.
const EMPTYING: Duration = Duration::from_millis(5);
const EMPTIED: u32 = 20;

/// What a spec asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    pub memory_bytes: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_millis: Option<u64>,
}

/// What holds an attempt. Its groups are removed when it is dropped.
#[derive(Debug, Default)]
pub struct Held {
    groups: Vec<PathBuf>,
    /// Counts processes that were killed for memory.
    kills: Option<PathBuf>,
    /// Most address space of each process, in bytes.
    pub address_space: Option<u64>,
    /// For people: what holds, and what does not.
    pub words: Vec<String>,
}

impl Held {
    /// Makes what can be made. `name` is the attempt's object.
    #[must_use]
    pub fn make(name: &str, wanted: Wanted) -> Self {
        let mut held = Self::default();
        if let Some(bytes) = wanted.memory_bytes {
            held.memory(name, bytes);
        }
        if let Some(millis) = wanted.cpu_millis {
            held.cpu(name, millis);
        }
        held
    }

    /// Where a process writes `0` to enter.
    ///
    /// # Errors
    /// A group cannot be entered.
    pub fn doors(&self) -> io::Result<Vec<File>> {
        let open = |group: &PathBuf| File::options().write(true).open(group.join("cgroup.procs"));
        self.groups.iter().map(open).collect()
    }

    /// Whether the group killed for memory.
    #[must_use]
    pub fn has_killed(&self) -> bool {
        let kills = self.kills.as_ref().and_then(|file| count(file, "oom_kill"));
        kills.is_some_and(|kills| kills > 0)
    }

    fn memory(&mut self, name: &str, bytes: u64) {
        let made = group("memory", name).and_then(|group| {
            let [limit, swap, kills] = match group.version {
                Version::One => [
                    "memory.limit_in_bytes",
                    "memory.memsw.limit_in_bytes",
                    "memory.oom_control",
                ],
                Version::Two => ["memory.max", "memory.swap.max", "memory.events"],
            };
            let no_swap = match group.version {
                Version::One => bytes,
                Version::Two => 0,
            };
            group.set(limit, &bytes.to_string())?;
            // A kernel may have no accounting of swap, and then mostly no swap either.
            group.set(swap, &no_swap.to_string()).ok();
            self.kills = Some(group.dir.join(kills));
            self.enter(group);
            Ok(())
        });
        self.words.push(match made {
            Ok(()) => format!("a control group holds memory at {bytes} bytes"),
            Err(error) => {
                self.address_space = Some(bytes);
                format!("no control group can be made ({error}): each process has at most {bytes} bytes of addresses")
            }
        });
    }

    fn cpu(&mut self, name: &str, millis: u64) {
        let quota = (millis * PERIOD / 1000).max(SHORTEST);
        let made = group("cpu", name).and_then(|group| {
            match group.version {
                Version::One => {
                    group.set("cpu.cfs_period_us", &PERIOD.to_string())?;
                    group.set("cpu.cfs_quota_us", &quota.to_string())?;
                }
                Version::Two => group.set("cpu.max", &format!("{quota} {PERIOD}"))?,
            }
            self.enter(group);
            Ok(())
        });
        self.words.push(match made {
            Ok(()) => format!("a control group holds cpu at {millis}m"),
            Err(error) => format!("no control group can be made ({error}): the cpu limit is not kept"),
        });
    }

    fn enter(&mut self, group: Group) {
        if !self.groups.contains(&group.dir) {
            self.groups.push(group.dir);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for group in &self.groups {
            for _ in 0..EMPTIED {
                match fs::remove_dir(group) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(EMPTYING);
                    }
                    Ok(()) | Err(_) => break,
                }
            }
        }
    }
}

/// Versions of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

struct Group {
    dir: PathBuf,
    version: Version,
}

impl Group {
    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        let set = fs::write(self.dir.join(file), value);
        set.map_err(|error| io::Error::new(error.kind(), format!("{file}: {error}")))
    }
}

/// A group below our own in which this controller works. One that a supervisor before us left is taken over.
fn group(controller: &str, name: &str) -> io::Result<Group> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let (version, parent) =
        place(&own, controller).ok_or_else(|| io::Error::other("this machine has no control groups"))?;
    let dir = parent.join(name);
    match fs::create_dir(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let works = version == Version::One || dir.join(format!("{controller}.max")).exists();
    if !works {
        fs::remove_dir(&dir).ok();
        return Err(io::Error::other(format!(
            "the controller {controller} is not handed down to {}",
            parent.display()
        )));
    }
    Ok(Group { dir, version })
}

/// Where our own group of a controller is, by the lines `<id>:<controllers>:<path>`.
fn place(own: &str, controller: &str) -> Option<(Version, PathBuf)> {
    let lines = own.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        Some((controllers, path.trim_start_matches('/')))
    });
    let root = Path::new("/sys/fs/cgroup");
    let mut two = None;
    for (controllers, path) in lines {
        if controllers.is_empty() {
            two = Some((Version::Two, root.join(path)));
        } else if controllers.split(',').any(|known| known == controller) {
            return Some((Version::One, root.join(controllers).join(path)));
        }
    }
    two
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_group_of_both_versions() {
        let one = "4:memory:/a\n2:cpu,cpuacct:/\n0::/b\n";
        assert_eq!(
            place(one, "memory"),
            Some((Version::One, "/sys/fs/cgroup/memory/a".into()))
        );
        assert_eq!(
            place(one, "cpu"),
            Some((Version::One, "/sys/fs/cgroup/cpu,cpuacct".into()))
        );
        let two = "0::/user.slice\n";
        assert_eq!(
            place(two, "memory"),
            Some((Version::Two, "/sys/fs/cgroup/user.slice".into()))
        );
        assert_eq!(place("", "memory"), None);
    }
}
