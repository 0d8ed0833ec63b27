//! The supervisor as a program of its own: `qwex-test-supervisor supervise <dir>`. The tests start it
//! where qwexctl and qwexcloud start themselves.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.as_slice() {
        [word, dir] if word == "supervise" => qwex_runner_local::supervise::main(Path::new(dir)),
        other => {
            eprintln!("usage: qwex-test-supervisor supervise DIR, not {other:?}");
            ExitCode::from(2)
        }
    }
}
