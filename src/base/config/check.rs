//! Whether a configuration that parses can also run: addresses, names, links. It looks at values
//! alone; what depends on the machine (ports, files, servers) is for `doctor`.

use std::collections::BTreeSet;

use super::{
    Admission, Config, ConfigError, DomainConfig, FloodConfig, IrcConfig, LinkConfig, MatrixConfig,
    NetworkConfig, SaslMechanism, Topology, irc_parts,
};

/// Domains of one node.
const DOMAINS: usize = 16;
/// Bytes of a pre-shared key, at the least: it can be guessed at by whoever hears it used.
const PSK_BYTES: usize = 16;

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// The first one that cannot be right.
    pub fn check(&self) -> Result<(), ConfigError> {
        require(
            self.data_dir.as_deref() != Some(""),
            "data_dir",
            "is empty: leave it out or name a directory",
        )?;
        require(!self.log.trim().is_empty(), "log", "is empty: try `info`")?;
        self.check_node()?;
        self.check_domains()?;
        if let Some(matrix) = &self.matrix {
            matrix.check()?;
        }
        self.irc.check()?;
        self.check_links()
    }

    fn check_node(&self) -> Result<(), ConfigError> {
        let node = &self.node;
        require(is_word(&node.name), "node.name", "must be one word")?;
        require(!node.listen.is_empty(), "node.listen", "needs an address, such as /ip4/0.0.0.0/tcp/7700")?;
        for (key, addresses) in [("listen", &node.listen), ("external", &node.external)] {
            check_multiaddrs(key, addresses)?;
        }
        check_multiaddrs("bootstrap", &node.bootstrap)
    }

    fn check_domains(&self) -> Result<(), ConfigError> {
        let count = self.domains.len();
        if count > DOMAINS {
            return Err(ConfigError::at(
                "domains",
                format!("{count} domains: one node joins {DOMAINS} at most"),
            ));
        }
        let mut names = BTreeSet::new();
        for (index, domain) in self.domains.iter().enumerate() {
            let path = format!("domains[{index}]");
            require(is_word(&domain.name), &format!("{path}.name"), "must be one word")?;
            require(names.insert(&domain.name), &format!("{path}.name"), "is the name of another domain")?;
            domain.check(&path)?;
        }
        Ok(())
    }

    fn check_links(&self) -> Result<(), ConfigError> {
        let mut places = BTreeSet::new();
        for (index, link) in self.links.iter().enumerate() {
            let path = format!("links[{index}]");
            self.check_link(&path, link)?;
            for place in [&link.matrix, &link.irc].into_iter().flatten() {
                if !places.insert(place.to_lowercase()) {
                    let problem = format!("{place} is linked twice; one place carries one channel");
                    return Err(ConfigError::at(path, problem));
                }
            }
        }
        Ok(())
    }

    fn check_link(&self, path: &str, link: &LinkConfig) -> Result<(), ConfigError> {
        let channel = link.channel.strip_prefix('#');
        require(
            channel.is_some_and(is_word),
            &format!("{path}.channel"),
            "must be a name such as \"#rust\"",
        )?;
        require(link.matrix.is_some() || link.irc.is_some(), path, "needs `matrix:` or `irc:`")?;
        if let Some(room) = &link.matrix {
            let path = format!("{path}.matrix");
            let is_room = room.starts_with('!') || (room.starts_with('#') && room.contains(':'));
            require(is_room && is_word(room), &path, "must be a room: \"#alias:server\" or \"!id\"")?;
            require(self.matrix.is_some(), &path, "needs the section `matrix:`, which is missing")?;
        }
        let Some(place) = &link.irc else { return Ok(()) };
        let path = format!("{path}.irc");
        let Some((network, _)) = irc_parts(place) else {
            return Err(ConfigError::at(path, "must be `network/#channel`, such as \"libera/#rust\""));
        };
        if self.irc.networks.contains_key(network) {
            return Ok(());
        }
        let known: Vec<&str> = self.irc.networks.keys().map(String::as_str).collect();
        let problem = match known.is_empty() {
            true => format!("no network `{network}`: add it under `irc.networks`"),
            false => format!("no network `{network}` under `irc.networks`; there is {}", known.join(", ")),
        };
        Err(ConfigError::at(path, problem))
    }
}

impl DomainConfig {
    fn check(&self, path: &str) -> Result<(), ConfigError> {
        let closed = self.admission != Admission::Open;
        let gossip = self.topology == Topology::Gossip;
        require(
            !(closed && gossip),
            &format!("{path}.topology"),
            "must be `tree` or `mesh` where not everybody is let in: gossipsub sends to whoever subscribes",
        )?;
        let psk = self.psk.as_deref();
        let path_of_psk = format!("{path}.psk");
        match self.admission {
            Admission::Psk => require(
                psk.is_some_and(|psk| psk.len() >= PSK_BYTES),
                &path_of_psk,
                "must be a secret of 16 characters or more: try `openssl rand -hex 32`",
            )?,
            _ => require(psk.is_none(), &path_of_psk, "goes with `admission: psk`")?,
        }
        let invited = self.invite.is_none() || self.admission == Admission::Invite;
        require(invited, &format!("{path}.invite"), "goes with `admission: invite`")
    }
}

impl MatrixConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let rest = self.homeserver.strip_prefix("http://").or(self.homeserver.strip_prefix("https://"));
        let host = rest.map(|rest| rest.split('/').next().unwrap_or_default());
        require(
            host.is_some_and(is_word),
            "matrix.homeserver",
            "must be a URL such as http://127.0.0.1:8008 or https://matrix.example.org",
        )?;
        let name = &self.server_name;
        require(
            is_word(name) && !name.contains(['/', '@', '#']),
            "matrix.server_name",
            "must be the part after the colon of user ids, such as example.org",
        )?;
        require(
            !self.registration.is_empty(),
            "matrix.registration",
            "is empty: name the registration file",
        )?;
        check_address("matrix.listen", &self.listen)?;
        let url = self.public_url.as_deref();
        let rest = url.map(|url| url.strip_prefix("http://").or(url.strip_prefix("https://")));
        require(
            rest.is_none_or(|rest| {
                rest.is_some_and(|rest| is_word(rest) && !rest.starts_with('/') && !rest.contains(['?', '#']))
            }),
            "matrix.public_url",
            "must be a URL such as https://chat.example.org, or null",
        )?;
        for (index, admin) in self.admins.iter().enumerate() {
            let is_user = is_word(admin) && admin.starts_with('@') && admin.contains(':');
            require(
                is_user,
                &format!("matrix.admins[{index}]"),
                "must be a user id such as \"@admin:example.org\"",
            )?;
        }
        Ok(())
    }
}

impl IrcConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let name = &self.server_name;
        require(
            is_word(name) && !name.starts_with(':') && !name.contains(['!', '@']),
            "irc.server_name",
            "must be one word without ! and @, such as multichat.local",
        )?;
        for (index, listen) in self.listen.iter().enumerate() {
            let path = format!("irc.listen[{index}]");
            check_address(&format!("{path}.address"), &listen.address)?;
            for proxy in &listen.proxies {
                let is_address = proxy.parse::<std::net::IpAddr>().is_ok();
                require(is_address, &format!("{path}.proxies"), "must be IP addresses, such as 127.0.0.1")?;
            }
        }
        let network_is_word = is_word(&self.network) && !self.network.contains('=');
        require(network_is_word, "irc.network", "must be one word without =, such as Multichat")?;
        for (index, oper) in self.opers.iter().enumerate() {
            let path = format!("irc.opers[{index}]");
            require(is_word(&oper.name), &format!("{path}.name"), "must be one word")?;
            let has_password = oper.password.as_ref().is_some_and(|password| !password.is_empty());
            require(has_password, &path, "needs `password` or `password_file`")?;
        }
        check_flood("irc.flood", self.flood)?;
        require(self.password.as_deref() != Some(""), "irc.password", "is empty: write null for none")?;
        self.networks.iter().try_for_each(|(name, network)| network.check(name))
    }
}

impl NetworkConfig {
    fn check(&self, name: &str) -> Result<(), ConfigError> {
        let path = format!("irc.networks.{name}");
        require(is_word(name) && !name.contains('/'), &path, "a network's name is one word without /")?;
        check_address(&format!("{path}.address"), &self.address)?;
        require(is_nick(&self.nick), &format!("{path}.nick"), "is not a nick that IRC networks take")?;
        for nick in &self.failover_with {
            let path = format!("{path}.failover_with");
            require(is_nick(nick), &path, &format!("`{nick}` is not a nick that IRC networks take"))?;
            let problem = format!("`{nick}` is this node's own nick: name those of the other nodes");
            require(!nick.eq_ignore_ascii_case(&self.nick), &path, &problem)?;
        }
        check_flood(&format!("{path}.flood"), self.flood)?;
        let owner = self.owner.as_deref().unwrap_or("-");
        let is_line = !owner.trim().is_empty() && !owner.contains(char::is_control);
        require(is_line, &format!("{path}.owner"), "must be one line: an address to write to")?;
        require(
            self.client_cert.is_none() || self.tls,
            &format!("{path}.client_cert"),
            "is shown only over TLS: set `tls: true`",
        )?;
        let Some(sasl) = &self.sasl else { return Ok(()) };
        require(!sasl.account.is_empty(), &format!("{path}.sasl.account"), "is empty")?;
        if sasl.mechanism == SaslMechanism::External {
            let problem = "external shows a certificate: name it in `client_cert`";
            return require(self.client_cert.is_some(), &format!("{path}.sasl.mechanism"), problem);
        }
        require(
            sasl.password.as_deref().is_some_and(|password| !password.is_empty()),
            &format!("{path}.sasl"),
            "needs `password` or `password_file`",
        )
    }
}

/// Parts `host:port` and `[v6]:port`; `None` if it is neither.
pub fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']').filter(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => host,
    };
    let plain = !host.contains(['/', '[', ']'])
        && (is_word(host) && (!host.contains(':') || address.starts_with('[')));
    Some((host, port.parse().ok()?)).filter(|_| plain)
}

fn check_address(path: &str, address: &str) -> Result<(), ConfigError> {
    let problem = format!("`{address}` is not an address: write host:port, such as 127.0.0.1:6667");
    require(host_and_port(address).is_some(), path, &problem)
}

fn check_multiaddrs(key: &str, addresses: &[String]) -> Result<(), ConfigError> {
    for (index, address) in addresses.iter().enumerate() {
        let problem = format!("`{address}` is not a multiaddress, such as /ip4/192.0.2.1/udp/7700/quic-v1");
        let is_one = address.len() > 1 && address.starts_with('/') && is_word(address);
        require(is_one, &format!("node.{key}[{index}]"), &problem)?;
    }
    Ok(())
}

/// A rate of zero would hold everything back for ever.
fn check_flood(path: &str, flood: Option<FloodConfig>) -> Result<(), ConfigError> {
    let moves = flood.is_none_or(|flood| flood.burst > 0 && flood.per_second > 0);
    require(moves, path, "burst and per_second must be at least 1; write null for no limit")
}

fn is_nick(text: &str) -> bool {
    let starts_well = !text.starts_with(|c: char| c.is_ascii_digit() || "-#&:".contains(c));
    is_word(text) && starts_well && !text.contains([',', '!', '@', '*'])
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',')
}

fn require(holds: bool, path: &str, problem: &str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::at(path, problem)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::Surroundings;

    fn check(text: &str, expect: &str) {
        let around = Surroundings { env: &|_| None, secret: &|_| Err("no such file".into()) };
        let error = Config::load(text, &around).map(|_| ()).expect_err(text);
        assert!(error.to_string().starts_with(expect), "for {text}\n  got  {error}\n  want {expect}");
    }

    #[test]
    fn the_defaults_can_run() {
        assert_eq!(Config::default().check(), Ok(()));
        assert_eq!(Config::default().domains()[0].name, "public");
    }

    #[test]
    fn values_that_cannot_be_right_are_named() {
        check("log: ''", "log: is empty");
        check("data_dir: ''", "data_dir: is empty");
        check("node: {listen: []}", "node.listen: needs an address");
        check("node: {listen: ['0.0.0.0:7700']}", "node.listen[0]: `0.0.0.0:7700` is not a multiaddress");
        check("node: {bootstrap: ['']}", "node.bootstrap[0]: `` is not");
        check("irc: {listen: [{address: '6667'}]}", "irc.listen[0].address: `6667` is not an address");
        check("irc: {listen: [{address: '::1:6667'}]}", "irc.listen[0].address: ");
        check("irc: {flood: {burst: 0}}", "irc.flood: burst and per_second");
        check("irc: {networks: {a: {address: 'h:1', nick: '1a'}}}", "irc.networks.a.nick: is not a nick");
        for (nick, problem) in [("a b", "`a b` is not a nick"), ("M", "`M` is this node's own nick")] {
            let text =
                format!("irc: {{networks: {{a: {{address: 'h:1', nick: m, failover_with: ['{nick}']}}}}}}");
            check(&text, &format!("irc.networks.a.failover_with: {problem}"));
        }
        check(
            "irc: {networks: {a: {address: 'h:1', nick: m, sasl: {account: a}}}}",
            "irc.networks.a.sasl: needs `password` or",
        );
        let matrix = |rest: &str| format!("matrix: {{homeserver: 'http://h:8008', server_name: h, {rest}}}");
        check("matrix: {homeserver: localhost, server_name: h}", "matrix.homeserver: must be a URL");
        check("matrix: {homeserver: 'http://h', server_name: '@a'}", "matrix.server_name: must be the part");
        check(&matrix("public_url: chat.h"), "matrix.public_url: must be a URL");
        check(&matrix("public_url: 'https://h?x'"), "matrix.public_url: must be a URL");
        check(&matrix("listen: nowhere"), "matrix.listen: `nowhere` is not an address");
        check(&matrix("admins: [admin]"), "matrix.admins[0]: must be a user id");
    }

    #[test]
    fn links_name_known_places_once() {
        let head = "irc: {networks: {libera: {address: 'h:1', nick: m}}}\nlinks:\n";
        let links = |lines: &str| format!("{head}{lines}\n");
        check(&links("- {channel: rust, irc: 'libera/#rust'}"), "links[0].channel: must be a name");
        check(&links("- {channel: '#rust'}"), "links[0]: needs `matrix:` or `irc:`");
        check(&links("- {channel: '#rust', irc: 'libera#rust'}"), "links[0].irc: must be `network/#channel`");
        check(
            &links("- {channel: '#rust', irc: 'liberra/#rust'}"),
            "links[0].irc: no network `liberra` under `irc.networks`; there is libera",
        );
        check(&links("- {channel: '#rust', matrix: '#rust:h'}"), "links[0].matrix: needs the section");
        check(
            &links("- {channel: '#a', irc: 'libera/#rust'}\n- {channel: '#b', irc: 'libera/#Rust'}"),
            "links[1]: libera/#Rust is linked twice",
        );
    }

    #[test]
    fn addresses() {
        assert_eq!(host_and_port("127.0.0.1:0"), Some(("127.0.0.1", 0)));
        assert_eq!(host_and_port("[::1]:6697"), Some(("::1", 6697)));
        assert_eq!(host_and_port("irc.libera.chat:6697"), Some(("irc.libera.chat", 6697)));
        for bad in ["", ":1", "a", "a:", "a:70000", "::1:5", "[::1:5", "[x]:5", "http://a:1", "a b:1"] {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
    }
}
