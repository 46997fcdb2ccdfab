//! A person on the IRC side, as a program: the demo's Bob and Carol, on the `irc` crate.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::StreamExt;
use irc::client::prelude::{Client, Command, Config, Prefix, Response};
use irc::client::{ClientStream, Sender};
use tokio::task::JoinHandle;

use super::journal::Journal;
use super::trouble::Trouble;

const PATIENCE: Duration = Duration::from_secs(30);

/// One line that the server sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The nick that it comes from; empty for the server itself.
    pub from: String,
    /// The command or numeric, such as `PRIVMSG` or `001`.
    pub command: String,
    /// Its parameters, in order.
    pub params: Vec<String>,
    pub at: Instant,
}

impl Line {
    /// Whether somebody said exactly this in a channel (or to a person).
    pub fn says(&self, target: &str, text: &str) -> bool {
        self.command == "PRIVMSG" && self.params.iter().map(String::as_str).eq([target, text])
    }

    /// Whether somebody said something with this in it in a channel (or to a person).
    pub fn mentions(&self, target: &str, part: &str) -> bool {
        let of_target = self.params.first().is_some_and(|to| to == target);
        self.command == "PRIVMSG" && of_target && self.params.get(1).is_some_and(|text| text.contains(part))
    }
}

/// A connected and registered IRC user. Leaves when dropped.
#[derive(Debug)]
pub struct IrcUser {
    nick: String,
    sender: Sender,
    heard: Journal<Line>,
    listening: JoinHandle<()>,
}

impl IrcUser {
    /// Connects and registers; returns once the server has said welcome.
    ///
    /// # Errors
    /// Why it could not connect, or that the server said nothing.
    pub async fn connect(address: SocketAddr, nick: &str, real_name: &str) -> Result<Self, Trouble> {
        let config = Config {
            nickname: Some(nick.to_owned()),
            realname: Some(real_name.to_owned()),
            server: Some(address.ip().to_string()),
            port: Some(address.port()),
            use_tls: Some(false),
            // No throttle of our own: what the server allows is the server's to say.
            max_messages_in_burst: Some(u32::MAX),
            burst_window_length: Some(1),
            ..Config::default()
        };
        let doing = format!("connecting {nick} to IRC at {address}");
        let connecting = Box::pin(Client::from_config(config));
        let mut client = tokio::time::timeout(PATIENCE, connecting)
            .await
            .map_err(|_| Trouble::Late { awaited: doing.clone(), waited_s: PATIENCE.as_secs() })?
            .map_err(|e| Trouble::failed(&doing, e))?;
        let stream = client.stream().map_err(|e| Trouble::failed(&doing, e))?;
        client.identify().map_err(|e| Trouble::failed(&doing, e))?;
        let heard = Journal::default();
        let sender = client.sender();
        let listening = tokio::spawn(listen(client, stream, heard.clone()));
        let user = Self { nick: nick.to_owned(), sender, heard, listening };
        user.wait_for(&format!("the welcome of IRC to {nick}"), PATIENCE, |line| line.command == "001")
            .await?;
        Ok(user)
    }

    /// The nick it registered.
    pub fn nick(&self) -> &str {
        &self.nick
    }

    /// Joins a channel; returns once the server has listed who is in it.
    ///
    /// # Errors
    /// [`Trouble::Failed`] with the server's words if it refused.
    pub async fn join(&self, channel: &str) -> Result<(), Trouble> {
        let doing = format!("{} joining {channel}", self.nick);
        self.sender.send_join(channel).map_err(|e| Trouble::failed(&doing, e))?;
        let answer = self
            .wait_for(&doing, PATIENCE, |line| {
                let names_it = line.params.iter().any(|param| param.eq_ignore_ascii_case(channel));
                names_it && (line.command == "366" || line.command.starts_with('4'))
            })
            .await?;
        if answer.command == "366" { Ok(()) } else { Err(Trouble::failed(doing, answer.params.join(" "))) }
    }

    /// Says a line.
    ///
    /// # Errors
    /// [`Trouble::Failed`] if the connection is gone.
    pub fn say(&self, target: &str, text: &str) -> Result<(), Trouble> {
        let doing = format!("{} speaking in {target}", self.nick);
        self.sender.send_privmsg(target, text).map_err(|e| Trouble::failed(doing, e))
    }

    /// The first line that fits, past or to come.
    ///
    /// # Errors
    /// [`Trouble::Late`].
    pub async fn wait_for(
        &self,
        awaited: &str,
        within: Duration,
        fits: impl Fn(&Line) -> bool,
    ) -> Result<Line, Trouble> {
        self.heard.wait_for(awaited, within, fits).await
    }

    /// Every line so far.
    pub fn heard(&self) -> Vec<Line> {
        self.heard.all()
    }

    /// Whether the connection still stands.
    pub fn is_connected(&self) -> bool {
        !self.listening.is_finished()
    }
}

impl Drop for IrcUser {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(client: Client, mut stream: ClientStream, heard: Journal<Line>) {
    // The client is kept because the stream answers the server's pings through it.
    let _client = client;
    while let Some(Ok(message)) = stream.next().await {
        let from = match &message.prefix {
            Some(Prefix::Nickname(nick, _, _)) => nick.clone(),
            _ => String::new(),
        };
        let (command, params) = parts(message.command);
        heard.write(Line { from, command, params, at: Instant::now() });
    }
}

/// A message as the words it had on the wire.
fn parts(command: Command) -> (String, Vec<String>) {
    match command {
        Command::Response(response, params) => (numeric(response), params),
        Command::Raw(command, params) => (command, params),
        Command::PRIVMSG(target, text) => ("PRIVMSG".into(), vec![target, text]),
        Command::NOTICE(target, text) => ("NOTICE".into(), vec![target, text]),
        other => {
            let line = String::from(&other);
            let mut words = line.trim_end().splitn(2, " :");
            let middle = words.next().unwrap_or_default();
            let mut params: Vec<String> = middle.split(' ').map(str::to_owned).collect();
            let command = params.remove(0);
            params.extend(words.next().map(str::to_owned));
            (command, params)
        }
    }
}

fn numeric(response: Response) -> String {
    format!("{:03}", response as u16)
}
