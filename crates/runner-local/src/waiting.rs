//! A supervisor that is started while its work is still being written, and waits for the word to begin. So its program
//! starts beside the writes and syncs, not after them: that is half of what a plain run costs.
//!
//! Used by whoever records a run and submits it in one go. Nothing of the run happens before the word; without one, the
//! supervisor ends and leaves nothing.

use std::io::{self, Read, Write};
use std::process::{Child, Stdio};
use std::sync::Arc;

use qwex_runner::Key;

use crate::backend::{Inner, LocalBackend};

/// The last argument of a supervisor that waits.
pub const WAIT: &str = "wait";
const WORD: &[u8] = b"begin\n";

/// A supervisor that waits for its work. Dropped, it ends.
#[derive(Debug)]
pub struct Waiting {
    inner: Arc<Inner>,
    key: Key,
    child: Option<Child>,
}

impl LocalBackend {
    /// Starts the supervisor of work that is submitted in a moment; the program must take [`WAIT`] after the directory.
    ///
    /// # Errors
    /// No process can be started.
    pub fn start_waiting(&self, key: Key) -> io::Result<Waiting> {
        let dir = self.inner.config.layout.path(self.inner.root.path(), key);
        let mut command = self.inner.supervisor_command(key, &dir)?;
        command.arg(WAIT).stdin(Stdio::piped()).stderr(Stdio::null());
        Ok(Waiting {
            inner: Arc::clone(&self.inner),
            key,
            child: Some(command.spawn()?),
        })
    }
}

impl Waiting {
    /// Says the word; `None`: it is for other work, or is gone.
    pub(crate) fn begin(mut self, key: Key) -> Option<Child> {
        if self.key != key {
            return None;
        }
        let told = self.child.as_mut()?.stdin.take()?.write_all(WORD);
        told.ok().and_then(|()| self.child.take())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            self.inner.look_after(child);
        }
    }
}

/// Waits for the word on stdin; whether it came.
pub(crate) fn is_told_to_begin() -> io::Result<bool> {
    let mut word = Vec::new();
    io::stdin().lock().read_to_end(&mut word)?;
    Ok(word == WORD)
}
