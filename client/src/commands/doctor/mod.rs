//! `doctor`: what works here, and what to do about what does not. `--fix` does what is safe and can be undone.

mod backends;
mod check;
mod clock;
mod files;
mod records;
mod server;

use super::Done;
use super::session::Session;
use crate::cli::DoctorArgs;
use crate::output::{Format, escape::one_line, print};
use check::{Check, Verdict};

pub async fn doctor(session: &Session, args: &DoctorArgs) -> Done {
    let mut checks = vec![version()];
    checks.extend(files::checks(session));
    checks.extend(records::checks());
    checks.extend(backends::checks().await);
    checks.extend(server::checks(session).await);
    if args.fix {
        for check in &mut checks {
            check.do_mend(|what| session.progress.stage("fix", what));
        }
    }
    let mut out = session.out;
    if args.json {
        out.format = Format::Json;
    }
    out.list(checks.iter().map(|check| (check, check)))?;
    if out.for_people() {
        let advice = advice(&checks);
        if !advice.is_empty() {
            print(&format!("\nWHAT TO DO\n{advice}"))?;
        }
    }
    let failed = checks.iter().any(|check| check.verdict == Verdict::Failed);
    Ok(u8::from(failed))
}

fn version() -> Check {
    Check::new(
        "qwexctl",
        Verdict::Ok,
        format!("version {}", env!("CARGO_PKG_VERSION")),
    )
}

/// What is left to be done by people, and what `--fix` would do.
fn advice(checks: &[Check]) -> String {
    let mut lines = Vec::new();
    for check in checks {
        let mut line = |words: &str| lines.push(format!("{}: {}\n", check.check, one_line(words)));
        match &check.mend {
            Some(mend) if mend.done => continue,
            Some(mend) => match &mend.error {
                Some(error) => line(&format!("{} did not work: {error}", mend.what)),
                None => line(&format!("`qwexctl doctor --fix` does it: {}", mend.what)),
            },
            None => {}
        }
        check.fix.iter().for_each(|fix| line(fix));
    }
    lines.concat()
}
