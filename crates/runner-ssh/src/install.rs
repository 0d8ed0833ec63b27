//! Who supervises a run on the host: our own program, brought there once per version, or the script where
//! that cannot be.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use qwex_runner::RunnerError;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::config::{SshConfig, Supervisor};
use crate::serve::{Binary, Host, Served};
use crate::{control, error, scripts};

/// Who supervises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    Program {
        sum: String,
        subcommand: String,
    },
    /// And why not the program.
    Script {
        why: String,
    },
}

impl Mode {
    /// What the file `mode` of an attempt says.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Program { sum, subcommand } => format!("bin {sum} {subcommand}"),
            Self::Script { .. } => "sh".to_owned(),
        }
    }
}

/// The SHA-256 of the supervisor, reckoned once per version.
#[derive(Debug, Default)]
pub struct Sum(OnceCell<Option<String>>);

impl Sum {
    pub async fn get(&self, config: &SshConfig) -> Option<String> {
        let Supervisor::Program { path, .. } = &config.supervisor else {
            return None;
        };
        let reckon = || async {
            let (path, config) = (path.clone(), config.clone());
            let sum = tokio::task::spawn_blocking(move || sum_of(&config, &path)).await;
            match sum.map_err(io::Error::other).flatten() {
                Ok(sum) => Some(sum),
                Err(error) => {
                    tracing::warn!(%error, "cannot read the supervisor; hosts get the script");
                    None
                }
            }
        };
        self.0.get_or_init(reckon).await.clone()
    }
}

/// The sum as it was reckoned for the very same file before, else anew.
fn sum_of(config: &SshConfig, path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    let (device, inode, size) = (meta.dev(), meta.ino(), meta.size());
    let name = format!(
        "sum-{device}-{inode}-{size}-{}-{}",
        meta.mtime(),
        meta.mtime_nsec()
    );
    let kept = control::private_dir(config).ok().map(|dir| dir.join(name));
    let known = kept.as_ref().and_then(|kept| fs::read_to_string(kept).ok());
    if let Some(known) = known.filter(|known| known.len() == 64) {
        return Ok(known);
    }
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => break,
            read => hash.update(&block[..read]),
        }
    }
    let sum = hex::encode(hash.finalize());
    if let Some(kept) = kept {
        fs::write(kept, &sum).ok();
    }
    Ok(sum)
}

/// Decides who supervises, and brings the program where it is not there yet.
pub async fn mode(served: &Served) -> Result<Mode, RunnerError> {
    let host = served.host().await?;
    let config = served.config();
    let (Supervisor::Program { path, subcommand }, Some(sum)) = (&config.supervisor, served.sum().await)
    else {
        return script(&host, "the configuration says so");
    };
    if let Some(why) = foreign(&host) {
        return script(&host, &why);
    }
    let binary = match host.binary.clone() {
        Binary::Absent => bring_once(served, path, subcommand, &sum).await?,
        known => known,
    };
    match binary {
        Binary::Ready => Ok(Mode::Program {
            sum,
            subcommand: subcommand.clone(),
        }),
        Binary::Bad(why) => script(&host, &why),
        Binary::Absent => script(&host, "it could not be brought there"),
    }
}

fn script(host: &Host, why: &str) -> Result<Mode, RunnerError> {
    match &host.missing {
        None => Ok(Mode::Script { why: why.to_owned() }),
        Some(missing) => Err(RunnerError::Unsupported {
            message: format!(
                "{} cannot supervise runs: the program of qwex does not run there ({why}), and the script \
                 needs `{missing}`, which is not there; install it there (util-linux has it)",
                host.node
            ),
        }),
    }
}

/// Why our program is nothing for that machine.
pub fn foreign(host: &Host) -> Option<String> {
    let own = nix::sys::utsname::uname().ok()?;
    let (system, machine) = (own.sysname().to_string_lossy(), own.machine().to_string_lossy());
    (host.system != system || host.machine != machine).then(|| {
        format!(
            "it is a {} {}, this machine a {system} {machine}",
            host.system, host.machine
        )
    })
}

/// Brings the program unless another caller or another process of this machine has done so meanwhile.
async fn bring_once(
    served: &Served,
    path: &Path,
    subcommand: &str,
    sum: &str,
) -> Result<Binary, RunnerError> {
    let _ours = served.bringing.lock().await;
    let known = served.host().await?.binary;
    if known != Binary::Absent {
        return Ok(known);
    }
    let _turn = control::turn(served.config(), "bring").await;
    let known = served.look_again().await?.binary;
    if known != Binary::Absent {
        return Ok(known);
    }
    let brought = bring(served, path, subcommand, sum).await?;
    served.note(brought.clone()).await;
    Ok(brought)
}

/// Sends the program; what does not work out is told and the script takes its place.
async fn bring(served: &Served, path: &Path, subcommand: &str, sum: &str) -> Result<Binary, RunnerError> {
    let config = served.config();
    let [root, cache] = config.places();
    let line = scripts::install(&[&root, &cache, sum, subcommand]);
    let mut pipe = served.link.start(Instant::now(), &line, "").await?;
    let mut file = tokio::fs::File::open(path)
        .await
        .map_err(|error| RunnerError::Failed {
            message: format!("cannot read {}: {error}", path.display()),
        })?;
    if let Some(mut stdin) = pipe.stdin.take() {
        // A host that stops reading says why.
        tokio::io::copy(&mut file, &mut stdin).await.ok();
        stdin.shutdown().await.ok();
    }
    let said = pipe.line().await;
    pipe.end(config).await?;
    let said = said.map_err(|error| error::broken(config, &error))?;
    Ok(match said.trim() {
        "binary ready" => Binary::Ready,
        said => {
            let why = said
                .trim_start_matches("err ")
                .trim_start_matches("binary bad ")
                .to_owned();
            tracing::info!(host = %config.host, %why, "the supervisor cannot be used there; the script is");
            Binary::Bad(why)
        }
    })
}
