//! A person on IRC who keeps coming back: connects, joins, reads, says numbered lines, and
//! connects again when the server goes. Everything is written down in the order it happened.
//!
//! When a line counts as said: on a server that echoes (`echo-message`) once its echo has come,
//! live or replayed after a reconnection; the server echoes only what is durable. After a
//! reconnection the person says a mark and waits for its echo. A server of ours shows what was
//! missed before anything new, so a line that has not come back by then was not taken, and is said
//! again as another attempt. On a server without echoes a line counts as said when it is written.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use irc::proto::{Command, Message, Prefix, Response};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::words::Word;

/// Lines on the way without an echo.
const UNECHOED: usize = 16;
/// A connection that says nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(240);
const RECONNECT: Duration = Duration::from_millis(200);

/// Who it is, and where.
#[derive(Clone)]
pub struct Person {
    pub name: &'static str,
    pub address: SocketAddr,
    pub channel: &'static str,
    /// The server echoes.
    pub echoes: bool,
    pub lines: usize,
    pub pace: Duration,
    /// Whose coming and going in the channel is written down.
    pub watches: &'static str,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Happened {
    Connected,
    /// The watched one is in the channel.
    Came,
    /// It no longer is.
    Went,
    Said(Word),
    Heard(String),
    /// The server would not take something.
    Refused(String),
}

/// A person at a client. Leaves when dropped.
pub struct Client {
    events: Arc<Mutex<Vec<Happened>>>,
    task: JoinHandle<()>,
}

impl Client {
    /// Seats a person, who speaks once `go` is true.
    pub fn seat(person: Person, go: watch::Receiver<bool>) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let mut life = Life { person, go, events: events.clone(), said: BTreeSet::new(), connections: 0 };
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = life.connection().await {
                    println!("{}: {error}; connecting again", life.person.name);
                }
                tokio::time::sleep(RECONNECT).await;
            }
        });
        Self { events, task }
    }

    /// Everything that happened so far.
    pub fn events(&self) -> Vec<Happened> {
        self.events.lock().unwrap().clone()
    }

    /// What was read, session by session.
    pub fn sessions(&self) -> Vec<Vec<String>> {
        let mut sessions = Vec::new();
        for event in self.events() {
            match event {
                Happened::Connected => sessions.push(Vec::new()),
                Happened::Heard(text) => sessions.last_mut().into_iter().for_each(|s| s.push(text.clone())),
                _ => {}
            }
        }
        sessions
    }

    /// What the server would not take.
    pub fn refused(&self) -> Vec<Happened> {
        self.events().into_iter().filter(|event| matches!(event, Happened::Refused(_))).collect()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What lasts longer than a connection.
struct Life {
    person: Person,
    go: watch::Receiver<bool>,
    events: Arc<Mutex<Vec<Happened>>>,
    /// Numbers of the lines that count as said.
    said: BTreeSet<usize>,
    connections: usize,
}

/// One connection.
struct Connection {
    writer: OwnedWriteHalf,
    /// The mark whose echo is awaited.
    mark: Option<String>,
    in_channel: bool,
    /// The next line to say.
    next: usize,
}

impl Life {
    async fn connection(&mut self) -> std::io::Result<()> {
        let (reader, writer) = TcpStream::connect(self.person.address).await?.into_split();
        self.connections += 1;
        self.write_down(Happened::Connected);
        let nick = self.person.name;
        let mut connection = Connection { writer, mark: None, in_channel: false, next: 1 };
        if self.person.echoes {
            let wanted = "message-tags server-time batch echo-message labeled-response";
            connection.send(&format!("CAP REQ :{wanted}")).await?;
        }
        connection.send(&format!("NICK {nick}\r\nUSER {nick} 0 * :{nick}\r\nCAP END")).await?;
        self.talk(&mut connection, reader).await
    }

    async fn talk(&mut self, connection: &mut Connection, reader: OwnedReadHalf) -> std::io::Result<()> {
        let mut lines = BufReader::new(reader).lines();
        let mut heard = tokio::time::Instant::now();
        let mut turn = tokio::time::interval(self.person.pace);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                line = lines.next_line() => {
                    let Some(line) = line? else { return Err(std::io::Error::other("the server closed")) };
                    heard = tokio::time::Instant::now();
                    if let Ok(message) = line.parse::<Message>() {
                        self.read(connection, &message, &line).await?;
                    }
                }
                _ = turn.tick() => self.speak(connection).await?,
                () = tokio::time::sleep_until(heard + SILENCE) => {
                    return Err(std::io::Error::other("the server says nothing"));
                }
            }
        }
    }

    async fn read(
        &mut self,
        connection: &mut Connection,
        message: &Message,
        line: &str,
    ) -> std::io::Result<()> {
        let channel = self.person.channel;
        let from = match &message.prefix {
            Some(Prefix::Nickname(nick, _, _)) => nick.as_str(),
            _ => "",
        };
        match &message.command {
            Command::PING(token, _) => return connection.send(&format!("PONG :{token}")).await,
            Command::Response(Response::RPL_WELCOME, _) => {
                return connection.send(&format!("JOIN {channel}")).await;
            }
            Command::Response(Response::RPL_NAMREPLY, names) => {
                let names = names.last().map(String::as_str).unwrap_or_default();
                let is_it =
                    |name: &str| name.trim_start_matches(['@', '+', '~', '&', '%']) == self.person.watches;
                if names.split(' ').any(is_it) {
                    self.write_down(Happened::Came);
                }
            }
            Command::Response(Response::RPL_ENDOFNAMES, _) => return self.joined(connection).await,
            Command::JOIN(..) if from == self.person.watches => self.write_down(Happened::Came),
            Command::QUIT(_) | Command::PART(..) | Command::KICK(..) if from == self.person.watches => {
                self.write_down(Happened::Went);
            }
            Command::PRIVMSG(_, text) => self.heard(connection, from, text),
            Command::Response(response, _) if *response as u16 >= 400 && connection.in_channel => {
                self.write_down(Happened::Refused(line.to_owned()));
            }
            Command::Raw(command, _) if command == "FAIL" => {
                self.write_down(Happened::Refused(line.to_owned()));
            }
            Command::ERROR(why) => return Err(std::io::Error::other(why.clone())),
            _ => {}
        }
        Ok(())
    }

    async fn joined(&mut self, connection: &mut Connection) -> std::io::Result<()> {
        connection.in_channel = true;
        if !self.person.echoes {
            connection.next = self.said.last().map_or(1, |last| last + 1);
            return Ok(());
        }
        let mark = format!("{} is here for the {}. time", self.person.name, self.connections);
        let line = format!("PRIVMSG {} :{mark}", self.person.channel);
        connection.mark = Some(mark);
        connection.send(&line).await
    }

    fn heard(&mut self, connection: &mut Connection, from: &str, text: &str) {
        self.write_down(Happened::Heard(text.to_owned()));
        if from != self.person.name {
            return;
        }
        if let Some(word) = Word::of(self.person.name, text) {
            self.said.insert(word.number);
        }
        if connection.mark.as_deref() == Some(text) {
            connection.mark = None;
            connection.next = self.first_unsaid();
        }
    }

    /// Says the next line, if it is time to and there is one.
    async fn speak(&mut self, connection: &mut Connection) -> std::io::Result<()> {
        let ready = *self.go.borrow() && connection.in_channel && connection.mark.is_none();
        let number = connection.next;
        let is_far_ahead = self.person.echoes && number >= self.first_unsaid() + UNECHOED;
        if !ready || number > self.person.lines || is_far_ahead {
            return Ok(());
        }
        let word = Word { number, attempt: self.connections };
        connection.next += 1;
        if !self.person.echoes {
            self.said.insert(number);
        }
        self.write_down(Happened::Said(word));
        let text = word.said_by(self.person.name);
        // With a label the answer is one of its own kind; it is the same echo.
        let label = if self.person.echoes { format!("@label={number} ") } else { String::new() };
        connection.send(&format!("{label}PRIVMSG {} :{text}", self.person.channel)).await
    }

    fn first_unsaid(&self) -> usize {
        (1..).find(|number| !self.said.contains(number)).unwrap_or(usize::MAX)
    }

    fn write_down(&self, event: Happened) {
        self.events.lock().unwrap().push(event);
    }
}

impl Connection {
    async fn send(&mut self, line: &str) -> std::io::Result<()> {
        self.writer.write_all(format!("{line}\r\n").as_bytes()).await
    }
}
