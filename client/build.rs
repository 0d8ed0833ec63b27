//! Links `qwexctl` at a fixed address, as Go's linker does with `kubectl` and `nomad`: each start is spared some 37,000
//! relocations and the 150 pages they dirty, and a plain run starts this program twice. The stack, the heap and the
//! libraries are placed at random all the same. And it takes the unwinder into the program, as `-static-libgcc` does: one
//! library less to find, map and bind.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo:rustc-link-arg-bins=-no-pie");
        link_unwinder();
    }
}

/// The standard library asks for `libgcc_s` by name, so a script of that name leads the linker to the archives.
fn link_unwinder() {
    let Some(place) = std::env::var_os("OUT_DIR").map(std::path::PathBuf::from) else {
        return;
    };
    if std::fs::write(place.join("libgcc_s.so"), "GROUP ( -lgcc_eh -lgcc )\n").is_ok() {
        println!("cargo:rustc-link-search=native={}", place.display());
    }
}
