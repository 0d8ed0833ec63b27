//! Counters of a container's control group, version 1 or 2, read from the files of this machine: cheap enough to be
//! read often. Asks no engine.

use std::fs;
use std::path::{Path, PathBuf};

use super::Sample;

const ROOT: &str = "/sys/fs/cgroup";

/// Where the counters of one container are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cgroup {
    One { cpu: PathBuf, memory: PathBuf },
    Two(PathBuf),
}

impl Cgroup {
    /// The control group of a container with this first process, if it is one of this machine, and can be read.
    pub fn of(pid: i64, container: &str) -> Option<Self> {
        let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let found = find(&table, container)?;
        found.read().map(|_| found)
    }

    /// `None` once it is gone.
    pub fn read(&self) -> Option<Sample> {
        match self {
            Self::One { cpu, memory } => Some(Sample {
                cpu_nanos: number(&cpu.join("cpuacct.usage"))?,
                memory_bytes: in_use(memory, "memory.usage_in_bytes", "total_inactive_file")?,
            }),
            Self::Two(dir) => Some(Sample {
                cpu_nanos: word(&dir.join("cpu.stat"), "usage_usec")? * 1_000,
                memory_bytes: in_use(dir, "memory.current", "inactive_file")?,
            }),
        }
    }
}

/// From `/proc/<pid>/cgroup`, whose lines are `<id>:<controllers>:<path>`. A process of another machine or of another
/// container may have that number here: only a path that names the container counts.
fn find(table: &str, container: &str) -> Option<Cgroup> {
    let mut one = (None, None);
    let mut two = None;
    for line in table.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let Some(path) = up_to(path, container) else {
            continue;
        };
        let path = path.trim_start_matches('/');
        let has = |wanted: &str| controllers.split(',').any(|one| one == wanted);
        if controllers.is_empty() {
            two = Some(Path::new(ROOT).join(path));
        }
        if has("cpuacct") {
            one.0 = Some(Path::new(ROOT).join("cpuacct").join(path));
        }
        if has("memory") {
            one.1 = Some(Path::new(ROOT).join("memory").join(path));
        }
    }
    match one {
        (Some(cpu), Some(memory)) => Some(Cgroup::One { cpu, memory }),
        _ => two.map(Cgroup::Two),
    }
}

/// The part of a path down to the component that names the container: an engine may put its processes further down.
fn up_to<'a>(path: &'a str, container: &str) -> Option<&'a str> {
    let from = path.find(container)?;
    let end = path[from..].find('/').map_or(path.len(), |slash| from + slash);
    Some(&path[..end])
}

/// Memory in use, without the files that nobody used lately: what `docker stats` shows too.
fn in_use(dir: &Path, usage: &str, inactive: &str) -> Option<u64> {
    let inactive = word(&dir.join("memory.stat"), inactive).unwrap_or(0);
    Some(number(&dir.join(usage))?.saturating_sub(inactive))
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number behind `name` in a file of lines `name number`.
fn word(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(found, _)| *found == name)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef";

    #[test]
    fn groups_of_both_versions_are_found() {
        let table = format!("12:memory:/docker/{ID}\n4:cpu,cpuacct:/docker/{ID}\n0::/docker/{ID}\n");
        let one = Cgroup::One {
            cpu: format!("{ROOT}/cpuacct/docker/{ID}").into(),
            memory: format!("{ROOT}/memory/docker/{ID}").into(),
        };
        assert_eq!(find(&table, ID), Some(one));
        let table = format!("0::/system.slice/libpod-{ID}.scope/container\n");
        let two = format!("{ROOT}/system.slice/libpod-{ID}.scope");
        assert_eq!(find(&table, ID), Some(Cgroup::Two(two.into())));
    }

    #[test]
    fn a_stranger_with_that_number_is_not_measured() {
        assert_eq!(find("0::/user.slice/other\n", ID), None);
        assert_eq!(find("", ID), None);
        assert_eq!(find("nonsense", ID), None);
    }

    #[test]
    fn counters_of_version_two_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("cpu.stat", "nr_periods 0\nusage_usec 1500\nuser_usec 1000\n");
        write("memory.current", "5000\n");
        write("memory.stat", "anon 1\ninactive_file 2000\n");
        let group = Cgroup::Two(dir.path().to_owned());
        let sample = group.read().unwrap();
        assert_eq!((sample.cpu_nanos, sample.memory_bytes), (1_500_000, 3_000));
        dir.close().unwrap();
        assert_eq!(group.read(), None);
    }
}
