//! Whether a command empties its own log. Its output goes to files, so that it outlives us; and who opens such a file anew, as
//! `> /dev/stderr` does, empties it. Nobody can keep that from happening, so it is looked for and written down.
//!
//! Called by the supervisor while the command runs; never touches the log itself.

use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use qwex_runner::durable::{Dir, Durability};

use crate::records;

/// Bytes at the begin of a log by which it is known.
const HEAD: u64 = 256;
/// Until the first look; each is twice as long after the begin as the one before.
const FIRST_LOOK: Duration = Duration::from_millis(5);

/// The logs of one command.
pub struct OwnLogs {
    logs: Vec<OwnLog>,
    begun: Instant,
}

struct OwnLog {
    stream: &'static str,
    /// The description that the command writes by, whose position is that of the last byte it wrote.
    written: File,
    read: File,
    /// The most bytes that the log ever had, as far as we saw.
    most: u64,
    head: Vec<u8>,
    noted: bool,
}

impl OwnLogs {
    /// Before the command has written anything.
    pub fn new(place: &Dir, written: &[(&'static str, &File)]) -> io::Result<Self> {
        let log = |(stream, written): &(&'static str, &File)| {
            Ok(OwnLog {
                stream,
                written: written.try_clone()?,
                read: place.open_file(&format!("{stream}.log"), OFlag::O_RDONLY)?,
                most: 0,
                head: Vec::new(),
                noted: false,
            })
        };
        Ok(Self {
            logs: written.iter().map(log).collect::<io::Result<_>>()?,
            begun: Instant::now(),
        })
    }

    /// Looks at each, and writes down in `dir` which was emptied.
    pub fn look(&mut self, dir: &Dir) {
        for log in self.logs.iter_mut().filter(|log| !log.noted) {
            let looked = log.is_emptied().and_then(|emptied| {
                if emptied {
                    log.noted = true;
                    dir.write(&records::emptied(log.stream), b"", Durability::Process)?;
                }
                Ok(())
            });
            if let Err(error) = looked {
                super::note(&format!("cannot look after {}.log: {error}", log.stream));
            }
        }
    }

    /// When it is worth looking again: often at the begin, because most commands are short.
    pub fn next_look(&self) -> Duration {
        self.begun.elapsed().max(FIRST_LOOK)
    }
}

impl OwnLog {
    fn is_emptied(&mut self) -> io::Result<bool> {
        let position = (&self.written).stream_position()?;
        let size = self.read.metadata()?.len();
        let mut head = vec![0; usize::try_from(size.min(HEAD)).unwrap_or_default()];
        let length = self.read.read_at(&mut head, 0)?;
        head.truncate(length);
        let emptied = size < self.most.max(position) || !head.starts_with(&self.head);
        self.most = size;
        self.head = head;
        Ok(emptied)
    }
}
