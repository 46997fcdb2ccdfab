//! The configuration file as a person reads it: one commented text, from which both
//! `config.example.yaml` and the file that `init` writes are rendered.

/// What differs between one written file and another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sketch {
    pub data_dir: String,
    /// `node.name` and `matrix.server_name`.
    pub server_name: String,
    pub homeserver: String,
    /// Path of the registration file, relative to the configuration file.
    pub registration: String,
    /// Whether the network and the link that serve as examples are in force or commented out.
    pub samples: bool,
}

/// The top-level `config.example.yaml`.
pub fn example() -> String {
    let head = "# An example. `multichat init` writes one of your own, with fresh tokens beside it.\n";
    let sketch = Sketch {
        data_dir: "/var/lib/multichat".into(),
        server_name: "example.org".into(),
        homeserver: "http://127.0.0.1:8008".into(),
        registration: "registration.yaml".into(),
        samples: true,
    };
    format!("{head}{}", commented(&sketch))
}

/// A configuration file with a comment for each key.
pub fn commented(sketch: &Sketch) -> String {
    let (data_dir, server_name) = (scalar(&sketch.data_dir), scalar(&sketch.server_name));
    let (homeserver, registration) = (scalar(&sketch.homeserver), scalar(&sketch.registration));
    let admin = format!("@admin:{}", sketch.server_name);
    let networks = sample(sketch.samples, "networks", NETWORKS);
    let links = sample(sketch.samples, "links", &LINKS.replace("SERVER", &sketch.server_name));
    let admins = match sketch.samples {
        true => format!("[\"{admin}\"]"),
        false => format!("[]                     # [\"{admin}\"]"),
    };
    format!(
        "\
# Values may contain ${{NAME}}, taken from the environment ($$ is one dollar); a password may be
# given as password_file instead. Paths are relative to this file. Unknown keys are errors.

# Everything durable is kept here, and the control socket.
data_dir: {data_dir}

# How other nodes reach this one.
node:
  name: {server_name}
  listen:                        # multiaddresses; port 0 is chosen and printed
    - /ip4/0.0.0.0/udp/7700/quic-v1
    - /ip4/0.0.0.0/tcp/7700
  external: []                   # addresses to announce, where they differ
  bootstrap: []                  # multiaddresses of nodes to dial at start
  lan: true                      # find nodes on the local network by mDNS

# The domains to join. Nodes of one domain have the same name and topology for it: gossip, tree or
# mesh (a few nodes, all linked). A node in several carries everything from each into the others.
domains:
  - {{name: public, topology: gossip, admission: open}}
  # - {{name: team, topology: mesh, admission: psk, psk_file: team.psk}}  # whoever has the key
  # - {{name: club, topology: tree, admission: invite}}  # the founder; guests add `invite_file: club.invite`

# The homeserver to serve as an application service. Leave the section out to run without Matrix.
matrix:
  homeserver: {homeserver}
  server_name: {server_name}
  registration: {registration}  # the homeserver reads the same file
  listen: 127.0.0.1:7701         # where the homeserver pushes to: the `url` of the registration
  admins: {admins}
  public_url: null               # https://…, passing /media/ on to `listen`: links to files for IRC
  encryption: {{allow: false}}     # true: encrypted rooms can be linked; this node reads what is said there

# IRC: a server for your own clients, and links to networks.
irc:
  server_name: multichat.local
  network: Multichat             # the name that clients show
  description: a node of Multichat
  listen:
    - {{address: \"127.0.0.1:6667\"}}
    # - {{address: \"0.0.0.0:6697\", tls: {{cert: cert.pem, key: key.pem}}}}
    # - {{address: \"127.0.0.1:8067\", websocket: true}}
    # - {{address: \"127.0.0.1:6668\", proxies: [127.0.0.1]}}  # behind a proxy that speaks PROXY
  flood: {{burst: 10, per_second: 4}}  # lines a client may send; null: no limit
  limits: {{per_address: 32, per_minute: 60}}  # connections of one address; this machine is exempt
  accounts:
    registration: true           # anybody may register an account
    before_connect: false        # also before they have finished connecting
    email: false                 # and have to name an e-mail address (operators see it; nothing is sent)
    always_on: true              # accounts stay in their channels while they are away
    guests: stay                 # so do clients without an account (stay), or they go (leave)
  password: null                 # server password (PASS)
  opers: []                      # - {{name: admin, password_file: admin.password}}: who may OPER
  cloak: true                    # hosts are shown as a hash
  sts: null                      # {{port: 6697, duration_s: 2592000}}: tells clients to come by TLS
{networks}
# Channels bridged from the start: a Matrix room, `network/#channel`, or both.
{links}
# What to log: error, warn, info, debug, trace, or by part, such as info,multichat::irc=debug.
log: info
"
    )
}

const NETWORKS: &str = "  \
  networks:
    libera:
      address: irc.libera.chat:6697
      tls: true
      nick: multichat
      owner: admin@example.org   # who runs this node, for the network's operators to see
      # sasl: {account: multichat, password_file: libera.password}
      # client_cert: {cert: libera.pem, key: libera.key}  # for CertFP or `mechanism: external`
      mode: relay                # one connection speaks for all
      consent: ask               # a channel's operators say `!mc allow` first; given: they did
      # failover_with: [multichat2]  # nicks of other nodes with the same links: one carries at a time
      # ignore: [otherbot]       # nicks that are not carried, such as other relays in these channels
      flood: {burst: 5, per_second: 2}  # lines this node may send; null: no limit
";

const LINKS: &str = "\
links:
  - {channel: \"#rust\", matrix: \"#rust:SERVER\", irc: \"libera/#rust\"}
";

/// The sample itself, or an empty value with the sample in comments below it.
fn sample(in_force: bool, key: &str, lines: &str) -> String {
    if in_force {
        return lines.to_owned();
    }
    let indent = lines.len() - lines.trim_start().len();
    let (margin, empty) = (" ".repeat(indent), if key == "links" { "[]" } else { "{}" });
    let mut text = format!("{margin}{key}: {empty}\n");
    for line in lines.lines().skip(1) {
        text.push_str(&format!("{margin}# {}\n", &line[indent..]));
    }
    text
}

/// A YAML scalar: plain where that is safe, else in double quotes (JSON strings are YAML).
fn scalar(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let url = text.strip_prefix("http://").or(text.strip_prefix("https://"));
    let body = url.unwrap_or(text);
    let (host, port) = body.split_once(':').unwrap_or((body, "0"));
    let looks_like_text = body.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') || url.is_some();
    let is_keyword = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"]
        .contains(&text.to_ascii_lowercase().as_str());
    let port_is_fine = port.chars().all(|c| c.is_ascii_digit()) && (url.is_some() || !body.contains(':'));
    if looks_like_text && !is_keyword && !host.is_empty() && host.chars().all(safe) && port_is_fine {
        return text.to_owned();
    }
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::{Config, EncryptionConfig, LinkConfig, MatrixConfig, Surroundings};

    fn load(text: &str) -> Config {
        let around = Surroundings { env: &|_| None, secret: &|_| Err("none".into()) };
        Config::load(text, &around).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn sketch() -> Sketch {
        Sketch {
            data_dir: "data".into(),
            server_name: "localhost".into(),
            homeserver: "http://127.0.0.1:8008".into(),
            registration: "registration.yaml".into(),
            samples: false,
        }
    }

    #[test]
    fn the_example_says_what_it_seems_to_say() {
        let config = load(&example());
        assert_eq!(config.data_dir.as_deref(), Some("/var/lib/multichat"));
        assert_eq!(
            config.node,
            crate::base::config::NodeConfig { name: "example.org".into(), ..Default::default() }
        );
        assert_eq!(config.domains, Config::default().domains());
        assert_eq!(
            config.matrix,
            Some(MatrixConfig {
                homeserver: "http://127.0.0.1:8008".into(),
                server_name: "example.org".into(),
                registration: "registration.yaml".into(),
                listen: "127.0.0.1:7701".into(),
                admins: vec!["@admin:example.org".into()],
                public_url: None,
                encryption: EncryptionConfig::default(),
            })
        );
        let libera = &config.irc.networks["libera"];
        assert_eq!((libera.address.as_str(), libera.tls), ("irc.libera.chat:6697", true));
        assert_eq!(
            config.links,
            [LinkConfig {
                channel: "#rust".into(),
                matrix: Some("#rust:example.org".into()),
                irc: Some("libera/#rust".into()),
            }]
        );
        let networks = config.irc.networks.clone();
        let defaults = crate::base::config::IrcConfig { networks, ..Default::default() };
        assert_eq!(config.irc, defaults, "every other key of `irc` shows its default");
        assert_eq!(config.log, "info");
    }

    #[test]
    fn the_file_of_init_has_its_samples_in_comments() {
        let text = commented(&sketch());
        let config = load(&text);
        assert!(config.irc.networks.is_empty() && config.links.is_empty());
        assert!(config.matrix.is_some_and(|matrix| matrix.admins.is_empty()));
        for line in ["  networks: {}", "  # ", "links: []", "#   - {channel: \"#rust\""] {
            assert!(text.contains(line), "{line:?} in\n{text}");
        }
    }

    #[test]
    fn odd_values_survive() {
        for value in ["C: drive/#x", "no", "a\"b\\c", "éà", "/tmp/with space", "1.5", "~", "http://h:80 # x"]
        {
            let config = load(&commented(&Sketch { data_dir: value.into(), ..sketch() }));
            assert_eq!(config.data_dir.as_deref(), Some(value));
        }
        assert_eq!(scalar("https://matrix.example.org"), "https://matrix.example.org");
        assert_eq!(scalar("http://127.0.0.1:8008"), "http://127.0.0.1:8008");
        assert_eq!(scalar("/var/lib"), "/var/lib");
    }
}
