//! The binary `qwexctl`: hands the arguments to the library and its exit code to the system.

fn main() -> std::process::ExitCode {
    qwexctl::start(std::env::args_os())
}
