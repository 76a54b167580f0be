//! Puts the version of the Pingora that is built against into the program, from the lock file.

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    let package = lock.split("[[package]]").find(|text| text.contains("name = \"pingora\"\n"));
    let version = package.and_then(|text| text.split("version = \"").nth(1)?.split('"').next());
    println!("cargo::rustc-env=PINGORA_VERSION={}", version.unwrap_or("unknown"));
}
