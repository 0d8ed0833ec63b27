//! The binary `qwexcloud`: hands the command line to [`qwexcloud::cli`].

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    qwexcloud::cli::main()
}
