//! A homeserver with one room: takes messages in order, may be away, and can be asked whether it
//! has one already. What a connector does with a delivery is done here as the Matrix connector
//! does it.

use std::collections::BTreeSet;

use multichat::base::EventId;
use multichat::chat::message::Link;
use multichat::chat::view::What;
use multichat::node::{Delivery, Outcome};

#[derive(Default)]
pub struct FarSide {
    pub away: bool,
    shown: Vec<EventId>,
}

pub fn link() -> Link {
    Link::Matrix { room: "!room".into() }
}

impl FarSide {
    /// One delivery. `answer_lost`: it got through, but the connector never hears so.
    pub fn deliver(&mut self, delivery: &Delivery, answer_lost: bool) -> Outcome {
        if self.away {
            return Outcome::Retry { uncertain: false, after_ms: None, reason: "away".into() };
        }
        if matches!(delivery.news.what, What::Message(_)) {
            let event = delivery.news.event;
            let there = delivery.uncertain && self.shown.contains(&event);
            if !there {
                self.shown.push(event);
            }
        }
        if answer_lost {
            return Outcome::Retry { uncertain: true, after_ms: None, reason: "connection broke".into() };
        }
        Outcome::Delivered { external_id: Some(format!("${}", delivery.news.event)) }
    }

    /// All that was meant for it arrived, in the order of the node's log, and nothing twice.
    pub fn check(&self, seed: u64, expected: &[EventId]) {
        let distinct: BTreeSet<&EventId> = self.shown.iter().collect();
        assert_eq!(distinct.len(), self.shown.len(), "seed {seed}: the far side shows a line twice");
        assert_eq!(self.shown, expected, "seed {seed}: the far side lacks lines or has them out of order");
    }
}
