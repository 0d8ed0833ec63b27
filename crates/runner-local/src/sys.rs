//! The system calls that no safe wrapper in our dependencies offers: pidfd, wait4, and what a child does
//! between fork and exec. The only file
//! with unsafe code; it decides nothing.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, Signal};

/// A child that ended and was taken off the process table.
#[derive(Debug)]
pub struct Reaped {
    pub pid: i32,
    pub status: ExitStatus,
    pub used: Used,
}

/// What processes used: each with the children it waited for itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Of all of them, user and system.
    pub cpu: Duration,
    /// The most memory that the largest of them ever held.
    pub max_rss_bytes: u64,
}

impl Used {
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            max_rss_bytes: self.max_rss_bytes.max(other.max_rss_bytes),
        }
    }

    fn of(usage: &libc::rusage) -> Self {
        let time = |time: libc::timeval| {
            let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
            seconds + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
        };
        let kibibytes = u64::try_from(usage.ru_maxrss).unwrap_or(0);
        Self {
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            max_rss_bytes: kibibytes.saturating_mul(1024),
        }
    }
}

/// Lets a command start as a program expects to: leader of its own session and process group, with no
/// signal blocked or ignored (either lasts through exec, whoever set it); in the control groups behind `doors`, and with
/// so many bytes of addresses.
#[expect(
    unsafe_code,
    reason = "pre_exec is the only place between fork and exec; what is called there is signal-safe"
)]
pub fn own_session(command: &mut Command, doors: Vec<File>, address_space: Option<u64>) {
    let in_child = move || {
        nix::unistd::setsid()?;
        for door in &doors {
            nix::unistd::write(door, b"0")?;
        }
        if let Some(bytes) = address_space {
            setrlimit(Resource::RLIMIT_AS, bytes, bytes)?;
        }
        for signal in Signal::iterator() {
            // SAFETY: the default action is no code of ours. KILL and STOP refuse, and need no reset.
            unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }.ok();
        }
        SigSet::empty().thread_set_mask()?;
        Ok(())
    };
    // SAFETY: the closure only makes system calls; it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(in_child);
    }
}

/// Opens a file descriptor that names one process for good, whoever gets its number later.
#[expect(unsafe_code, reason = "pidfd_open has no safe wrapper among our dependencies")]
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to exactly the process behind a pidfd.
#[expect(
    unsafe_code,
    reason = "pidfd_send_signal has no safe wrapper among our dependencies"
)]
pub fn pidfd_send_signal(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open and a null siginfo is allowed.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Takes one ended child off the process table, any child; `None` if none has ended or none is left.
#[expect(
    unsafe_code,
    reason = "waitpid of nix fails on real-time signals, and the status is then lost"
)]
pub fn reap_any() -> io::Result<Option<Reaped>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are valid for writes for the length of the call.
    let pid = unsafe { libc::wait4(-1, &mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    if pid < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ECHILD) => Ok(None),
            _ => Err(error),
        };
    }
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: all-zero is a valid rusage, and the kernel filled it in.
    let usage = unsafe { usage.assume_init() };
    Ok(Some(Reaped {
        pid,
        status: ExitStatus::from_raw(status),
        used: Used::of(&usage),
    }))
}
