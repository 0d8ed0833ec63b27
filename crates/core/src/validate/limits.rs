//! The limits of a spec. What is above them fails late and unclearly on some backend, so it is refused
//! at the door.

/// Bytes of all elements of the command together.
pub const MAX_COMMAND_BYTES: usize = 64 * 1024;
/// Characters of an image reference.
pub const MAX_IMAGE_CHARS: usize = 512;
/// Bytes of one environment variable, name and value. Linux refuses to execute a program with one of
/// 128 KiB, after the image was pulled (kubernetes/kubernetes issues 30827 and 105863).
pub const MAX_VARIABLE_BYTES: usize = 64 * 1024;
/// Bytes of all environment variables together, names and values.
pub const MAX_ENV_BYTES: usize = 256 * 1024;
/// Bytes of a path (`PATH_MAX` of Linux).
pub const MAX_WORKING_DIR_BYTES: usize = 4096;
/// GPUs of one run.
pub const MAX_GPU: u32 = 1024;
/// Seconds of the longest timeout: 30 days.
pub const MAX_TIMEOUT_SECS: u64 = 30 * 24 * 3600;
/// Attempts after the first.
pub const MAX_RETRIES: u32 = 100;
/// Labels of a run.
pub const MAX_LABELS: usize = 32;
/// Bytes of the whole spec as JSON; an object in etcd must stay below 1.5 MiB.
pub const MAX_SPEC_BYTES: usize = 256 * 1024;
/// Mounts of one run.
pub const MAX_MOUNTS: usize = 64;
/// Published ports, ulimits, output globs of one run, each.
pub const MAX_LIST: usize = 64;
/// Characters of a network, a user or a service account.
pub const MAX_NAME_CHARS: usize = 253;
/// Processes of one run.
pub const MAX_PIDS: u32 = 4_194_304;
