//! `forestage-agent`. All it does is in the library, where fuzz targets can reach its readers.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::main()
}
