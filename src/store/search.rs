//! Full-text search over the words of messages. The writer keeps the index in step with the log: what
//! is deleted there is deleted here in the same transaction.

use rusqlite::params;

use super::read::{EVENT_COLUMNS, clamped, stored_event};
use super::{Store, StoreError};
use crate::base::ChannelId;
use crate::node::StoredEvent;

/// Words of one question that count.
const WORDS: usize = 32;

impl Store {
    /// The messages that hold all of these words, in any order and whatever their case and accents,
    /// newest first; those of one channel, if one is given. None for a text without a word.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn search(
        &self,
        words: &str,
        channel: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let Some(question) = question(words) else { return Ok(Vec::new()) };
        // CROSS JOIN keeps the index of words outermost, which finds the newest first for nothing.
        let from = "FROM words CROSS JOIN events e ON e.position = words.rowid
                    CROSS JOIN channels c ON c.id = e.channel";
        let only = if channel.is_some() { "AND c.channel = ?3" } else { "AND ?3 IS NULL" };
        let sql = format!(
            "SELECT {EVENT_COLUMNS} {from} WHERE words MATCH ?1 {only} ORDER BY words.rowid DESC LIMIT ?2"
        );
        let channel = channel.map(|channel| channel.0);
        self.rows(&sql, params![question, clamped(limit as u64), channel], stored_event)
    }
}

/// Each word as a phrase, so that nothing in it is taken for an operator.
fn question(words: &str) -> Option<String> {
    let words = words.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric));
    let phrases: Vec<String> =
        words.take(WORDS).map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
    (!phrases.is_empty()).then(|| phrases.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::message::Content;
    use crate::node::{Batch, Keeping, Write};
    use crate::store::sample::{channel, event, store_with};

    fn said(position: u64, of: u8, text: &str) -> StoredEvent {
        let keeping = Keeping { searchable: true, ..Keeping::default() };
        StoredEvent { payload: Some(Content::text(text).payload()), keeping, ..event(position, of) }
    }

    fn found(store: &Store, words: &str, of: Option<u8>) -> Vec<u64> {
        let found = store.search(words, of.map(channel).as_ref(), 10).unwrap();
        found.into_iter().map(|event| event.position).collect()
    }

    #[test]
    fn words_are_found_newest_first_whatever_their_form() {
        let kept_from_search =
            StoredEvent { keeping: Keeping::default(), ..said(4, 1, "the crab in confidence") };
        let writes = [
            said(1, 1, "The Crab walks"),
            said(2, 2, "a crab, and an Ångström"),
            said(3, 1, "don't \"quote\" me"),
            kept_from_search,
        ];
        let mut store = store_with(writes.clone().map(Write::Event));
        for (words, of, expect) in [
            ("crab", None, [2, 1].as_slice()),
            ("CRAB", Some(1), &[1]),
            ("walks crab", None, &[1]),
            ("crab angstrom", None, &[2]),
            ("don't", None, &[3]),
            ("\"quote", None, &[3]),
            ("crab OR walks", None, &[]),
            ("crabs", None, &[]),
            ("confidence", None, &[]),
            ("* ( \" NEAR", None, &[]),
            ("", None, &[]),
        ] {
            assert_eq!(found(&store, words, of), expect, "{words}");
        }
        assert_eq!(store.search("crab", None, 1).unwrap().len(), 1);
        // A second time changes nothing, and what has gone is not found.
        store.commit(&[Batch(writes.map(Write::Event).into())]).unwrap();
        assert_eq!(found(&store, "crab", None), [2, 1]);
        store.commit(&[Batch(vec![Write::Erase { position: 2 }, Write::Erase { position: 2 }])]).unwrap();
        assert_eq!((found(&store, "crab", None), found(&store, "angstrom", None)), (vec![1], vec![]));
        store.verify().unwrap();
    }
}
