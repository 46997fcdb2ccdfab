//! What people without manners do to the listener while two others talk: they get the right answer, and the
//! two lose nothing and are served on. How long their words took meanwhile, beside when it was quiet, is
//! printed (`--nocapture`); no time fails a test.

use std::net::SocketAddr;
use std::time::Instant;

use super::*;

/// Words of the two that are timed in quiet.
const WORDS: usize = 100;
/// Connections that want nothing, or take for ever.
const IDLE: usize = 100;

/// Two who talk.
struct Pair {
    bob: Client<TcpStream>,
    carol: Client<TcpStream>,
    said: usize,
}

impl Pair {
    async fn in_channel(served: &Served) -> Self {
        let (mut bob, mut carol) = (served.client("bob").await, served.client("carol").await);
        bob.send("JOIN #c").await;
        bob.until(" 366 ").await;
        carol.send("JOIN #c").await;
        carol.until(" 366 ").await;
        Self { bob, carol, said: 0 }
    }

    /// One says something and waits until the other has it: how many milliseconds that took.
    async fn exchange(&mut self) -> f64 {
        self.said += 1;
        let (text, began) = (format!("word-{}", self.said), Instant::now());
        self.bob.send(&format!("PRIVMSG #c :{text}")).await;
        let heard = self.carol.until(" PRIVMSG #c :word-").await;
        assert!(heard.ends_with(&format!(" PRIVMSG #c :{text}")), "none lost, none twice: {heard}");
        began.elapsed().as_secs_f64() * 1000.0
    }

    async fn quiet(&mut self) -> Vec<f64> {
        let mut times = Vec::new();
        for _ in 0..WORDS {
            times.push(self.exchange().await);
        }
        times
    }

    /// The same as long as something else goes on.
    async fn while_going(&mut self, what: &str, quiet: &[f64], attack: JoinHandle<()>) {
        let mut times = Vec::new();
        while !attack.is_finished() || times.len() < 10 {
            times.push(self.exchange().await);
            // The attacker alone shall be busy.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        attack.await.unwrap();
        let (before, during) = (median(quiet), median(&times));
        eprintln!("{what}: {during:.2} ms beside {before:.2} ms, {:.1} times", during / before);
    }
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

async fn stranger(address: SocketAddr) -> Client<TcpStream> {
    Client::over(TcpStream::connect(address).await.unwrap())
}

async fn registered(address: SocketAddr, nick: &str) -> Client<TcpStream> {
    let mut client = stranger(address).await;
    client.register(nick).await;
    client
}

/// Registrations that come a byte at a time and never end, and connections that say nothing.
async fn dawdlers(address: SocketAddr) {
    let mut all = Vec::new();
    for _ in 0..IDLE {
        all.push(stranger(address).await);
    }
    for byte in b"NICK a-very-slow-o" {
        for client in all.iter_mut().step_by(2) {
            client.bytes(&[*byte]).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Who makes up their mind is served as anybody.
    all[0].bytes(b"ne\r\nUSER u 0 * :x\r\n").await;
    all[0].until(" 001 a-very-slow-one ").await;
}

/// Connections that come and go.
async fn passers_by(address: SocketAddr) {
    for _ in 0..5 * IDLE {
        let mut client = stranger(address).await;
        client.bytes(b"NICK passer\r\n").await;
    }
    registered(address, "passer-after-all").await;
}

/// A megabyte without an end, as a stranger and as somebody.
async fn windbags(address: SocketAddr) {
    let megabyte = vec![b'x'; 1024 * 1024];
    for mut client in [stranger(address).await, registered(address, "windbag").await] {
        client.bytes(&megabyte).await;
        client.bytes(b"\r\nPING after\r\n").await;
        client.until(" 417 ").await;
        client.until(" PONG ").await;
        client.bytes(b"PRIVMSG #c :\xff\xfe\xc0\r\n").await;
        client.until(" INVALID_UTF8 ").await;
        client.bytes(b"\0\0\r\n\r\n\r\n:::: \r\n@@@ x\r\n@a=b;;;=\r\nPING last\r\n").await;
        client.until(" PONG ").await;
    }
}

/// As many channels as go into many lines.
async fn joiners(address: SocketAddr) {
    let mut client = registered(address, "joiner").await;
    for line in 0..20 {
        let names: Vec<String> = (0..60).map(|n| format!("#{line}x{n}")).collect();
        client.send(&format!("JOIN {}", names.join(","))).await;
        client.until(" 407 joiner ").await;
    }
    client.send("JOIN 0").await;
    client.send("PING done").await;
    client.until(" PONG ").await;
}

/// Nicks one after the other, good and bad, and one that is somebody's.
async fn turncoats(address: SocketAddr) {
    let mut client = registered(address, "turncoat").await;
    for n in 0..100 {
        client.send(&format!("NICK turncoat{n}")).await;
        client.until(&format!(" NICK :turncoat{n}")).await;
        client.send("NICK bob").await;
        client.until(" 433 ").await;
        client.send("NICK 1-!-@").await;
        client.until(" 432 ").await;
    }
}

#[tokio::test]
async fn who_has_no_manners_gets_the_right_answer_and_the_others_are_served_on() {
    let served = serve(&config(None), Arc::default()).await;
    let address = served.addresses[0];
    let mut pair = Pair::in_channel(&served).await;
    let quiet = pair.quiet().await;
    pair.while_going("dawdlers", &quiet, tokio::spawn(dawdlers(address))).await;
    pair.while_going("passers-by", &quiet, tokio::spawn(passers_by(address))).await;
    pair.while_going("a megabyte in a line", &quiet, tokio::spawn(windbags(address))).await;
    pair.while_going("many joins", &quiet, tokio::spawn(joiners(address))).await;
    pair.while_going("many nicks", &quiet, tokio::spawn(turncoats(address))).await;
    served.stop().await;
}

#[tokio::test]
async fn no_field_from_elsewhere_begins_a_line_of_its_own() {
    let served = serve(&config(None), Arc::default()).await;
    let mut pair = Pair::in_channel(&served).await;
    let forged = "\r\n:bob!bob@multichat.local PRIVMSG #c :forged\r\n";
    for (home, text) in [
        ("@mallory:evil.org".to_owned(), format!("text{forged}")),
        (format!("@mal{forged}:evil.org"), "a name".to_owned()),
        (format!("@mallory:evil{forged}.org"), "a home".to_owned()),
        ("@nul\0nul:evil.org".to_owned(), "x\0y".to_owned()),
    ] {
        let news = served.node.lock().unwrap().elsewhere(&home, "#c", Content::text(text));
        for news in news {
            let delivery = Delivery { id: 0, link: None, uncertain: false, news };
            served.deliveries.send(delivery).await.unwrap();
        }
    }
    served.said("#c", "the end").await;
    loop {
        let line = pair.carol.next().await.unwrap();
        assert!(!line.starts_with(":bob!"), "{line}");
        assert!(
            line.starts_with(':') && [" JOIN ", " PRIVMSG "].iter().any(|verb| line.contains(verb)),
            "{line}"
        );
        if line.contains("the end") {
            break;
        }
    }
    pair.exchange().await;
    served.stop().await;
}
