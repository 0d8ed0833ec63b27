//! Links `qwexctl` at a fixed address, as Go's linker does with `kubectl` and `nomad`: each start is spared some 37,000
//! relocations and the 150 pages they dirty, and a plain run starts this program twice. The stack, the heap and the
//! libraries are placed at random all the same.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
