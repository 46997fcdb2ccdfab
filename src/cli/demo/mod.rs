//! The demo: the main job on real parts, with no set-up. It starts other people's real programs
//! (a homeserver, an IRC server), nodes of ours and a few users, and shows a conversation crossing
//! all of them. Tests take the same parts from here. It ends everything that it started.

pub mod debian;
pub mod irc_user;
pub mod ircd;
pub mod irssi;
pub mod journal;
pub mod matrix_user;
pub mod process;
pub mod synapse;
pub mod synapse_config;
pub mod trouble;

/// The demo. (Under construction on its own branch.)
pub fn run(_once: bool) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
