//! The shell scripts that run on hosts, as one line for a login shell each.

use crate::words::quote;

const PRELUDE: &str = include_str!("script/prelude.sh");
const SERVE: &str = include_str!("script/serve.sh");
const SUPERVISE: &str = include_str!("script/supervise.sh");
const INSTALL: &str = include_str!("script/install.sh");
const RECEIVE: &str = include_str!("script/receive.sh");
const FIND: &str = include_str!("script/find.sh");
const FETCH: &str = include_str!("script/fetch.sh");

/// The first line of every script of ours, behind whatever the login shell says.
pub const GO: &str = "qwex go";

/// Answers requests; carries the script that supervises.
#[must_use]
pub fn serve() -> String {
    let supervise = format!("{PRELUDE}{SUPERVISE}");
    let carried = format!("supervise_script() {{ cat <<\"QWEX_END\"\n{supervise}QWEX_END\n}}\n");
    line(&format!("{carried}{SERVE}"), &[])
}

#[must_use]
pub fn install(arguments: &[&str]) -> String {
    line(INSTALL, arguments)
}

#[must_use]
pub fn receive(arguments: &[&str]) -> String {
    line(RECEIVE, arguments)
}

#[must_use]
pub fn find(arguments: &[&str]) -> String {
    line(FIND, arguments)
}

#[must_use]
pub fn fetch(arguments: &[&str]) -> String {
    line(FETCH, arguments)
}

/// Arguments are encoded words and names of ours, so that no login shell changes them.
fn line(script: &str, arguments: &[&str]) -> String {
    let begun = format!("{PRELUDE}say \"{GO}\"\n{script}");
    let mut line = format!("exec sh -c {} qwex", quote(&without_comments(&begun)));
    for argument in arguments {
        line.push(' ');
        line.push_str(&quote(argument));
    }
    line
}

/// Scripts travel with each connection; what people read in them stays here.
fn without_comments(script: &str) -> String {
    let kept = script.lines().filter(|line| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#')
    });
    kept.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fish undoes a doubled backslash within single quotes; other shells do not.
    #[test]
    fn every_login_shell_reads_the_same() {
        for script in [PRELUDE, SERVE, SUPERVISE, INSTALL, RECEIVE, FIND, FETCH] {
            assert!(!script.contains('\''));
            assert!(!script.contains("\\\\"));
        }
    }

    /// Every holder dies with the lock, so that all that wait see the same dead holder and break it.
    #[test]
    fn a_lock_whose_holder_died_passes_to_one_alone() {
        let (taking, _) = RECEIVE.split_once("(umask").unwrap();
        let hold =
            "lock\nmkdir inside 2>/dev/null || echo two >> two\nsleep 0.01\nrmdir inside\ntrap - EXIT\n";
        let script = format!("{PRELUDE}{taking}{hold}");
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().display().to_string();
        let start = |number: i32| {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &script, "qwex", &root, &root, "key", "-"]);
            shell.arg(number.to_string()).spawn().unwrap()
        };
        let shells: Vec<_> = (0..40).map(start).collect();
        for mut shell in shells {
            assert!(shell.wait().unwrap().success());
        }
        let kept = temp.path().join("workspace/key");
        assert!(kept.join("lock").is_symlink(), "the last one died with it too");
        assert!(!kept.join("two").exists(), "two held it at once");
        assert!(!kept.join("breaking").is_symlink());
    }
}
