//! Serves IRC clients. (Under construction on its own branch.)

use std::net::SocketAddr;

use futures::future::BoxFuture;

use crate::base::config::IrcConfig;
use crate::node::Door;
use crate::port::{Capabilities, Connector, Fault, Port};

pub struct Listener;

impl Listener {
    pub async fn bind(_: &IrcConfig) -> Result<Self, Fault> {
        Ok(Self)
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        Vec::new()
    }
}

impl Connector for Listener {
    fn door(&self) -> Door {
        Door::Listener
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn run(self: Box<Self>, mut port: Port) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            while port.cancel.run_until_cancelled(port.deliveries.recv()).await.flatten().is_some() {}
            Ok(())
        })
    }
}
