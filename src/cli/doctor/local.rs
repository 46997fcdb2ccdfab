//! What this machine must have: a directory to write in, disk, free ports.

use std::fs;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;

use super::Finding;
use crate::base::config::Config;

const MIB: u64 = 1024 * 1024;
/// Below this much free disk: a warning.
const DISK_WARN: u64 = 1024 * MIB;
/// Below this much: no node can run for long.
const DISK_FAIL: u64 = 64 * MIB;

/// Whether the data directory, or the nearest one above it that exists, takes files.
pub fn data_dir(dir: &Path) -> Finding {
    let standing = standing(dir);
    let probe = standing.join(format!(".multichat-doctor-{}", std::process::id()));
    let tried = fs::OpenOptions::new().write(true).create_new(true).open(&probe);
    let _ = fs::remove_file(&probe);
    let shown = dir.display();
    match tried {
        Ok(_) if standing == dir => Finding::ok("data_dir", format!("{shown} takes files")),
        Ok(_) => Finding::ok("data_dir", format!("{shown} will be made")),
        Err(error) => {
            let mend = "set data_dir to a directory that this user can write in";
            Finding::fail("data_dir", format!("{}: {error}", standing.display()), mend)
        }
    }
}

/// How much room there is, where `df` (POSIX) can tell.
pub fn disk(dir: &Path) -> Option<Finding> {
    let output = Command::new("df").arg("-Pk").arg(standing(dir)).env("LC_ALL", "C").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let free =
        text.lines().nth(1)?.split_ascii_whitespace().nth(3)?.parse::<u64>().ok()?.saturating_mul(1024);
    let said = format!("{} MiB free", free / MIB);
    Some(match free {
        _ if free < DISK_FAIL => Finding::fail("disk", said, "make room, or move data_dir"),
        _ if free < DISK_WARN => Finding::warn("disk", said, "make room before it fills"),
        _ => Finding::ok("disk", said),
    })
}

/// Whether each port can be had, or is held by the running node.
pub fn ports(config: &Config, running: bool) -> Vec<Finding> {
    let mut wanted: Vec<(String, Transport, String)> = Vec::new();
    for listen in &config.irc.listen {
        wanted.push(("irc.listen".into(), Transport::Tcp, listen.address.clone()));
    }
    if let Some(matrix) = &config.matrix {
        wanted.push(("matrix.listen".into(), Transport::Tcp, matrix.listen.clone()));
    }
    for address in &config.node.listen {
        match socket_of(address) {
            Some((transport, socket)) => wanted.push(("node.listen".into(), transport, socket)),
            None => wanted.push(("node.listen".into(), Transport::Unknown, address.clone())),
        }
    }
    wanted.into_iter().map(|(key, transport, address)| port(&key, transport, &address, running)).collect()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transport {
    Tcp,
    Udp,
    Unknown,
}

fn port(key: &str, transport: Transport, address: &str, running: bool) -> Finding {
    let check = match transport {
        Transport::Udp => format!("port {address}/udp"),
        Transport::Tcp | Transport::Unknown => format!("port {address}"),
    };
    if address.ends_with(":0") {
        return Finding::ok(check, "chosen at start");
    }
    let tried = match transport {
        Transport::Tcp => TcpListener::bind(address).map(drop),
        Transport::Udp => UdpSocket::bind(address).map(drop),
        Transport::Unknown => {
            return Finding::warn(check, "not examined", format!("see that {key} is right"));
        }
    };
    match tried {
        Ok(()) if running => Finding::warn(
            check,
            "the running node does not listen here",
            "restart it to take up the configuration",
        ),
        Ok(()) => Finding::ok(check, "free"),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && running => {
            Finding::ok(check, "held by the running node")
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Finding::fail(check, "taken by another program", format!("stop that program or change {key}"))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Finding::fail(check, "not allowed for this user", format!("choose a port above 1023 in {key}"))
        }
        Err(error) => Finding::fail(check, error.to_string(), format!("correct {key}")),
    }
}

/// The socket address in a multiaddress such as `/ip4/0.0.0.0/udp/7700/quic-v1`.
fn socket_of(multiaddr: &str) -> Option<(Transport, String)> {
    let mut parts = multiaddr.split('/').skip(1);
    let host = match (parts.next()?, parts.next()?) {
        ("ip4", host) => host.to_owned(),
        ("ip6", host) => format!("[{host}]"),
        _ => return None,
    };
    let transport = match parts.next()? {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        _ => return None,
    };
    let port: u16 = parts.next()?.parse().ok()?;
    Some((transport, format!("{host}:{port}")))
}

/// The directory, or the nearest above it that exists.
fn standing(dir: &Path) -> &Path {
    dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn sockets_of_multiaddresses() {
        let check = |text: &str, expect: Option<(Transport, &str)>| {
            assert_eq!(
                socket_of(text),
                expect.map(|(transport, text)| (transport, text.to_owned())),
                "{text}"
            );
        };
        check("/ip4/0.0.0.0/udp/7700/quic-v1", Some((Transport::Udp, "0.0.0.0:7700")));
        check("/ip6/::1/tcp/7700", Some((Transport::Tcp, "[::1]:7700")));
        check("/dns4/example.org/tcp/1", None);
        check("/ip4", None);
        check("/ip4/1.2.3.4/tcp/x", None);
    }

    #[test]
    fn a_taken_port_is_the_nodes_or_somebody_elses() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap().to_string();
        let level = |running| port("irc.listen", Transport::Tcp, &address, running).level;
        assert_eq!((level(false), level(true)), (Level::Fail, Level::Ok));
        assert_eq!(port("irc.listen", Transport::Tcp, "127.0.0.1:0", false).level, Level::Ok);
    }
}
