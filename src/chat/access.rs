//! `channel_access`: a user's live membership of a channel, held by one lane.

use serde::{Deserialize, Serialize};

/// What a member may be. Founders made the channel; rank 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Role {
    Founder,
    Admin,
    Moderator,
    Member,
}
