//! A new migration is part of the program: without this, only a changed `.rs` file would bring it in.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
