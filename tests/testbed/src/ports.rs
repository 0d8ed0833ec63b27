//! Free TCP ports on 127.0.0.1 for the parts of the testbed.
//!
//! Binding port 0 and closing it again hands the same number to the next asker, and outgoing connections take it too.
//! So numbers come from below the ephemeral range, and a locked file per number keeps two test processes apart; the
//! kernel drops the file lock with the process, however it ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Mutex;

const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;
/// Most ports that are tried for one listener.
const BINDS: usize = 8;

/// Held until the process ends: a part may be stopped and started again on its port.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A loopback port that nobody listens on and that no other testbed process will be given.
///
/// # Errors
/// The directory of lock files cannot be written, or every port of the range is taken.
pub fn free() -> io::Result<u16> {
    let dir = directory()?;
    let mut held = HELD
        .lock()
        .map_err(|_| io::Error::other("a thread died while it took a port"))?;
    let span = u32::from(LAST - FIRST);
    let start = std::process::id().wrapping_mul(97) + u32::try_from(held.len()).unwrap_or(0);
    for step in 0..span {
        let offset = u16::try_from(start.wrapping_add(step) % span).expect("less than the span");
        let port = FIRST + offset;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(port.to_string()))?;
        if file.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            held.push(file);
            return Ok(port);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        "no free port between 20000 and 32000",
    ))
}

/// [`free`] as an address on 127.0.0.1.
///
/// # Errors
/// As [`free`].
pub fn free_addr() -> io::Result<SocketAddr> {
    Ok((Ipv4Addr::LOCALHOST, free()?).into())
}

/// Listens on a free loopback port. A part that knows nothing of the locked files may take a port between the look at it
/// and the bind; then it is another one.
///
/// # Errors
/// As [`free`], or the port cannot be bound.
pub async fn listen() -> io::Result<(SocketAddr, tokio::net::TcpListener)> {
    for _ in 1..BINDS {
        let addr = free_addr()?;
        match tokio::net::TcpListener::bind(addr).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound.map(|listener| (addr, listener)),
        }
    }
    let addr = free_addr()?;
    Ok((addr, tokio::net::TcpListener::bind(addr).await?))
}

fn directory() -> io::Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("qwex-testbed-ports-{}", nix::unistd::Uid::effective()));
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: Vec<u16> = (0..50).map(|_| free().unwrap()).collect();
        let distinct: std::collections::HashSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), ports.len());
    }

    #[test]
    fn a_given_port_can_be_bound() {
        TcpListener::bind(free_addr().unwrap()).unwrap();
    }
}
