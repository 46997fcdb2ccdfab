//! The program: TLS first, then the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Two providers are in the dependency graph, so rustls cannot choose by itself. A provider
    // that is there already would be this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    multichat::cli::main(std::env::args_os())
}
