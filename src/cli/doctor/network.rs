//! Whether an IRC network can be reached.

use std::time::Duration;

use tokio::net::TcpStream;

use super::Finding;

const PATIENCE: Duration = Duration::from_secs(10);

/// Opens a connection and closes it again, without a word.
pub async fn reach(name: &str, address: &str) -> Finding {
    let check = format!("irc network {name}");
    let mend = format!("check irc.networks.{name}.address and the way there; the node keeps trying");
    match tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Finding::ok(check, format!("{address} answers")),
        Ok(Err(error)) => Finding::fail(check, format!("{address}: {error}"), mend),
        Err(_) => {
            Finding::fail(check, format!("{address} does not answer in {} s", PATIENCE.as_secs()), mend)
        }
    }
}
