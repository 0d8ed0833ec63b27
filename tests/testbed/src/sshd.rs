//! A private sshd with throwaway keys: the "remote host" of tests, on a loopback port, or at the far end of a [`Link`]
//! that can be cut. For gentler faults put a [`TcpProxy`](crate::tcp_proxy::TcpProxy) before it and take
//! [`Sshd::config_through`].

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::link::Link;
use crate::process::{Process, Spec, find};
use crate::{engine, ports, scratch};

const LIMIT: Duration = Duration::from_secs(30);
/// What clients call the host.
const NAME: &str = "testbed";
/// In a network namespace of its own no port is taken.
const SSH_PORT: u16 = 22;

/// A running sshd. Dropping it kills it; started by root, with everything that was started through it.
#[derive(Debug)]
pub struct Sshd {
    dir: PathBuf,
    addr: SocketAddr,
    user: String,
    process: Process,
    link: Option<Link>,
}

impl Sshd {
    /// Starts one that lets the current user in, with a fresh key only.
    ///
    /// # Errors
    /// sshd is missing, or does not come up within 30 s.
    pub async fn start() -> Result<Self> {
        Self::start_with("").await
    }

    /// As [`Sshd::start`], with lines of `sshd_config` that count before our own, such as `MaxSessions 10`.
    ///
    /// # Errors
    /// As [`Sshd::start`], or sshd does not take the lines.
    pub async fn start_with(lines: &str) -> Result<Self> {
        let (dir, port) = (prepare().await?, ports::free()?);
        let own = server_config(&dir, "127.0.0.1", port);
        fs::write(dir.join("sshd_config"), format!("{lines}\n{own}"))?;
        let process = serve(&dir, false)?;
        Self::ready(dir, (Ipv4Addr::LOCALHOST, port).into(), process, None).await
    }

    /// As [`Sshd::start`], but in a network namespace of its own, reached only by [`Sshd::link`]. Needs root.
    ///
    /// # Errors
    /// As [`Sshd::start`], or no link can be laid.
    pub async fn start_behind_link() -> Result<Self> {
        let dir = prepare().await?;
        fs::write(dir.join("sshd_config"), server_config(&dir, "0.0.0.0", SSH_PORT))?;
        let process = serve(&dir, true)?;
        process
            .ready(LIMIT, || async { process.first_inside().ok() })
            .await?;
        let link = Link::to(&process).await?;
        Self::ready(dir, (link.there(), SSH_PORT).into(), process, Some(link)).await
    }

    async fn ready(dir: PathBuf, addr: SocketAddr, process: Process, link: Option<Link>) -> Result<Self> {
        let user = User::from_uid(Uid::effective())?
            .context("the current user has no name")?
            .name;
        let this = Self {
            dir,
            addr,
            user,
            process,
            link,
        };
        fs::write(this.config(), this.client_config(addr))?;
        this.process
            .ready(LIMIT, || async { greets(addr).await.ok() })
            .await?;
        Ok(this)
    }

    /// The link to it, where it was started behind one.
    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The user to log in as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Private key of that user.
    pub fn key(&self) -> PathBuf {
        self.dir.join("client_key")
    }

    /// A known-hosts file with the right key for the host alias `testbed`.
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.join("known_hosts")
    }

    /// A client configuration (`ssh -F`) in which the host is called `testbed`.
    pub fn config(&self) -> PathBuf {
        self.dir.join("ssh_config")
    }

    /// As [`Sshd::config`], but by way of another address, such as that of a proxy.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn config_through(&self, addr: SocketAddr) -> Result<PathBuf> {
        let file = self.dir.join(format!("ssh_config_{}", addr.port()));
        fs::write(&file, self.client_config(addr))?;
        Ok(file)
    }

    /// Runs a command on the host; its stdout.
    ///
    /// # Errors
    /// It fails; the error holds its stderr.
    pub async fn run(&self, command: &str) -> Result<String> {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.config()).args([NAME, command]);
        engine::output(ssh).await
    }

    /// Stops the server. Sessions end with it where it was started by root.
    ///
    /// # Errors
    /// It does not end within 30 s; it is killed then.
    pub async fn stop(self) -> Result<()> {
        self.process.stop(Signal::SIGTERM, LIMIT).await.map(drop)
    }

    fn client_config(&self, addr: SocketAddr) -> String {
        format!(
            "Host {NAME}\n  HostName {}\n  Port {}\n  User {}\n  HostKeyAlias {NAME}\n  IdentityFile {}\n  \
             UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  \
             IdentitiesOnly yes\n  IdentityAgent none\n  BatchMode yes\n",
            addr.ip(),
            addr.port(),
            self.user,
            self.key().display(),
            self.known_hosts().display(),
        )
    }
}

/// A directory with fresh keys for host and client.
async fn prepare() -> Result<PathBuf> {
    let dir = scratch::dir("sshd")?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
    for key in ["host_key", "client_key"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-C", NAME, "-f"])
            .arg(dir.join(key));
        engine::output(keygen).await?;
    }
    fs::copy(dir.join("client_key.pub"), dir.join("authorized_keys"))?;
    let host_key = fs::read_to_string(dir.join("host_key.pub"))?;
    fs::write(dir.join("known_hosts"), format!("{NAME} {host_key}"))?;
    Ok(dir)
}

fn server_config(dir: &Path, listen: &str, port: u16) -> String {
    let dir = dir.display();
    format!(
        "ListenAddress {listen}\nPort {port}\nHostKey {dir}/host_key\nPidFile none\nUsePAM no\n\
         AuthorizedKeysFile {dir}/authorized_keys\nStrictModes no\nPermitRootLogin prohibit-password\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no\nMaxStartups 100\nMaxSessions 100\n\
         LogLevel VERBOSE\nSubsystem sftp internal-sftp\n"
    )
}

/// Root's sshd insists on a directory below /run, which is empty in its namespace. What the user of this machine has
/// its shells do at each login (it may take seconds, and wait for a lock) is none of the host that is tested.
const FIRST_OF_SSHD: &str = r#"
for file in .bashrc .bash_profile .profile; do
    if [ -e "$HOME/$file" ]; then mount --bind /dev/null "$HOME/$file" || exit 1; fi
done
mkdir /run/sshd && exec "$@""#;

fn serve(dir: &Path, isolated: bool) -> Result<Process> {
    let program = find("sshd").context("sshd is not installed: apt-get install openssh-server")?;
    let spec = |first: &Path| Spec::new(first, dir.join("sshd.log"));
    let options = |spec: Spec| spec.args(["-D", "-e", "-f"]).arg(dir.join("sshd_config"));
    if isolated || Uid::effective().is_root() {
        let shell = spec(Path::new("sh"))
            .args(["-c", FIRST_OF_SSHD, "sh"])
            .arg(program);
        let spec = options(shell).namespaced();
        if isolated {
            spec.isolated().start()
        } else {
            spec.start()
        }
    } else {
        options(spec(&program)).start()
    }
}

/// Whether the server sends its banner.
async fn greets(addr: SocketAddr) -> Result<()> {
    let mut banner = [0; 4];
    TcpStream::connect(addr).await?.read_exact(&mut banner).await?;
    anyhow::ensure!(&banner == b"SSH-", "not an SSH server");
    Ok(())
}
