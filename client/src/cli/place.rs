//! `run`: which files go along, and what only some backends have.

use clap::{Args, ValueHint};
use qwex_core::{Mount, MountKind};

use super::run::among;
use super::values::Pair;

/// Which machine, and which files of this one.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Place")]
pub struct PlaceArgs {
    /// SSH host as in your ssh config, or address of the engine
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Context of your kubeconfig
    #[arg(long, value_name = "NAME", conflicts_with = "host")]
    pub kube_context: Option<String>,
    /// Kubernetes namespace
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Directory the command works in [default: this one]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub workspace: Option<std::path::PathBuf>,
    /// The command sees no files of this machine
    #[arg(long, conflicts_with = "workspace")]
    pub no_workspace: bool,
    /// Send the workspace to the cluster too; an ssh host gets it anyway
    #[arg(long, conflicts_with = "no_workspace")]
    pub send: bool,
    /// Files to bring back after the end, repeatable: globs below the workspace
    #[arg(long, value_name = "GLOB")]
    pub outputs: Vec<String>,
    /// Run a python command as it is, not through uv
    #[arg(long)]
    pub no_uv: bool,
}

/// What containers have.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Container")]
pub struct ContainerArgs {
    /// Mount, repeatable: kind=bind,source=/data,target=/data[,ro][,size=1Gi], or /data:/data[:ro]
    #[arg(long = "mount", value_name = "MOUNT", value_parser = mount)]
    pub mounts: Vec<Mount>,
    /// none, bridge, host or the name of a network
    #[arg(long, value_name = "NETWORK")]
    pub network: Option<String>,
    /// Published port, repeatable: [address:]port:port[/udp]
    #[arg(long = "publish", value_name = "PORTS")]
    pub ports: Vec<String>,
    /// Who it runs as inside: uid[:gid] or a name
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Limit of the process, repeatable: nofile=1024[:2048]
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub ulimits: Vec<Pair>,
    /// Most processes at a time
    #[arg(long, value_name = "N")]
    pub pids: Option<u32>,
    /// Kubernetes service account
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<String>,
}

/// Reads a mount in the long form, or in the short one that engines have.
fn mount(text: &str) -> Result<Mount, String> {
    let mut mount = Mount {
        kind: MountKind::Bind,
        source: None,
        target: String::new(),
        read_only: false,
        size: None,
    };
    if !text.contains('=') {
        let mut parts = text.split(':');
        mount.source = parts.next().map(str::to_owned);
        mount.target = parts.next().unwrap_or_default().to_owned();
        mount.read_only = match parts.next() {
            None | Some("rw") => false,
            Some("ro") => true,
            Some(other) => return Err(format!("{other:?} is neither ro nor rw")),
        };
        if !mount
            .source
            .as_deref()
            .is_some_and(|source| source.starts_with('/'))
        {
            mount.kind = MountKind::Volume;
        }
        return whole(mount, text);
    }
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key {
            "kind" | "type" => {
                mount.kind = MountKind::from_word(value)
                    .ok_or_else(|| among(value, MountKind::ALL.iter().map(|kind| kind.as_str())))?;
            }
            "source" | "src" => mount.source = Some(value.to_owned()),
            "target" | "dst" => value.clone_into(&mut mount.target),
            "size" => mount.size = Some(value.to_owned()),
            "ro" | "readonly" | "read_only" => mount.read_only = matches!(value, "" | "true"),
            _ => return Err(among(key, ["kind", "source", "target", "size", "ro"].into_iter())),
        }
    }
    whole(mount, text)
}

fn whole(mount: Mount, text: &str) -> Result<Mount, String> {
    if mount.target.is_empty() {
        return Err(format!(
            "{text:?} has no target; write it like /data:/data:ro or kind=pvc,source=data,target=/data"
        ));
    }
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_in_both_forms() {
        let short = mount("/data:/in:ro").unwrap();
        assert_eq!((short.kind, short.read_only), (MountKind::Bind, true));
        assert_eq!(mount("cache:/cache").unwrap().kind, MountKind::Volume);
        let long = mount("kind=pvc,source=data,target=/data,ro").unwrap();
        assert_eq!(long.kind, MountKind::Pvc);
        assert_eq!(long.source.as_deref(), Some("data"));
        assert!(long.read_only);
        assert!(mount("kind=tape,target=/x").unwrap_err().contains("pvc"));
        assert!(mount("/data").is_err());
        assert!(mount("/data:/in:rx").is_err());
    }
}
