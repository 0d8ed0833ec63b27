//! Ctrl-C in the foreground: the first detaches and says how to come back, a second within two seconds offers to
//! cancel; with `--cancel-on-interrupt` the first cancels.

use std::time::Duration;

use qwex_core::RunId;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{CliError, Exit};
use crate::progress::{ask, may_ask, talk};

/// How long a second Ctrl-C is waited for.
const SECOND: Duration = Duration::from_secs(2);
/// 128 + SIGINT.
pub const INTERRUPTED: u8 = 130;

/// SIGINT and SIGTERM of this process from here on.
pub struct Interrupts {
    int: Signal,
    term: Signal,
}

impl Interrupts {
    pub fn listen() -> Result<Self, CliError> {
        let open = |kind| {
            signal(kind).map_err(|error| {
                CliError::new(Exit::Failure, "signals cannot be received here")
                    .why(error.to_string())
                    .fix("look at the limits of open files: ulimit -n")
            })
        };
        Ok(Self {
            int: open(SignalKind::interrupt())?,
            term: open(SignalKind::terminate())?,
        })
    }

    /// Waits for one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }

    /// After the first one: says how to come back, and finds out whether the run shall be cancelled.
    pub async fn detach(&mut self, id: RunId) -> bool {
        self.leave(ways_back(id), format!("Cancel run {id}?")).await
    }

    /// Says how to come back, and asks the question if there is another interrupt soon.
    pub async fn leave(&mut self, mut ways: String, question: String) -> bool {
        let asks = may_ask();
        if asks {
            ways.push_str("Ctrl-C again within 2 s to cancel it.\n");
        }
        talk(&ways);
        if !asks || tokio::time::timeout(SECOND, self.next()).await.is_err() {
            return false;
        }
        let answer = tokio::task::spawn_blocking(move || ask(&question));
        tokio::select! {
            yes = answer => yes.unwrap_or(false),
            () = self.next() => false,
        }
    }
}

fn ways_back(id: RunId) -> String {
    format!(
        "\nqwex: detached; the run goes on\n  come back   qwexctl attach {id}\n  read        qwexctl logs -f {id}\n  cancel      qwexctl cancel {id}\n"
    )
}
