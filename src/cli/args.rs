//! What may be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::chat::wording;

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
    /// Copy store and secret key to a new folder, whether the node runs or not
    ///
    /// The copy holds nothing that was deleted. Keep it secret: whoever has it is this node.
    Backup { path: PathBuf },
    /// Put a backup in place; the node must not run
    ///
    /// What is there is put aside with --force. Never run the restored node beside the old one.
    Restore {
        path: PathBuf,
        #[arg(long)]
        force: bool,
    },
    /// Check every event of the store, or of a backup, for damage
    VerifyStore { path: Option<PathBuf> },
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

/// Work on domains.
#[derive(Subcommand, Debug)]
pub enum Domains {
    /// Make an invite into a domain that this node founded
    Invite {
        domain: String,
        /// When it ends: 7d, 12h, 30m, 45s
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expire: Option<u64>,
    },
}

/// What the running node is asked.
#[derive(Subcommand, Debug)]
pub enum Ask {
    /// What the node has to say about itself
    Status,
    /// The nodes it is connected to
    Peers,
    /// The domains it is in, who is in them, and who was not let in
    Domains {
        #[command(subcommand)]
        command: Option<Domains>,
    },
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
    /// Tokens, tickets, and what people want of them
    #[command(subcommand)]
    Intent(Intent),
    /// Bring together what people want
    #[command(subcommand)]
    Solver(Solver),
    /// Say something in a channel
    Send {
        channel: String,
        text: String,
        /// Have it deleted everywhere after this time: 7d, 12h, 30m, 45s
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expire: Option<u64>,
        #[command(flatten)]
        acting: Acting,
    },
    /// Find messages that hold all of these words
    Search {
        #[arg(required = true)]
        words: Vec<String>,
        /// Only in this channel
        #[arg(long)]
        channel: Option<String>,
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
        limit: u32,
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
        /// A channel that this node has, or an invite link
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
    /// Topic, policy, members and links
    Show { name: String },
    /// Give somebody a role: admin, moderator, member, or one of the channel's own
    Grant {
        name: String,
        /// By name, account or identity
        who: String,
        role: String,
        #[command(flatten)]
        acting: Acting,
    },
    /// Take somebody's role; they stay in
    Revoke {
        name: String,
        who: String,
        /// What they are from now on
        #[arg(long, value_name = "ROLE", default_value = "member")]
        to: String,
        #[command(flatten)]
        because: Because,
    },
    /// Put somebody out, who may come in again
    Kick {
        name: String,
        who: String,
        #[command(flatten)]
        because: Because,
    },
    /// Put somebody out and keep them out
    Ban {
        name: String,
        who: String,
        #[command(flatten)]
        because: Because,
    },
    /// Lift a ban
    Unban {
        name: String,
        who: String,
        #[command(flatten)]
        because: Because,
    },
    /// Show or change the channel's settings
    ///
    /// Settings: topic TEXT, title TEXT, avatar URL, join open|invite|knock|ticket,
    /// flow any|none|SINK… (matrix:SERVER, irc:HOST:PORT, search), retention TIME|off, max-ttl TIME|off,
    /// slow N/TIME|off, role ROLE [name=NAME] +PERMISSION -PERMISSION, person WHO +PERMISSION -PERMISSION,
    /// closed on|off. Times: 7d, 12h, 30m, 45s.
    Policy {
        name: String,
        setting: Option<String>,
        #[arg(allow_hyphen_values = true)]
        values: Vec<String>,
        /// Act as this person instead of the node's own user; give it before the setting
        #[arg(long = "as", value_name = "USER")]
        user: Option<String>,
    },
    /// Make a link that lets in whoever has it
    Invite {
        name: String,
        #[arg(long, default_value = "member")]
        role: String,
        /// After which time it ends: 7d, 12h, 30m, 45s, or never
        #[arg(long, value_name = "TIME", default_value = "7d", value_parser = lifetime)]
        expire: Lifetime,
        #[command(flatten)]
        acting: Acting,
    },
    /// Found a successor with the same topic, policy and roles, and close the channel
    Upgrade {
        name: String,
        #[command(flatten)]
        acting: Acting,
    },
}

/// Why, and who says so.
#[derive(Args, Debug)]
pub struct Because {
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    #[command(flatten)]
    pub acting: Acting,
}

/// How long something lasts, in milliseconds; `None` for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetime(pub Option<u64>);

fn duration(text: &str) -> Result<u64, String> {
    wording::duration_ms(text).ok_or_else(|| "expected a time such as 7d, 12h, 30m or 45s".to_owned())
}

fn lifetime(text: &str) -> Result<Lifetime, String> {
    if text == "never" { Ok(Lifetime(None)) } else { duration(text).map(|ms| Lifetime(Some(ms))) }
}

/// `intent …`. An amount is QUANTITY:NAME, or QUANTITY:NAME@PERSON where several people issue something of
/// that name.
#[derive(Subcommand, Debug)]
pub enum Intent {
    /// Make tokens, or tickets that let people into the channel
    Issue {
        channel: String,
        amount: String,
        /// Tickets; the quantity is how often they can be used
        #[arg(long)]
        ticket: bool,
        /// What you sell each ticket for
        #[arg(long, value_name = "AMOUNT", requires = "ticket")]
        price: Option<String>,
        /// Seconds for which a ticket can be used
        #[arg(long, value_name = "SECONDS", default_value_t = 7 * 24 * 3600)]
        lasts_s: u64,
        #[command(flatten)]
        acting: Acting,
    },
    /// Give something to somebody
    Give {
        channel: String,
        amount: String,
        to: String,
        #[command(flatten)]
        acting: Acting,
    },
    /// Offer something for something else; it waits until a solver finds others to settle it with
    Submit {
        channel: String,
        #[arg(long, value_name = "AMOUNT")]
        give: String,
        #[arg(long, value_name = "AMOUNT")]
        want: String,
        /// The channel of what is wanted, if it is another
        #[arg(long, value_name = "CHANNEL")]
        want_in: Option<String>,
        /// Seconds for which it may wait
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        lasts_s: u64,
        /// Nobody else may take part, solvers included
        #[arg(long, value_name = "PERSON")]
        only: Vec<String>,
        /// Rather with these, the first most
        #[arg(long, value_name = "PERSON")]
        prefer: Vec<String>,
        #[command(flatten)]
        acting: Acting,
    },
    /// What waits
    List { channel: String },
    /// One that waits, by the beginning of its id
    Show { channel: String, id: String },
    /// Who owns what
    Owned { channel: String },
}

/// `solver …`.
#[derive(Subcommand, Debug)]
pub enum Solver {
    /// Settle what balances
    Run {
        /// Only in this channel
        channel: Option<String>,
        /// Do it again and again
        #[arg(long = "every", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
        every_s: Option<u64>,
        #[command(flatten)]
        acting: Acting,
    },
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
            "multichat intent issue rust 10:pass --ticket --price 5:gold --as carol",
            "multichat intent submit rust --give 5:gold --want 1:pass --only bob --only dave",
            "multichat solver run rust --every 10",
            "multichat solver run",
            "multichat send rust hello --expire 7d",
            "multichat search two words --channel rust",
            "multichat channel ban rust eve --reason spam --as carol",
            "multichat channel policy rust",
            "multichat channel policy rust role member -react +pin",
            "multichat channel invite rust --role moderator --expire never",
            "multichat restore there --force",
            "multichat verify-store",
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
            "multichat intent issue rust 10:gold --price 5:gold",
            "multichat intent submit rust --give 5:gold",
            "multichat solver run --every 0",
            "multichat send rust hello --expire soon",
            "multichat search",
            "multichat channel ban rust",
        ] {
            assert!(!takes(bad), "{bad}");
        }
    }
}
