//! What RPL_ISUPPORT (005) says. Only what is true is in it.

use super::names::NICK_BYTES;
use crate::base::limits;

/// Bytes of a topic that still fits into one line with the longest prefix.
pub const TOPIC_LINE_BYTES: usize = 307;
/// Targets of one PRIVMSG or NOTICE.
pub const TARGETS: usize = 4;

/// The tokens, at most 13 in a line.
pub fn lines() -> Vec<Vec<String>> {
    let channel = limits::CHANNEL_NAME_BYTES;
    let tokens: Vec<String> = vec![
        "NETWORK=Multichat".into(),
        "CASEMAPPING=ascii".into(),
        "CHANTYPES=#".into(),
        "PREFIX=(qaohv)~&@%+".into(),
        // No list modes, no keys, no limits: `n` and `t` are how every channel is.
        "CHANMODES=,,,nt".into(),
        format!("NICKLEN={NICK_BYTES}"),
        format!("CHANNELLEN={channel}"),
        format!("TOPICLEN={TOPIC_LINE_BYTES}"),
        "LINELEN=512".into(),
        format!("TARGMAX=PRIVMSG:{TARGETS},NOTICE:{TARGETS},JOIN:,PART:"),
        "ELIST=U".into(),
        "UTF8ONLY".into(),
        "WHOX".into(),
    ];
    tokens.chunks(13).map(<[String]>::to_vec).collect()
}
