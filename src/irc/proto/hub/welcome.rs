//! What a client is told when it is registered.

use super::Hub;
use super::server::VERSION;
use crate::irc::proto::modes::SETTABLE;
use crate::irc::proto::session::ClientId;
use crate::irc::proto::stamp;

impl Hub {
    pub(super) fn welcome(&mut self, client: ClientId) {
        let (nick, server) = (self.called(client), self.settings.server.clone());
        let prefix = self.face(client).prefix;
        let network = self.settings.network.clone();
        let text = match prefix.is_empty() {
            true => format!("Welcome to the {network} network, {nick}"),
            false => format!("Welcome to the {network} network, {prefix}"),
        };
        self.reply(client, 1, &[], &text);
        self.reply(client, 2, &[], &format!("Your host is {server}, running {VERSION}"));
        let started = stamp::plain(self.settings.started);
        self.reply(client, 3, &[], &format!("This server was started {started}"));
        let modes = format!("beIklaohqv{SETTABLE}");
        let line = self.numeric(client, 4, &[&server, VERSION, "BRgiow", &modes, "beIklaohqv"]);
        self.emit(client, line);
        self.isupport(client);
        self.lusers(client);
        self.motd(client);
        let modes = self.user_modes(client);
        let line = self.numeric(client, 221, &[&modes]);
        self.emit(client, line);
    }
}
