//! A stand-in for the node on the other side of the door: it keeps what it is given, and answers as
//! a node would.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use multichat::base::{ChannelId, EventId, Timestamp};
use multichat::chat::intent::{Actor, ChannelRef, Intent, Submission};
use multichat::chat::message::Link;
use multichat::chat::view::ChannelView;
use multichat::matrix::Matrix;
use multichat::port::{Command, Connector, Delivery, Door, Handle, Outcome, Port, Receipt, Refusal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[derive(Default)]
pub struct Kept {
    pub channels: Vec<ChannelView>,
    pub submissions: Vec<Submission>,
    pub reports: Vec<(u64, Outcome)>,
    pub notes: BTreeMap<String, Vec<u8>>,
    /// What the next messages are answered with.
    pub refuse: Option<Refusal>,
    /// What the next wishes about people and settings are answered with, unless the node itself
    /// has them.
    pub deny: Option<Refusal>,
    /// Messages of links, as the store keeps them.
    pub seen: BTreeMap<(Link, String), EventId>,
}

impl Kept {
    pub fn messages(&self) -> Vec<(String, String)> {
        self.submissions
            .iter()
            .filter_map(|submission| match (&submission.actor, &submission.intent) {
                (Actor::Person { account, .. }, Intent::SendMessage { content, .. }) => {
                    Some((account.clone(), content.body.clone()))
                }
                _ => None,
            })
            .collect()
    }

    pub fn apply(&mut self, submission: &Submission) -> Result<Receipt, Refusal> {
        match &submission.intent {
            Intent::SendMessage { .. } if self.refuse.is_some() => {
                return Err(self.refuse.clone().expect("just looked"));
            }
            Intent::RedactMessage { .. }
            | Intent::UpdateChannel { .. }
            | Intent::GrantRole { .. }
            | Intent::RevokeRole { .. }
                if submission.actor != Actor::Node && self.deny.is_some() =>
            {
                return Err(self.deny.clone().expect("just looked"));
            }
            Intent::CreateChannel { name, topic } => self.found(name.as_str(), topic),
            Intent::Link { channel, link, create } => {
                let fits = |view: &&mut ChannelView| match channel {
                    ChannelRef::Id(id) => view.id == *id,
                    ChannelRef::Name(name) => view.name == *name,
                };
                if let (ChannelRef::Name(name), true, None) =
                    (channel, create, self.channels.iter_mut().find(fits))
                {
                    self.found(name, "");
                }
                let view = self.channels.iter_mut().find(fits);
                view.ok_or_else(|| Refusal::NoSuchChannel(format!("{channel:?}")))?.links.push(link.clone());
            }
            Intent::Unlink { link } => {
                for view in &mut self.channels {
                    view.links.retain(|other| other != link);
                }
            }
            _ => {}
        }
        Ok(Receipt::default())
    }

    /// A message becomes an event, the same one however often it comes.
    pub fn take_in(&mut self, submission: &Submission) -> Option<EventId> {
        let Intent::SendMessage { content, .. } = &submission.intent else { return None };
        let origin = content.origin.as_ref()?;
        let event = EventId(*blake3::hash(origin.external_id.as_bytes()).as_bytes());
        self.seen.insert((origin.link.clone(), origin.external_id.clone()), event);
        Some(event)
    }

    pub fn found(&mut self, name: &str, topic: &str) {
        self.channels.push(ChannelView {
            id: ChannelId(*blake3::hash(name.as_bytes()).as_bytes()),
            name: name.into(),
            topic: topic.into(),
            created_at: Timestamp(0),
            policy: Default::default(),
            members: Vec::new(),
            links: Vec::new(),
        });
    }
}

/// The stand-in for the node, with the door open.
pub struct Node {
    pub kept: Arc<Mutex<Kept>>,
    pub deliveries: mpsc::Sender<Delivery>,
    pub cancel: CancellationToken,
    pub door: tokio::task::JoinHandle<Result<(), multichat::port::Fault>>,
}

impl Node {
    pub fn open(matrix: Matrix, channels: &[&str]) -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        for name in channels {
            kept.lock().unwrap().found(name, "");
        }
        let (commands, mut inbox) = mpsc::channel(256);
        let (deliveries, receiver) = mpsc::channel(256);
        let cancel = CancellationToken::new();
        let port = Port {
            channels: kept.lock().unwrap().channels.clone(),
            notes: Vec::new(),
            deliveries: receiver,
            handle: Handle::new(Door::Matrix, commands),
            cancel: cancel.clone(),
        };
        let door = tokio::spawn(Box::new(matrix).run(port));
        let keeper = kept.clone();
        tokio::spawn(async move {
            while let Some(command) = inbox.recv().await {
                let mut kept = keeper.lock().unwrap();
                match command {
                    Command::Submit { submission, reply } => {
                        let mut answer = kept.apply(&submission);
                        if let Ok(receipt) = &mut answer {
                            receipt.event = kept.take_in(&submission);
                        }
                        kept.submissions.push(*submission);
                        let _ = reply.send(answer);
                    }
                    Command::Report { delivery, outcome, .. } => kept.reports.push((delivery, outcome)),
                    Command::Remember { key, value, reply, .. } => {
                        kept.notes.insert(key, value);
                        let _ = reply.send(());
                    }
                    Command::Event { link, external_id, reply } => {
                        let _ = reply.send(kept.seen.get(&(link, external_id)).copied());
                    }
                    Command::ExternalId { link, event, reply } => {
                        let found = kept.seen.iter().find(|((at, _), seen)| *at == link && **seen == event);
                        let _ = reply.send(found.map(|((_, id), _)| id.clone()));
                    }
                    Command::Channels { reply } => drop(reply.send(kept.channels.clone())),
                    Command::Status { reply } => drop(reply.send(Default::default())),
                    _ => panic!("the Matrix door never asks that"),
                }
            }
        });
        Self { kept, deliveries, cancel, door }
    }

    pub fn look<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.kept.lock().unwrap())
    }

    pub fn room_of(&self, channel: &str) -> Option<String> {
        self.look(|kept| {
            let view = kept.channels.iter().find(|view| view.name == channel)?;
            view.links.iter().find_map(|link| match link {
                Link::Matrix { room } => Some(room.clone()),
                Link::Irc { .. } => None,
            })
        })
    }

    pub async fn close(self) {
        self.cancel.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), self.door).await;
        assert_eq!(ended.expect("stops within five seconds").expect("no panic"), Ok(()));
    }
}
