//! Nothing outlives the process that started a cluster, not even when it is killed with SIGKILL.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use qwex_testbed::{Cluster, require, wait};
use serde_json::{Value, json};

use crate::objects::{LIMIT, phase, run};

#[tokio::test]
async fn a_killed_starter_leaves_no_process_mount_namespace_or_file() -> Result<()> {
    require!(Root, Containerd, Go);
    let bed = tempfile::Builder::new().prefix("qwexbed-").tempdir_in("/tmp")?;
    let mut starter = Command::new(env!("CARGO_BIN_EXE_qwex-testbed"))
        .arg("--dir")
        .arg(bed.path())
        .args(["up", "--foreground", "--only", "alpha"])
        .stdout(Stdio::null())
        .spawn()?;
    let dir = bed.path().join("alpha");
    wait::until(LIMIT, "the cluster to be up", || async {
        bed.path().join("env").exists().then_some(())
    })
    .await?;
    let pods = run(&Cluster::attach(&dir)?, &["sleep", "1000"], json!({})).await?;
    phase(&pods, "Running").await?;
    let traces = Traces::of(starter.id(), &dir)?;
    traces.assert_telling();

    starter.kill()?;
    starter.wait()?;
    wait::until_ok(LIMIT, "all traces to be gone", || async { traces.gone() }).await?;
    Ok(())
}

/// What a running cluster shows on this machine.
struct Traces {
    /// Process number and start time, so that a reused number is not taken for the process.
    processes: HashMap<u32, String>,
    network_namespaces: HashSet<PathBuf>,
    places: Vec<PathBuf>,
    dir: PathBuf,
}

impl Traces {
    fn of(starter: u32, dir: &Path) -> Result<Self> {
        let mut processes = HashMap::new();
        let mut open = vec![starter];
        while let Some(parent) = open.pop() {
            open.extend(children(parent));
            processes.extend(started_at(parent).map(|at| (parent, at)));
        }
        let own = fs::read_link("/proc/self/ns/net")?;
        let network_namespaces = processes
            .keys()
            .filter_map(|pid| net(*pid))
            .filter(|net| *net != own)
            .collect();
        let cni: Value = serde_json::from_str(&fs::read_to_string(dir.join("cni/10-bridge.conflist"))?)?;
        let bridge = cni["plugins"][0]["bridge"]
            .as_str()
            .context("no bridge is named")?;
        let kubelet: Value = serde_json::from_str(&fs::read_to_string(dir.join("kubelet.yaml"))?)?;
        let cgroup = kubelet["cgroupRoot"]
            .as_str()
            .context("no control group is named")?
            .trim_start_matches('/');
        let hierarchies = fs::read_dir("/sys/fs/cgroup")?
            .flatten()
            .map(|entry| entry.path().join(cgroup));
        let mut places: Vec<PathBuf> = hierarchies.filter(|group| group.exists()).collect();
        places.extend([PathBuf::from("/sys/class/net").join(bridge), dir.to_owned()]);
        Ok(Self {
            processes,
            network_namespaces,
            places,
            dir: dir.to_owned(),
        })
    }

    /// A test that looks for nothing would always pass.
    fn assert_telling(&self) {
        let sleeps = |pid: &&u32| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\x001000\0"))
        };
        assert!(
            self.processes.len() > 8,
            "only {} processes",
            self.processes.len()
        );
        assert!(
            self.processes.keys().any(|pid| sleeps(&pid)),
            "the pod's process is not among them"
        );
        assert!(
            !self.network_namespaces.is_empty(),
            "the pod has no network of its own"
        );
        assert!(
            self.places.len() > 2 && self.places.iter().all(|place| place.exists()),
            "{:?}",
            self.places
        );
    }

    fn gone(&self) -> Result<(), String> {
        let alive: Vec<_> = self
            .processes
            .iter()
            .filter(|(pid, at)| started_at(**pid).as_ref() == Some(at))
            .collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts: Vec<_> = mounts
            .lines()
            .filter(|line| line.contains(&*self.dir.to_string_lossy()))
            .collect();
        let nets: Vec<_> = all_processes()
            .filter_map(net)
            .filter(|net| self.network_namespaces.contains(net))
            .collect();
        let places: Vec<_> = self.places.iter().filter(|place| place.exists()).collect();
        match alive.is_empty() && mounts.is_empty() && nets.is_empty() && places.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "processes {alive:?}, mounts {mounts:?}, networks {nets:?}, places {places:?}"
            )),
        }
    }
}

fn all_processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn net(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The 22nd field of `stat`, counted after the name, which may hold spaces; a zombie counts as gone.
fn started_at(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}
