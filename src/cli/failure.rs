//! How a command ends when it does not end well.

use std::fmt::Display;
use std::io;

use crate::base::config::ConfigError;
use crate::control::AskError;
use crate::port::Fault;

/// Why a command stopped.
#[derive(Debug)]
pub enum Failure {
    /// One line for stderr, with what to do.
    Said(String),
    /// Nobody reads our output any more.
    Unread,
}

impl Failure {
    /// A failure with its line.
    pub fn new(message: impl Display) -> Self {
        Self::Said(message.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Unread,
            _ => Self::new(error),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(error)
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        Self::new(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::new(fault)
    }
}
