//! As whom the command runs in its container, so that what it writes into the workspace belongs to who asked.

use nix::unistd::{Gid, Uid};

/// What is known of both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    /// The engine itself runs without root: its root is the caller.
    pub rootless: bool,
}

impl Caller {
    /// `named`, else whoever this process runs as.
    pub fn new(named: Option<(u32, u32)>, rootless: bool) -> Self {
        let this = (Uid::effective().as_raw(), Gid::effective().as_raw());
        let (uid, gid) = named.unwrap_or(this);
        Self { uid, gid, rootless }
    }
}

/// The spec's own user; else the caller where a workspace is mounted; else the image's.
pub fn user(asked: Option<&str>, workspace: bool, caller: Caller) -> Option<String> {
    match (asked, workspace) {
        (Some(user), _) => Some(user.to_owned()),
        (None, false) => None,
        // Of all numbers in there only root's is the caller's outside, on both engines and without any subordinate ids.
        (None, true) if caller.rootless => Some("0:0".to_owned()),
        (None, true) => Some(format!("{}:{}", caller.uid, caller.gid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h06_outputs_belong_to_the_caller() {
        let caller = |rootless| Caller {
            uid: 1000,
            gid: 100,
            rootless,
        };
        let who = |asked, workspace, rootless| user(asked, workspace, caller(rootless)).unwrap_or_default();
        assert_eq!(who(None, true, false), "1000:100");
        assert_eq!(who(None, true, true), "0:0");
        assert_eq!(who(None, false, true), "");
        assert_eq!(who(None, false, false), "");
        assert_eq!(who(Some("app"), true, true), "app");
    }
}
