//! FP4: a TCP proxy before any TCP or unix target, with faults that are switched at run time: delay, black hole,
//! reset, half-close, cut after N bytes, slow drip, refuse. It counts connections and bytes and knows no protocol.
//!
//! A black hole here holds bytes back until it is lifted, as retransmission on a real link would; the kernel still
//! completes the handshake of new connections.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::ports;

/// Where the proxy forwards to.
#[derive(Debug, Clone)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl From<SocketAddr> for Target {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl From<PathBuf> for Target {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

/// What happens to the bytes of one direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Pass,
    /// Every byte arrives this much later; the rate stays.
    Delay(Duration),
    /// Nothing arrives until the fault is switched.
    BlackHole,
    /// `bytes` at a time, with a pause in between.
    Drip {
        bytes: usize,
        every: Duration,
    },
    /// Once this many bytes of the connection have passed in this direction, it ends. 0 ends it at once.
    CutAfter {
        bytes: u64,
        how: Cut,
    },
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// RST to the client, close to the target.
    Reset,
    /// FIN to both.
    Close,
    /// FIN in the direction of the fault only; the other one goes on.
    HalfClose,
}

/// The faults of both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Client to target.
    pub up: Fault,
    /// Target to client.
    pub down: Fault,
}

impl Faults {
    pub const NONE: Self = Self {
        up: Fault::Pass,
        down: Fault::Pass,
    };

    pub const fn up(up: Fault) -> Self {
        Self {
            up,
            down: Fault::Pass,
        }
    }

    pub const fn down(down: Fault) -> Self {
        Self {
            up: Fault::Pass,
            down,
        }
    }

    pub const fn both(fault: Fault) -> Self {
        Self {
            up: fault,
            down: fault,
        }
    }
}

/// What went through so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Accepted since the start.
    pub connections: u64,
    /// Of these, open now.
    pub open: u64,
    /// Bytes delivered to the target.
    pub up: u64,
    /// Bytes delivered to the client.
    pub down: u64,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    open: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

/// The control handle; the proxy ends, with every connection, when it is dropped.
#[derive(Debug)]
pub struct TcpProxy {
    addr: SocketAddr,
    refuse: watch::Sender<bool>,
    listening: watch::Receiver<bool>,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: Target,
    faults: watch::Sender<Faults>,
    next: Mutex<VecDeque<Faults>>,
    resets: watch::Sender<u64>,
    counters: Counters,
}

impl TcpProxy {
    /// Listens on a free loopback port. The target need not be there yet.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start(target: impl Into<Target>) -> Result<Self> {
        let (addr, listener) = ports::listen().await.context("bind the TCP proxy")?;
        let shared = Arc::new(Shared {
            target: target.into(),
            faults: watch::Sender::new(Faults::NONE),
            next: Mutex::default(),
            resets: watch::Sender::new(0),
            counters: Counters::default(),
        });
        let refuse = watch::Sender::new(false);
        let (told, listening) = watch::channel(true);
        let accept = accept(listener, refuse.subscribe(), told, shared.clone());
        let _task = AbortOnDropHandle::new(tokio::spawn(accept));
        Ok(Self {
            addr,
            refuse,
            listening,
            shared,
            _task,
        })
    }

    /// Where clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Switches the faults of all open and future connections.
    pub fn set(&self, faults: Faults) {
        self.shared.faults.send_replace(faults);
    }

    /// Gives the next accepted connection faults of its own for its whole life; can be called several times in a row.
    pub fn set_for_next(&self, faults: Faults) {
        self.shared
            .next
            .lock()
            .expect("nothing panics under this mutex")
            .push_back(faults);
    }

    /// RST to every open connection; new ones are not touched.
    pub fn reset_open(&self) {
        self.shared.resets.send_modify(|count| *count += 1);
    }

    /// Closes (or opens again) the listening socket, so that a connect is refused by the kernel. Returns when it is
    /// so; open connections live on.
    ///
    /// # Errors
    /// The port could not be bound again.
    pub async fn refuse(&self, refuse: bool) -> Result<()> {
        self.refuse.send_replace(refuse);
        let mut listening = self.listening.clone();
        listening
            .wait_for(|now| *now != refuse)
            .await
            .context("the TCP proxy ended")?;
        Ok(())
    }

    pub fn counts(&self) -> Counts {
        let counters = &self.shared.counters;
        Counts {
            connections: counters.connections.load(Ordering::Relaxed),
            open: counters.open.load(Ordering::Relaxed),
            up: counters.up.load(Ordering::Relaxed),
            down: counters.down.load(Ordering::Relaxed),
        }
    }
}

async fn accept(
    first: TcpListener,
    mut refuse: watch::Receiver<bool>,
    listening: watch::Sender<bool>,
    shared: Arc<Shared>,
) {
    let addr = first.local_addr().expect("a bound socket has an address");
    let mut listener = Some(first);
    // Owned here, so that they end with the proxy.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = refuse.changed() => {
                if changed.is_err() { return }
                listener = None;
                if !*refuse.borrow_and_update() {
                    let Ok(again) = TcpListener::bind(addr).await else { return };
                    listener = Some(again);
                }
                listening.send_replace(listener.is_some());
            }
            Ok((client, _)) = accepted => { connections.spawn(connection(client, shared.clone())); }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Counts a connection as open while it lives.
struct Open<'a>(&'a Counters);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(mut client: TcpStream, shared: Arc<Shared>) {
    shared.counters.connections.fetch_add(1, Ordering::Relaxed);
    shared.counters.open.fetch_add(1, Ordering::Relaxed);
    let _open = Open(&shared.counters);
    client.set_nodelay(true).ok();
    let own = shared
        .next
        .lock()
        .expect("nothing panics under this mutex")
        .pop_front();
    let faults = own.map_or_else(
        || shared.faults.subscribe(),
        |own| watch::Sender::new(own).subscribe(),
    );
    let ended = match &shared.target {
        Target::Tcp(addr) => match TcpStream::connect(addr).await {
            Ok(mut target) => {
                target.set_nodelay(true).ok();
                relay(client.split(), target.split(), faults, &shared).await
            }
            Err(_) => Cut::Reset,
        },
        Target::Unix(path) => match UnixStream::connect(path).await {
            Ok(mut target) => relay(client.split(), target.split(), faults, &shared).await,
            Err(_) => Cut::Reset,
        },
    };
    if ended == Cut::Reset {
        client.set_zero_linger().ok();
    }
}

/// Runs both directions until both are through, one cuts the connection, or all are reset.
async fn relay<R1, W1, R2, W2>(
    client: (R1, W1),
    target: (R2, W2),
    faults: watch::Receiver<Faults>,
    shared: &Shared,
) -> Cut
where
    R1: AsyncRead + Unpin,
    W1: AsyncWrite + Unpin,
    R2: AsyncRead + Unpin,
    W2: AsyncWrite + Unpin,
{
    let mut resets = shared.resets.subscribe();
    let counters = &shared.counters;
    let up = pump(
        client.0,
        target.1,
        Switch {
            faults: faults.clone(),
            up: true,
        },
        &counters.up,
    );
    let down = pump(target.0, client.1, Switch { faults, up: false }, &counters.down);
    tokio::pin!(up, down);
    let (mut up_open, mut down_open) = (true, true);
    while up_open || down_open {
        let ended = tokio::select! {
            ended = &mut up, if up_open => { up_open = false; ended }
            ended = &mut down, if down_open => { down_open = false; ended }
            _ = resets.changed() => Cut::Reset,
        };
        if ended != Cut::HalfClose {
            return ended;
        }
    }
    Cut::Close
}

/// The faults of one direction.
struct Switch {
    faults: watch::Receiver<Faults>,
    up: bool,
}

impl Switch {
    fn now(&self) -> Fault {
        let faults = self.faults.borrow();
        if self.up { faults.up } else { faults.down }
    }

    /// Ends when the faults are switched; never when there is nobody left to switch them.
    async fn switched(&mut self) {
        if self.faults.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// More than this waiting in one direction and the proxy stops reading, as a full pipe would.
const HELD: usize = 1 << 20;

/// Moves bytes of one direction. `HalfClose` means: all delivered and FIN sent.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut switch: Switch,
    counter: &AtomicU64,
) -> Cut {
    let mut queue: VecDeque<(Instant, Bytes)> = VecDeque::new();
    let mut buffer = BytesMut::new();
    let (mut held, mut sent, mut open, mut last) = (0usize, 0u64, true, Instant::now());
    loop {
        let fault = switch.now();
        if let Fault::CutAfter { bytes, how } = fault
            && sent >= bytes
        {
            to.shutdown().await.ok();
            return how;
        }
        if !open && queue.is_empty() && fault != Fault::BlackHole {
            to.shutdown().await.ok();
            return Cut::HalfClose;
        }
        let (due, most) = next_write(fault, queue.front().map(|(at, _)| *at), last, sent);
        buffer.reserve(16 << 10);
        tokio::select! {
            () = switch.switched() => {}
            () = at(due) => {
                let Some((_, chunk)) = queue.front_mut() else { continue };
                let part = chunk.split_to(chunk.len().min(most));
                if !chunk.has_remaining() { queue.pop_front(); }
                if to.write_all(&part).await.is_err() { return Cut::Reset }
                last = Instant::now();
                held -= part.len();
                sent += part.len() as u64;
                counter.fetch_add(part.len() as u64, Ordering::Relaxed);
            }
            read = from.read_buf(&mut buffer), if open && held < HELD => match read {
                Ok(0) => open = false,
                Ok(count) => { held += count; queue.push_back((Instant::now(), buffer.split().freeze())); }
                Err(_) => return Cut::Reset,
            }
        }
    }
}

/// When the oldest waiting chunk may go on (`None`: not now), and how much of it.
fn next_write(fault: Fault, arrived: Option<Instant>, last: Instant, sent: u64) -> (Option<Instant>, usize) {
    let Some(arrived) = arrived else { return (None, 0) };
    match fault {
        Fault::Pass => (Some(arrived), usize::MAX),
        Fault::Delay(delay) => (Some(arrived + delay), usize::MAX),
        Fault::BlackHole => (None, 0),
        Fault::Drip { bytes, every } => (Some(last + every), bytes.max(1)),
        Fault::CutAfter { bytes, .. } => (
            Some(arrived),
            usize::try_from(bytes.saturating_sub(sent)).unwrap_or(usize::MAX),
        ),
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
