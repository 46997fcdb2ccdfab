//! The command line: it reads arguments and files, asks the running node over the control socket,
//! and prints. It never goes around the node, and it ends with 0 (done), 1 (refused or failed,
//! one line on stderr that says what to do) or 2 (not a command).

mod args;
mod ask;
mod backup;
mod calendar;
pub mod demo;
mod doctor;
mod domains;
mod failure;
mod init;
mod load;
mod market;
mod output;
pub mod simulate;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::runtime;
use args::{Arguments, Command};
use failure::Failure;
use output::Output;

pub use load::{LoadedConfig, load};

/// Runs one command line, the program's name first, and says how it went.
pub fn main(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if let Command::Demo { once } = arguments.command {
        return demo::run(once);
    }
    let mut output = Output::new(arguments.json);
    match dispatch(arguments, &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough: `multichat history … | head` is no failure.
        Err(Failure::Unread) => ExitCode::SUCCESS,
        Err(Failure::Said(message)) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "multichat: {}", output::one_line(&message));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: Arguments, output: &mut Output) -> Result<(), Failure> {
    let config = arguments.config.as_deref();
    match arguments.command {
        Command::Init(init) => init::run(&init, config, output),
        Command::Run => run_node(config),
        Command::Doctor => block_on(doctor::run(config, output)),
        Command::Demo { .. } => Ok(()),
        Command::Simulate(wanted) => simulate::run(&wanted, output),
        Command::Backup { path } => block_on(backup::backup(&path, &load(config)?, output)),
        Command::Restore { path, force } => block_on(backup::restore(&path, force, &load(config)?, output)),
        Command::VerifyStore { path } => backup::verify(path.as_deref(), &load(config)?, output),
        Command::Ask(command) => block_on(ask::run(&command, &load(config)?, output)),
    }
}

fn run_node(config: Option<&Path>) -> Result<(), Failure> {
    let LoadedConfig { config, dir, .. } = load(config)?;
    runtime::init_logging(&config.log);
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    tokio.block_on(runtime::run(config, dir))?;
    Ok(())
}

/// Drives what a single command awaits.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
