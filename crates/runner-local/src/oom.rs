//! Evidence that the kernel killed for memory: counters that only grow. Read before the command starts
//! and after it was killed.

use std::fs;
use std::path::PathBuf;

/// Kills for memory so far, in our own cgroup and on the whole machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OomKills {
    pub cgroup: u64,
    pub machine: u64,
}

impl OomKills {
    #[must_use]
    pub fn now() -> Self {
        Self {
            cgroup: cgroup_files()
                .iter()
                .filter_map(|file| count(file, "oom_kill"))
                .sum(),
            machine: count(&PathBuf::from("/proc/vmstat"), "oom_kill").unwrap_or(0),
        }
    }

    /// A sentence if somebody was killed for memory between `self` and `later`.
    #[must_use]
    pub fn evidence(self, later: Self) -> Option<&'static str> {
        if later.cgroup > self.cgroup {
            Some("its control group killed for memory")
        } else if later.machine > self.machine {
            Some("the machine had no memory left and the kernel killed for it")
        } else {
            None
        }
    }
}

/// The files of our own cgroup, version 2 and version 1, that count kills.
fn cgroup_files() -> Vec<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    own.lines().filter_map(cgroup_file).collect()
}

/// One line of `/proc/self/cgroup`: `<id>:<controllers>:<path>`.
fn cgroup_file(line: &str) -> Option<PathBuf> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let path = path.trim_start_matches('/');
    if controllers.is_empty() {
        return Some(PathBuf::from("/sys/fs/cgroup").join(path).join("memory.events"));
    }
    controllers
        .split(',')
        .any(|controller| controller == "memory")
        .then(|| {
            PathBuf::from("/sys/fs/cgroup/memory")
                .join(path)
                .join("memory.oom_control")
        })
}

/// The number behind `word` in a file of lines `word number`.
pub fn count(file: &PathBuf, word: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let (name, number) = line.split_once(' ')?;
        (name == word).then(|| number.trim().parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_file_of_both_versions() {
        let v2 = cgroup_file("0::/user/run").unwrap();
        assert_eq!(v2, PathBuf::from("/sys/fs/cgroup/user/run/memory.events"));
        let v1 = cgroup_file("7:cpu,memory:/a").unwrap();
        assert_eq!(v1, PathBuf::from("/sys/fs/cgroup/memory/a/memory.oom_control"));
        assert_eq!(cgroup_file("9:name=systemd:/"), None);
    }

    #[test]
    fn a_counter_that_stands_is_no_evidence() {
        let before = OomKills {
            cgroup: 1,
            machine: 4,
        };
        assert_eq!(before.evidence(before), None);
        let after = OomKills {
            cgroup: 1,
            machine: 5,
        };
        assert!(before.evidence(after).is_some());
    }
}
