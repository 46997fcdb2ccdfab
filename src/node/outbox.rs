//! Deliveries that must reach the far end of a link: in order, each until it arrived or never can.
//! Rows live in the store; here is the order they wait in and what is under way.

use std::collections::{BTreeMap, VecDeque};

use super::{Door, OutboxRow, Outcome, Write};
use crate::base::{EventId, Timestamp, limits};
use crate::chat::message::Link;

/// Every row that has not arrived.
#[derive(Default)]
pub(super) struct Outbox {
    queues: BTreeMap<Link, Queue>,
    /// Row → its link.
    links: BTreeMap<u64, Link>,
    last_id: u64,
}

#[derive(Default)]
struct Queue {
    /// By id. Those under way are among the first `limits::DELIVERY_WINDOW`.
    rows: VecDeque<Row>,
    under_way: usize,
    /// After a failure: nothing is sent before.
    not_before: Timestamp,
}

struct Row {
    id: u64,
    position: u64,
    event: EventId,
    attempts: u32,
    uncertain: bool,
    under_way: bool,
}

/// A row to be handed to its door now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Order {
    pub id: u64,
    pub link: Link,
    pub position: u64,
    pub uncertain: bool,
}

/// What a report led to.
pub(super) struct Reported {
    pub link: Link,
    pub writes: Vec<Write>,
    /// Why the row was given up, if it was.
    pub failed: Option<String>,
}

impl Outbox {
    /// Puts back what the store held. The first of each link may have been under way when the node
    /// stopped, so they are uncertain.
    pub fn restore(&mut self, rows: Vec<OutboxRow>, event_at: &BTreeMap<u64, EventId>) {
        for row in rows {
            let Some(event) = event_at.get(&row.position).copied() else { continue };
            let queue = self.queues.entry(row.link.clone()).or_default();
            queue.not_before = queue.not_before.max(row.next_at);
            let uncertain = row.uncertain || queue.rows.len() < limits::DELIVERY_WINDOW;
            let (id, position, attempts) = (row.id, row.position, row.attempts);
            queue.rows.push_back(Row { id, position, event, attempts, uncertain, under_way: false });
            self.links.insert(row.id, row.link);
            self.last_id = self.last_id.max(row.id);
        }
    }

    /// Never hands out an id that the store may have seen.
    pub fn ids_after(&mut self, id: u64) {
        self.last_id = self.last_id.max(id);
    }

    /// Adds a row. `None` if too many wait for the link already.
    pub fn push(&mut self, link: &Link, position: u64, event: EventId) -> Option<Write> {
        let queue = self.queues.entry(link.clone()).or_default();
        if queue.rows.len() >= limits::OUTBOX_ROWS {
            return None;
        }
        self.last_id += 1;
        let id = self.last_id;
        self.links.insert(id, link.clone());
        let row = Row { id, position, event, attempts: 0, uncertain: false, under_way: false };
        queue.rows.push_back(row);
        Some(Write::Outbox { id, link: link.clone(), position })
    }

    /// Rows of a link that may go now; they count as under way from here on.
    pub fn take_due(&mut self, link: &Link, now: Timestamp) -> Vec<Order> {
        let Some(queue) = self.queues.get_mut(link) else { return Vec::new() };
        if queue.not_before > now {
            return Vec::new();
        }
        if !queue.is_idle() {
            return Vec::new();
        }
        queue.under_way = queue.rows.len().min(limits::DELIVERY_WINDOW);
        let window = queue.rows.iter_mut().take(limits::DELIVERY_WINDOW).filter(|row| !row.under_way);
        window
            .map(|row| {
                row.under_way = true;
                Order { id: row.id, link: link.clone(), position: row.position, uncertain: row.uncertain }
            })
            .collect()
    }

    /// Takes a connector's report. `None` for a row that is not there (any more).
    pub fn report(&mut self, id: u64, outcome: Outcome, now: Timestamp) -> Option<Reported> {
        let link = self.links.get(&id)?.clone();
        let queue = self.queues.get_mut(&link)?;
        let at = queue.rows.binary_search_by_key(&id, |row| row.id).ok()?;
        let mut reported = Reported { link: link.clone(), writes: Vec::new(), failed: None };
        match outcome {
            Outcome::Delivered { external_id } => {
                let row = queue.remove(at)?;
                self.links.remove(&id);
                if let Some(external_id) = external_id {
                    reported.writes.push(Write::Seen { link, external_id, event: row.event });
                }
                reported.writes.push(Write::OutboxDone { id });
            }
            Outcome::Failed { reason } => {
                queue.remove(at)?;
                self.links.remove(&id);
                reported.writes.push(Write::OutboxDone { id });
                reported.failed = Some(reason);
            }
            Outcome::Retry { uncertain, after_ms, .. } => {
                let row = &mut queue.rows[at];
                if !row.under_way {
                    return None;
                }
                row.attempts = row.attempts.saturating_add(1);
                row.uncertain |= uncertain;
                let next_at = now.plus_ms(after_ms.unwrap_or_else(|| backoff_ms(row.attempts)));
                let (attempts, uncertain) = (row.attempts, row.uncertain);
                reported.writes.push(Write::OutboxTried { id, attempts, next_at, uncertain });
                queue.not_before = next_at;
                // Those before it are still with the connector, which will report them.
                queue.recall(at);
            }
        }
        Some(reported)
    }

    /// Drops every row of a link: it was unlinked.
    pub fn drop_link(&mut self, link: &Link) -> Vec<Write> {
        let rows = self.queues.remove(link).unwrap_or_default().rows;
        rows.into_iter()
            .map(|row| {
                self.links.remove(&row.id);
                Write::OutboxDone { id: row.id }
            })
            .collect()
    }

    /// A door opened (again): what was under way with its former self was not reported, so it may
    /// or may not have got through.
    pub fn reopen(&mut self, door: &Door) -> Vec<Link> {
        let mut links = Vec::new();
        for (link, queue) in self.queues.iter_mut().filter(|(link, _)| Door::of(link) == *door) {
            for row in queue.recall(0) {
                row.uncertain = true;
            }
            links.push(link.clone());
        }
        links
    }

    /// Links whose wait is over.
    pub fn due_links(&self, now: Timestamp) -> Vec<Link> {
        let due = self.queues.iter().filter(|(_, queue)| queue.is_idle() && queue.not_before <= now);
        due.map(|(link, _)| link.clone()).collect()
    }

    /// When the next wait ends, among links of open doors.
    pub fn next_due(&self, is_open: impl Fn(&Door) -> bool) -> Option<Timestamp> {
        let waiting = self.queues.iter().filter(|(link, queue)| queue.is_idle() && is_open(&Door::of(link)));
        waiting.map(|(_, queue)| queue.not_before).min()
    }

    /// Whether an event still has to go over a link.
    pub fn holds(&self, link: &Link, event: &EventId) -> bool {
        self.queues.get(link).is_some_and(|queue| queue.rows.iter().any(|row| row.event == *event))
    }

    /// Rows waiting or under way, by door.
    pub fn depths(&self) -> BTreeMap<Door, usize> {
        let mut depths = BTreeMap::new();
        for (link, queue) in &self.queues {
            *depths.entry(Door::of(link)).or_insert(0) += queue.rows.len();
        }
        depths
    }
}

impl Queue {
    /// Whether more could be under way.
    fn is_idle(&self) -> bool {
        self.under_way < self.rows.len().min(limits::DELIVERY_WINDOW)
    }

    fn remove(&mut self, at: usize) -> Option<Row> {
        let row = self.rows.remove(at)?;
        self.under_way -= usize::from(row.under_way);
        Some(row)
    }

    /// Takes back what is under way from a place on; those rows.
    fn recall(&mut self, at: usize) -> Vec<&mut Row> {
        let rows = self.rows.iter_mut().take(limits::DELIVERY_WINDOW).enumerate();
        let mut recalled: Vec<&mut Row> =
            rows.filter(|(place, row)| *place >= at && row.under_way).map(|(_, row)| row).collect();
        self.under_way -= recalled.len();
        recalled.iter_mut().for_each(|row| row.under_way = false);
        recalled
    }
}

/// Doubles from the first wait to the longest.
fn backoff_ms(attempts: u32) -> u64 {
    (limits::RETRY_FIRST_MS << attempts.saturating_sub(1).min(16)).min(limits::RETRY_MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link::Matrix { room: "!r".into() }
    }

    fn ids(orders: &[Order]) -> Vec<(u64, bool)> {
        orders.iter().map(|order| (order.id, order.uncertain)).collect()
    }

    fn filled(rows: u64) -> Outbox {
        let mut outbox = Outbox::default();
        for position in 1..=rows {
            outbox.push(&link(), position, EventId([position as u8; 32])).unwrap();
        }
        outbox
    }

    #[test]
    fn a_window_is_under_way_and_moves_on_with_reports() {
        let mut outbox = filled(100);
        let first = outbox.take_due(&link(), Timestamp(0));
        assert_eq!(first.len(), limits::DELIVERY_WINDOW);
        assert!(outbox.take_due(&link(), Timestamp(0)).is_empty());
        let done = Outcome::Delivered { external_id: Some("$e".into()) };
        let reported = outbox.report(1, done, Timestamp(0)).unwrap();
        assert_eq!(reported.writes[1], Write::OutboxDone { id: 1 });
        assert_eq!(ids(&outbox.take_due(&link(), Timestamp(0))), [(65, false)]);
        assert_eq!(outbox.depths()[&Door::Matrix], 99);
    }

    #[test]
    fn a_failure_sends_all_again_in_order_after_a_growing_wait() {
        let mut outbox = filled(3);
        outbox.take_due(&link(), Timestamp(0));
        let retry = Outcome::Retry { uncertain: true, after_ms: None, reason: "away".into() };
        outbox.report(1, retry.clone(), Timestamp(0)).unwrap();
        assert!(outbox.report(2, retry.clone(), Timestamp(0)).is_none(), "2 is not under way any more");
        assert!(outbox.take_due(&link(), Timestamp(limits::RETRY_FIRST_MS - 1)).is_empty());
        assert_eq!(outbox.next_due(|_| true), Some(Timestamp(limits::RETRY_FIRST_MS)));
        let again = outbox.take_due(&link(), Timestamp(limits::RETRY_FIRST_MS));
        assert_eq!(ids(&again), [(1, true), (2, false), (3, false)]);
        outbox.report(1, retry, Timestamp(1000)).unwrap();
        assert_eq!(outbox.next_due(|_| true), Some(Timestamp(1000 + 2 * limits::RETRY_FIRST_MS)));
        let told = Outcome::Retry { uncertain: false, after_ms: Some(7), reason: "limit".into() };
        outbox.take_due(&link(), Timestamp(5000));
        outbox.report(1, told, Timestamp(5000)).unwrap();
        assert_eq!(outbox.next_due(|_| true), Some(Timestamp(5007)));
        assert_eq!(backoff_ms(u32::MAX), limits::RETRY_MAX_MS);
    }

    #[test]
    fn a_failure_in_the_middle_leaves_alone_what_the_connector_still_has() {
        let mut outbox = filled(5);
        outbox.take_due(&link(), Timestamp(0));
        let busy = Outcome::Retry { uncertain: false, after_ms: None, reason: "busy".into() };
        outbox.report(3, busy, Timestamp(0)).unwrap();
        let later = Timestamp(limits::RETRY_FIRST_MS);
        assert_eq!(outbox.next_due(|_| true), Some(later), "3 to 5 are woken, though 1 is under way");
        assert_eq!(outbox.due_links(later), [link()]);
        assert_eq!(ids(&outbox.take_due(&link(), later)), [(3, false), (4, false), (5, false)]);
        for id in [2, 1, 4, 3, 5] {
            let done = Outcome::Delivered { external_id: None };
            assert!(outbox.report(id, done.clone(), later).is_some());
            assert!(outbox.report(id, done, later).is_none(), "a second report of {id} says nothing");
        }
        assert_eq!(outbox.next_due(|_| true), None);
        assert!(outbox.take_due(&link(), later).is_empty());
    }

    #[test]
    fn a_link_that_nobody_empties_fills_no_memory() {
        let mut outbox = filled(limits::OUTBOX_ROWS as u64);
        assert_eq!(outbox.push(&link(), 7, EventId::default()), None);
        let elsewhere = Link::Matrix { room: "!other".into() };
        assert!(outbox.push(&elsewhere, 7, EventId::default()).is_some(), "others are not held up");
    }

    #[test]
    fn what_was_under_way_when_a_door_or_the_node_went_is_uncertain() {
        let mut outbox = filled(2);
        outbox.take_due(&link(), Timestamp(0));
        assert_eq!(outbox.reopen(&Door::Matrix), [link()]);
        assert_eq!(ids(&outbox.take_due(&link(), Timestamp(0))), [(1, true), (2, true)]);

        let row = |id| OutboxRow {
            id,
            link: link(),
            position: id,
            attempts: 0,
            next_at: Timestamp(0),
            uncertain: false,
        };
        let events = (1..=70).map(|id| (id, EventId::default())).collect();
        let mut restored = Outbox::default();
        restored.restore((1..=70).map(row).collect(), &events);
        let orders = restored.take_due(&link(), Timestamp(0));
        assert!(orders.iter().all(|order| order.uncertain));
        restored.report(1, Outcome::Failed { reason: "gone".into() }, Timestamp(0)).unwrap();
        assert_eq!(ids(&restored.take_due(&link(), Timestamp(0))), [(65, false)]);
        assert_eq!(restored.drop_link(&link()).len(), 69);
    }
}
