//! Nodes that hold one link to an IRC network together.

use super::*;

fn net() -> Link {
    irc("net")
}

impl Site {
    /// Takes a line of somebody on the network in.
    fn hears(&mut self, nick: &str, id: &str, text: &str) -> Receipt {
        let profile = Profile { username: nick.into(), home: format!("{nick}@net"), ..Profile::default() };
        let actor = Actor::Person { account: format!("{nick}@net"), profile };
        let origin = Origin { link: net(), external_id: id.into(), said_at: Timestamp(1) };
        let content = Content { origin: Some(origin), ..Content::text(text) };
        let intent = Intent::SendMessage { channel: named("#a"), content };
        let submission = Submission { actor, intent, via: Some(net()), join_first: true, tag: 0 };
        let mut effects =
            self.feed(Input::Submit { ticket: 1, submission: Box::new(submission), known: None });
        let Some(Output::Reply { result, .. }) = effects.pop() else { panic!("an answer comes last") };
        result.unwrap()
    }

    fn times(&self, text: &str) -> usize {
        let news = self.log.iter().filter(|stored| stored.visible);
        let news = news.filter_map(|stored| self.node.news_of(self.now, stored));
        news.filter(|news| matches!(&news.what, What::Message(content) if content.body == text)).count()
    }
}

/// Two nodes with the channel and the link, and one that has neither yet.
fn holders() -> [Site; 3] {
    let (mut one, mut other) = (Site::new("a"), Site::new("b"));
    one.link("#a", net());
    meet(&mut one, &mut other);
    other.link("#a", net());
    [one, other, Site::new("c")]
}

#[test]
fn what_both_took_in_is_shown_once_everywhere() {
    let [mut one, mut other, mut third] = holders();
    let (first, second) = (one.hears("bob", "1", "hi"), other.hears("bob", "1", "hi"));
    assert_ne!(first.event, second.event);
    other.hears("bob", "2", "hi");
    one.restart();
    meet(&mut one, &mut third);
    meet(&mut other, &mut third);
    meet(&mut one, &mut other);
    meet(&mut one, &mut third);
    for site in [&mut one, &mut other, &mut third] {
        assert_eq!(site.times("hi"), 2);
        assert_eq!(site.node.refused()["taken_in_twice"], 1);
        site.restart();
    }
    assert_eq!(one.node.state_root(), other.node.state_root());
    // A restart forgets nothing of it.
    let mut late = Site::new("d");
    late.peer_says(NodeId([9; 32]), Packet::Events { parcels: one.parcels(), more: false });
    assert_eq!(late.times("hi"), 2);
}

#[test]
fn a_door_hears_what_another_holder_took_in() {
    let [mut one, mut other, _] = holders();
    let door = || Door::Network("net".into());
    for site in [&mut one, &mut other] {
        site.feed(Input::DoorOpened(door()));
    }
    let before = one.log.len();
    one.hears("bob", "1", "hi");
    let parcels = one.parcels().split_off(before);
    let outputs = other.peer_says(one.node.id(), Packet::Events { parcels: parcels.clone(), more: false });
    let heard = |output: &&Output| match output {
        Output::Deliver { door: to, delivery } => {
            *to == door() && delivery.id == 0 && delivery.link == Some(net())
        }
        _ => false,
    };
    assert_eq!(outputs.iter().filter(heard).count(), 1, "{outputs:?}");
    assert!(!other.rest.outbox.iter().any(|row| row.position > before as u64), "and nothing is said there");
    let again = other.peer_says(one.node.id(), Packet::Events { parcels, more: false });
    assert_eq!(again.iter().filter(heard).count(), 0);
}

#[test]
fn a_node_answers_what_needs_no_more_to_be_said() {
    let [mut one, mut other, _] = holders();
    let mark = |event: EventId| u64::from_be_bytes(event.0[..8].try_into().unwrap());
    let said = mark(one.say("#a", Content::text("hi")).unwrap().event.unwrap());
    assert!(!one.node.is_settled(&net(), said) && !other.node.is_settled(&net(), said));
    meet(&mut one, &mut other);
    for row in one.rest.outbox.clone() {
        let outcome = Outcome::Delivered { external_id: None };
        one.feed(Input::Report { delivery: row.id, outcome });
    }
    assert!(one.node.is_settled(&net(), said) && !other.node.is_settled(&net(), said));
    one.restart();
    assert!(one.node.is_settled(&net(), said));
    assert!(!one.node.is_settled(&irc("elsewhere"), said) && !one.node.is_settled(&net(), !said));
}
