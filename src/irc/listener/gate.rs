//! How many connections an address may have, and how fast it may open them. Counts by address, or by
//! /64 of IPv6; this machine's own are exempt.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::Timestamp;
use crate::base::config::ConnectionLimits;

/// What "new" means of a connection.
const WINDOW_MS: u64 = 60_000;
/// Addresses remembered; beyond it those without a connection are forgotten.
const ADDRESSES: usize = 16 * 1024;

/// The counts of every address.
pub struct Gate {
    limits: ConnectionLimits,
    counts: Mutex<BTreeMap<IpAddr, Count>>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    open: u32,
    recent: u32,
    since: Timestamp,
}

/// A connection that was let in; counted until it is dropped.
pub struct Pass {
    gate: Arc<Gate>,
    address: Option<IpAddr>,
}

impl Gate {
    /// A gate with these limits.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self { limits, counts: Mutex::default() }
    }

    /// Lets a connection in.
    ///
    /// # Errors
    /// Why not, for the one who is told.
    pub fn enter(self: &Arc<Self>, address: IpAddr, now: Timestamp) -> Result<Pass, &'static str> {
        let address = address.to_canonical();
        if address.is_loopback() {
            return Ok(Pass { gate: Arc::clone(self), address: None });
        }
        let key = network_of(address);
        let mut counts = self.lock();
        if counts.len() >= ADDRESSES {
            counts.retain(|_, count| count.open > 0);
        }
        let count = counts.entry(key).or_default();
        if now.since_ms(count.since) >= WINDOW_MS {
            (count.since, count.recent) = (now, 0);
        }
        if count.open >= self.limits.per_address.max(1) {
            return Err("too many connections from your address");
        }
        if count.recent >= self.limits.per_minute.max(1) {
            return Err("too many new connections from your address; try again in a minute");
        }
        count.open += 1;
        count.recent += 1;
        drop(counts);
        Ok(Pass { gate: Arc::clone(self), address: Some(key) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(key) = self.address {
            let mut counts = self.gate.lock();
            if let Some(count) = counts.get_mut(&key) {
                count.open = count.open.saturating_sub(1);
            }
        }
    }
}

fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let high = u128::from(v6) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(high))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_a_time_and_so_many_a_minute() {
        let gate = Arc::new(Gate::new(ConnectionLimits { per_address: 2, per_minute: 3 }));
        let at = |ms: u64| Timestamp(100_000 + ms);
        let (here, there): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = gate.enter(here, at(0)).ok();
        let second = gate.enter(here, at(0)).ok();
        assert!(first.is_some() && second.is_some());
        assert!(gate.enter(here, at(0)).is_err_and(|why| why.contains("too many connections")));
        assert!(gate.enter(there, at(0)).is_ok());
        drop(first);
        let third = gate.enter(here, at(1)).ok();
        assert!(third.is_some());
        drop(third);
        assert!(gate.enter(here, at(2)).is_err_and(|why| why.contains("in a minute")));
        assert!(gate.enter(here, at(60_001)).is_ok());
        let own = "127.0.0.1".parse().unwrap();
        assert!((0..100).map(|_| gate.enter(own, at(0))).all(|entered| entered.is_ok()));
        let (a, b): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        assert_eq!(network_of(a), network_of(b));
    }
}
