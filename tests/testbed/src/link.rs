//! A network link between this machine and one namespaced process, which a test can cut like a cable: no RST, no FIN,
//! no ACK. That is what a proxy cannot play, because the kernel behind a proxy still acknowledges. Needs root and `ip`.

use std::net::Ipv4Addr;

use anyhow::Result;
use tokio::process::Command;

use crate::engine::output;
use crate::process::Process;

/// A veth pair; the kernel removes it with the namespace of the process.
#[derive(Debug)]
pub struct Link {
    here: String,
    there: Ipv4Addr,
}

impl Link {
    /// Lays a link to a process that was started with [`Spec::isolated`](crate::process::Spec::isolated).
    ///
    /// # Errors
    /// The process has no network namespace of its own, or `ip` refuses.
    pub(crate) async fn to(process: &Process) -> Result<Self> {
        let inside = process.first_inside()?.to_string();
        // Random, so that two test processes hardly ever choose the same; the kernel refuses a name that is taken.
        let [.., a, b, c, d, e, f] = uuid::Uuid::now_v7().into_bytes();
        let here = format!("qwb{}", hex::encode([a, b, c, d]));
        let [left, right] = [1, 2].map(|last| Ipv4Addr::new(10, 231, e, (f & 0b1111_1100) | last));
        let pair = [
            "link", "add", &here, "type", "veth", "peer", "name", "eth0", "netns", &inside,
        ];
        ip(None, &pair).await?;
        ip(None, &["addr", "add", &format!("{left}/30"), "dev", &here]).await?;
        ip(None, &["link", "set", &here, "up"]).await?;
        ip(
            Some(&inside),
            &["addr", "add", &format!("{right}/30"), "dev", "eth0"],
        )
        .await?;
        for device in ["lo", "eth0"] {
            ip(Some(&inside), &["link", "set", device, "up"]).await?;
        }
        Ok(Self { here, there: right })
    }

    /// The address of the far end.
    pub fn there(&self) -> Ipv4Addr {
        self.there
    }

    /// Cuts the link: packets of both directions vanish.
    ///
    /// # Errors
    /// The process behind the link is gone.
    pub async fn cut(&self) -> Result<()> {
        ip(None, &["link", "set", &self.here, "down"]).await
    }

    /// Mends a cut link; connections that outlived the cut go on.
    ///
    /// # Errors
    /// The process behind the link is gone.
    pub async fn mend(&self) -> Result<()> {
        ip(None, &["link", "set", &self.here, "up"]).await
    }
}

/// Runs `ip`, in the network namespace of a process where one is given.
async fn ip(inside: Option<&str>, arguments: &[&str]) -> Result<()> {
    let mut command = match inside {
        Some(pid) => {
            let mut nsenter = Command::new("nsenter");
            nsenter.args(["-n", "-t", pid, "ip"]);
            nsenter
        }
        None => Command::new("ip"),
    };
    command.args(arguments);
    output(command).await.map(drop)
}
