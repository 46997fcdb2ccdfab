//! What may be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Chat without an operator: Matrix rooms and IRC channels on one replicated log.
#[derive(Parser, Debug)]
#[command(name = "multichat", version, propagate_version = true)]
#[command(
    after_help = "To see it: multichat demo. To run it beside a homeserver: multichat init, then multichat run."
)]
pub struct Arguments {
    /// The configuration file [default: config.yaml here, if there is one]
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Write a configuration and a registration with fresh tokens
    Init(Init),
    /// Run the node
    ///
    /// Prints one line, `multichat ready …`, once everything listens; logs go to standard error. SIGTERM
    /// and Ctrl-C end it in good order. Without a configuration file: IRC for clients on 127.0.0.1:6667,
    /// nodes on the local network found by themselves, data in the user's data directory, no Matrix.
    Run,
    /// Show a conversation crossing Matrix, Multichat and IRC, on real parts
    Demo {
        /// End after the conversation: 0 if every line arrived everywhere
        #[arg(long)]
        once: bool,
    },
    /// Simulate thousands of nodes, and what attacks do to them
    ///
    /// The same protocol code as the node's, under virtual time, beside one flat gossip overlay and a federated
    /// star.
    Simulate(super::simulate::Simulate),
    /// Check configuration, tokens, ports, homeserver and networks
    Doctor,
    #[command(flatten)]
    Ask(Ask),
}

/// `init`.
#[derive(Args, Debug)]
pub struct Init {
    /// The homeserver's name: what follows the colon in user ids
    /// [default: the host of --homeserver, or localhost]
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// Where this node reaches the homeserver
    #[arg(long, value_name = "URL")]
    pub homeserver: Option<String>,
    /// Where to write the registration [default: registration.yaml beside the configuration]
    #[arg(long, value_name = "PATH")]
    pub registration: Option<PathBuf>,
    /// Overwrite files that exist
    #[arg(long)]
    pub force: bool,
}

/// What the running node is asked.
#[derive(Subcommand, Debug)]
pub enum Ask {
    /// What the node has to say about itself
    Status,
    /// The nodes it is connected to
    Peers,
    /// Which channel is bridged where
    Links,
    /// Every channel
    Channels,
    /// Who is in a channel
    Members { channel: String },
    /// Work on a channel
    #[command(subcommand)]
    Channel(Channel),
    /// Bridge a channel at run time
    #[command(subcommand)]
    Link(Link),
    /// Say something in a channel
    Send {
        channel: String,
        text: String,
        #[command(flatten)]
        acting: Acting,
    },
    /// What was said in a channel
    History {
        channel: String,
        /// Only what came before this event
        #[arg(long, value_name = "ID")]
        before: Option<String>,
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
}

/// Who acts.
#[derive(Args, Debug)]
pub struct Acting {
    /// Act as this person instead of the node's own user
    #[arg(long = "as", value_name = "USER")]
    pub user: Option<String>,
}

/// `channel …`. A channel's `#` may be left out.
#[derive(Subcommand, Debug)]
pub enum Channel {
    /// Found a channel
    Create {
        name: String,
        #[arg(long, default_value = "")]
        topic: String,
        #[command(flatten)]
        acting: Acting,
    },
    /// Become a member
    Join {
        name: String,
        #[command(flatten)]
        acting: Acting,
    },
    /// Stop being a member
    Leave {
        name: String,
        #[command(flatten)]
        acting: Acting,
    },
    /// Topic, members and links
    Show { name: String },
}

/// `link …`.
#[derive(Subcommand, Debug)]
pub enum Link {
    /// Bridge a channel to a Matrix room or an IRC channel
    Add {
        channel: String,
        #[command(flatten)]
        place: Place,
    },
    /// Stop bridging it
    Remove {
        /// Only if it is this channel's
        channel: Option<String>,
        #[command(flatten)]
        place: Place,
    },
}

/// The far end.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Place {
    /// A room's id or alias
    #[arg(long, value_name = "ROOM")]
    pub matrix: Option<String>,
    /// A channel of a network in the configuration
    #[arg(long, value_name = "NETWORK/#CHAN")]
    pub irc: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_is_and_what_is_not_a_command() {
        let takes = |line: &str| Arguments::try_parse_from(line.split(' ')).is_ok();
        for good in [
            "multichat run",
            "multichat --config a.yaml --json status",
            "multichat channels --json",
            "multichat channel create rust --as carol",
            "multichat link add rust --irc libera/#rust",
            "multichat link remove rust --irc libera/#rust",
            "multichat link remove --matrix !a:b",
            "multichat history rust --before x --limit 10",
            "multichat init --server-name a --homeserver http://a --registration r.yaml --force --config c.yaml",
        ] {
            assert!(takes(good), "{good}");
        }
        for bad in [
            "multichat",
            "multichat fly",
            "multichat send rust",
            "multichat link add rust",
            "multichat link add rust --irc a/#b --matrix #c:d",
            "multichat history rust --limit 0",
        ] {
            assert!(!takes(bad), "{bad}");
        }
    }
}
