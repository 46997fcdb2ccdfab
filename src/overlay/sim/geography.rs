//! Where simulated nodes are, how long a frame takes between them, and what kind of machine they are.
//!
//! One-way delays, regional shares and upload rates are the 2019 figures published with SimBlock (Aoki,
//! Otsuki, Kaneko, Banno, Shudo: "SimBlock: A Blockchain Network Simulator", CryBlock 2019; its
//! `NetworkConfiguration`): delays measured between Bitcoin nodes, and regional upload rates, by six regions. SimBlock
//! draws around the mean by a Pareto distribution; here a frame takes between 0.8 and 1.0 of the mean, and
//! one in twenty up to twice as long.

use super::super::chance::Chance;

/// North America, Europe, South America, Asia-Pacific, Japan, Australia: one way, ms.
const DELAY_MS: [[u64; 6]; 6] = [
    [32, 124, 184, 198, 151, 189],
    [124, 11, 227, 237, 252, 294],
    [184, 227, 88, 325, 301, 322],
    [198, 237, 325, 85, 58, 198],
    [151, 252, 301, 58, 12, 126],
    [189, 294, 322, 198, 126, 16],
];
/// Share of nodes in each region.
const SHARE: [f64; 6] = [0.3316, 0.4998, 0.0090, 0.1177, 0.0224, 0.0195];
/// Upload in bits a second, of a laptop there.
const UPLOAD: [u64; 6] = [19_200_000, 20_700_000, 5_800_000, 15_700_000, 10_200_000, 11_300_000];

/// Regions.
pub const REGIONS: usize = 6;

/// A kind of machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Machine {
    Phone,
    Laptop,
    Server,
}

/// A place and a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Site {
    pub region: u8,
    pub machine: Machine,
}

impl Site {
    /// One by chance: three in ten are phones, one in ten is a server.
    pub fn draw(chance: &mut Chance) -> Self {
        let (mut at, mut left) = (0, chance.unit());
        while at + 1 < REGIONS && left >= SHARE[at] {
            left -= SHARE[at];
            at += 1;
        }
        let machine = match chance.unit() {
            part if part < 0.3 => Machine::Phone,
            part if part < 0.9 => Machine::Laptop,
            _ => Machine::Server,
        };
        Self { region: at as u8, machine }
    }

    /// How long a frame travels to another site, in µs.
    pub fn delay_us(&self, to: &Self, chance: &mut Chance) -> u64 {
        let mean = DELAY_MS[usize::from(self.region)][usize::from(to.region)] * 1_000;
        let part = chance.unit();
        let factor = if part < 0.95 { 0.8 + part * 0.2 / 0.95 } else { 1.0 + (part - 0.95) * 20.0 };
        // The last mile of a phone.
        let radio = [self, to].iter().filter(|site| site.machine == Machine::Phone).count() as u64 * 20_000;
        (mean as f64 * factor) as u64 + radio
    }

    /// How long its uplink is busy with so many bytes, in µs.
    pub fn upload_us(&self, bytes: usize) -> u64 {
        let rate = UPLOAD[usize::from(self.region)];
        let rate = match self.machine {
            Machine::Phone => rate / 4,
            Machine::Laptop => rate,
            Machine::Server => rate * 20,
        };
        bytes as u64 * 8 * 1_000_000 / rate
    }

    /// Mean time that it stays on line, in ms; `None` for always.
    pub fn session_ms(&self) -> Option<u64> {
        match self.machine {
            Machine::Phone => Some(5 * 60_000),
            Machine::Laptop => Some(20 * 60_000),
            Machine::Server => None,
        }
    }
}
