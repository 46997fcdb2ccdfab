//! Multichat: chat without an operator.
//!
//! A **channel** is a history that any number of nodes hold in full and agree about without a leader.
//! Each node opens **doors** to it: a Matrix homeserver, IRC networks, an IRC server of its own.
//!
//! Everything durable is a **resource**, everything that happens is a **transaction**, and what somebody
//! wants is an **intent**. One deterministic state machine without IO, [`node::Node`], decides everything;
//! thin async shells carry bytes in and out of it.
//!
//! # Rooms, ground floor first
//!
//! | room | owns | must never |
//! |---|---|---|
//! | [`base`] | ids, time, keys, the canonical codec, configuration, error kinds, limits | hold logic |
//! | [`machine`] | the Anoma resource machine: resources, actions, logics, compliance, proving | know what a chat is |
//! | [`chat`] | chat on the machine: a file per resource type with its logic, intents, acts, views | do IO, read a clock |
//! | [`replica`] | convergence: signed events, lanes, what is valid, what it comes to, what another lacks | know libp2p, SQL |
//! | [`overlay`] | domains and topologies: where a packet goes. Imports `base` alone | know what an event means |
//! | [`node`] | the whole node as one state machine: admit, route, outbox, timers | await, lock, print |
//! | [`port`] | the one interface between the node and its doors: bounded queues of values | decide |
//! | [`store`] | SQLite: the log, the outbox, the notes; one writer, group commits | decide policy |
//! | [`net`] | the libp2p shell: swarm, transports, discovery | decide policy |
//! | [`irc`] | `proto` (without IO), `listener` (serves clients), `network` (links to IRC networks) | let a raw line past its edge |
//! | [`matrix`] | `proto` (without IO), HTTP in (`appservice`, `intake`), HTTP out (`courier`, `homeserver`), `crypto` for encrypted rooms, the bot | acknowledge before the commit |
//! | [`control`] | the Unix socket over which the command line asks the running node | decide |
//! | [`runtime`] | clock, driver loop, supervision, shutdown, logging; alone reads time or spawns the node | hold chat logic |
//! | [`cli`] | the commands, `doctor`, and the demo with the real programs it drives | go around the node |
//!
//! Imports only go up this table: `base ← machine ← chat ← replica ← node ← port ← {store, net, irc, matrix,
//! control} ← runtime ← cli`, and those in braces never import each other. `tests/it/tidy.rs` checks it,
//! and the words that pure rooms must not say. Still to be built: `seal` (encryption between devices), `web`
//! (dashboard, metrics).
//!
//! # One message, from Matrix to IRC and to a peer
//!
//! 1. `matrix::appservice` takes a PUT, checks the token, and hands body and id to `matrix::intake`.
//! 2. `matrix::proto::translate` makes of each event what it means; the intake hands it to the node as a
//!    [`Submission`](chat::intent::Submission): who, which [`Intent`](chat::intent::Intent), and its origin
//!    (the link and the event's id there, by which it is known when it comes again).
//! 3. [`runtime`]'s driver, on the node's own thread, gathers what waits and calls
//!    [`Node::handle`](node::Node::handle) for each. `node/submit.rs` makes the author a member if need be,
//!    and what to say an act; `node/admit.rs` signs it as an event with the author's device; `replica` builds the
//!    action that the event stands for (`chat::build`), has `machine` check it and run the logics, then appends
//!    the event to the author's lane.
//! 4. `handle` returns outputs in order: first `Commit` with the event, an outbox row for each link that must
//!    get it, and the origin; then what follows from it. The driver commits the batches of all those inputs in
//!    one SQLite transaction, and only then carries out the rest: `Reply` (now the homeserver gets its 200),
//!    `Deliver`, `SendEvents`.
//! 5. `Deliver` goes to a door through its queue (`DeliverStored` too, its event read back from the store).
//!    The IRC listener's `irc::proto::hub` decides which clients see it, and `render` how. A row for an IRC
//!    network or a Matrix room stays in the outbox until its door reports that it arrived, or never can; what
//!    is in doubt is handed over again marked `uncertain`, and the door finds out first whether it did.
//! 6. `SendEvents` becomes packets for every domain this node is in; with the topology `gossip` they are
//!    published with gossipsub, else `overlay::topology` says whom to send them to; `net` does it. Who is in
//!    which domain was proved when the two nodes met (`overlay::admission`).
//! 7. At the peer `net` hands in bytes once, whichever domains they came by, and carries them into those of its
//!    others that have not got them meanwhile (`overlay::crossing`); `runtime`'s verifier decodes them and checks signatures on a thread of
//!    its own, and `node/sync.rs` lets `replica` take the events in, or hold them until their past is there.
//!    Then steps 4 to 6, there. Lost packets do not matter: nodes tell each other fingerprints of their
//!    channels every few seconds, and whoever differs says how far it has come along each lane.
//!
//! # What always holds
//!
//! - **Commit before you speak.** No effect leaves before the batch that caused it is durable. It rests on the
//!   order of outputs alone: nothing comes back to the node to say that a commit is done.
//! - **One writer.** Only `Node::handle` changes anything. Others submit wishes, or read what is durable.
//! - **Same inputs, same outputs**, byte for byte. Time comes in as an argument; every key comes from the node's
//!   one secret. The simulator (`tests/it/sim`) lives on it.
//! - **An event is valid for ever or never**, from its bytes and its past alone. Nodes that hold the same events
//!   have the same `state_root`, whatever order these came in.
//! - **An event carries its act, not its action**: whoever verifies it builds the action anew from the act, the
//!   event's id and what the lane held. So a witness never travels, and nothing in it can be forged.
//! - **A channel's deliveries to one link go in order**, each until it arrived or never can.
//! - **A wish may come twice and is granted once**: its origin is committed together with its event.
//! - **Every queue has a bound** (`base::limits`, or beside its owner) and a written behaviour when full. A
//!   peer's, a client's or a homeserver's bytes never make us panic.
//!
//! # Glossary
//!
//! | word | means |
//! |---|---|
//! | resource, commitment, nullifier, action, delta, logic | as in the Anoma resource machine: see [`machine`] |
//! | intent | what somebody wants; it may be refused |
//! | act | what an event does; it was signed |
//! | event | an act with its place in the history: channel, lane, sequence number, what it was said after |
//! | lane | the line of events that one device signs in one channel |
//! | parcel, packet | an event with its detachable payload; what one node sends to another |
//! | person, identity, device | somebody a node speaks for, and the keys derived for them from the node's secret |
//! | domain | nodes that share one overlay; whom a packet goes to |
//! | gateway | a node in several domains: it carries what is said in each into the others |
//! | door | Matrix, the IRC listener, one IRC network, or control: where people and programs reach the node |
//! | link | a place beyond a door that carries a channel: a Matrix room, a network's IRC channel |
//! | origin | the link and the id there of what a message was before it came here |
//! | news, delivery | an event as doors show it; news on their way to one door |
//! | outbox | deliveries that must reach the far end of a link |
//! | note | what a door asks the node to remember for it |
//! | portal, ghost | a Matrix room that Multichat made for a channel; a Matrix user that stands for somebody elsewhere |
//! | asset, holding | a token or a ticket; a piece of it that somebody owns |
//! | consent | a signature that lets an action consume what its signer owns |
//! | solver, settlement | whoever finds intents that balance together; those intents, carried out as one event |
//! | place of a settlement | where it stands in the order that decides between rivals |
//! | holder | a node that holds a link to an IRC network together with others; one of them carries it at a time |
//! | relay | one connection that speaks for everybody on an IRC network |

pub mod base;
pub mod chat;
pub mod cli;
pub mod control;
pub mod irc;
pub mod machine;
pub mod matrix;
pub mod net;
pub mod node;
pub mod overlay;
pub mod port;
pub mod replica;
pub mod runtime;
pub mod store;
