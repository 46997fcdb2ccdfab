//! The chat's logics, as the machine finds them.

use std::sync::OnceLock;

use super::access::AccessLogic;
use super::channel::ChannelLogic;
use super::commitment::CommitmentLogic;
use super::grant::GrantLogic;
use super::message::MessageLogic;
use super::permissions::PermissionsLogic;
use super::profile::ProfileLogic;
use super::revocation::RevocationLogic;
use super::ticket::TicketLogic;
use super::token::TokenLogic;
use crate::machine::Logics;

/// The chat's logics, made once.
pub fn logics() -> &'static Logics {
    static LOGICS: OnceLock<Logics> = OnceLock::new();
    LOGICS.get_or_init(|| {
        Logics::new()
            .with(AccessLogic)
            .with(PermissionsLogic)
            .with(ProfileLogic)
            .with(MessageLogic)
            .with(ChannelLogic)
            .with(GrantLogic)
            .with(RevocationLogic)
            .with(TokenLogic)
            .with(TicketLogic)
            .with(CommitmentLogic)
    })
}
