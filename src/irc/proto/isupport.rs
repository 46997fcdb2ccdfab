//! What RPL_ISUPPORT (005) says. Only what is true is in it.

use super::modes::{LIST_ENTRIES, SETTABLE};
use super::names::NICK_BYTES;
use crate::base::limits;

/// Bytes of a topic that still fits into one line with the longest prefix.
pub const TOPIC_LINE_BYTES: usize = 307;
/// Bytes of a reason that still fits into one line.
pub const REASON_BYTES: usize = 300;
/// Bytes of an away message.
pub const AWAY_BYTES: usize = 200;
/// Bytes of a real name.
pub const REALNAME_BYTES: usize = 150;
/// Targets of one PRIVMSG or NOTICE.
pub const TARGETS: usize = 4;
/// Nicks that one client may watch.
pub const MONITORED: usize = 100;
/// Messages that one CHATHISTORY gives at the most.
pub const HISTORY: usize = 100;
/// Masks on one SILENCE or ACCEPT list.
pub const SILENCED: usize = 60;

/// The tokens, at most 13 in a line.
pub fn lines(network: &str) -> Vec<Vec<String>> {
    let channel = limits::CHANNEL_NAME_BYTES;
    let tokens: Vec<String> = vec![
        format!("NETWORK={network}"),
        "CASEMAPPING=ascii".into(),
        "CHANTYPES=#".into(),
        "PREFIX=(qaohv)~&@%+".into(),
        format!("CHANMODES=beI,k,l,{SETTABLE}"),
        format!("MAXLIST=beI:{LIST_ENTRIES}"),
        "CHANLIMIT=#:".into(),
        "STATUSMSG=~&@%+".into(),
        "EXCEPTS".into(),
        "INVEX".into(),
        "EXTBAN=,am".into(),
        "ACCOUNTEXTBAN=a".into(),
        format!("NICKLEN={NICK_BYTES}"),
        "USERLEN=16".into(),
        format!("CHANNELLEN={channel}"),
        format!("TOPICLEN={TOPIC_LINE_BYTES}"),
        format!("KICKLEN={REASON_BYTES}"),
        format!("AWAYLEN={AWAY_BYTES}"),
        format!("NAMELEN={REALNAME_BYTES}"),
        "LINELEN=512".into(),
        format!(
            "TARGMAX=PRIVMSG:{TARGETS},NOTICE:{TARGETS},TAGMSG:{TARGETS},JOIN:,PART:,KICK:,WHOIS:1,MONITOR:{MONITORED}"
        ),
        "MODES=12".into(),
        "ELIST=CMNTU".into(),
        "SAFELIST".into(),
        "UTF8ONLY".into(),
        "WHOX".into(),
        "BOT=B".into(),
        format!("MONITOR={MONITORED}"),
        format!("SILENCE={SILENCED}"),
        format!("ACCEPT={SILENCED}"),
        "CALLERID=g".into(),
        "KNOCK".into(),
        format!("CHATHISTORY={HISTORY}"),
        "MSGREFTYPES=msgid,timestamp".into(),
    ];
    tokens.chunks(13).map(<[String]>::to_vec).collect()
}
