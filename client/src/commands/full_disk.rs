//! What a command of this machine cannot tell itself: that its own words, and its files, found no room on the disk. Asked
//! after a run of this machine that failed, by `why` and by whoever waited for it.

use std::path::Path;

use nix::sys::statvfs::statvfs;
use qwex_core::RunId;

use crate::direct::Direct;

/// Less than this is no room: a log grows in pieces of some kilobytes.
const ROOM: u64 = 64 * 1024;

/// Why the log of a run may lack the reason of its failure, and what to do; `None`: there is room.
pub fn trouble(direct: &Direct, id: RunId) -> Option<(String, String)> {
    let is_here = direct.placed(id).ok()?.backend == "local";
    (is_here && room(direct.path())? < ROOM).then(|| {
        let place = direct.path().display();
        let what =
            format!("the disk that holds {place} is full, so what the command wrote may have been lost");
        (what, format!("make room there, then: `qwexctl rerun {id}`"))
    })
}

/// In bytes; `None`: nobody knows. Some file systems tell nothing but zeros.
fn room(path: &Path) -> Option<u64> {
    let told = statvfs(path).ok().filter(|told| told.blocks() > 0)?;
    Some(told.blocks_available().saturating_mul(told.fragment_size()))
}
