//! The whole node as one deterministic state machine. It never awaits, locks, prints or reads a
//! clock: every fact comes in as an [`Input`], every effect goes out as an [`Output`].

mod batch;
mod door;

pub use batch::{Batch, OutboxRow, StoredEvent, Write};
pub use door::{Delivery, Door, Outcome, Receipt, Refusal};
