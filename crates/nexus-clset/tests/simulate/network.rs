//! Links between nodes: delays, losses, repetitions, cuts of one direction, and how much goes through.

use std::collections::BTreeMap;
use std::time::Duration;

use nexus_random::Random;

/// One direction between two nodes.
#[derive(Clone, Debug)]
pub struct Link {
    pub cut: bool,
    /// Shortest and longest delay in milliseconds.
    pub delay: (u64, u64),
    /// Publications that are lost or come twice, of a thousand.
    pub loss: u64,
    pub twice: u64,
    pub bytes_per_second: u64,
    free_at: Duration,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            cut: false,
            delay: (1, 8),
            loss: 0,
            twice: 5,
            bytes_per_second: 20_000_000,
            free_at: Duration::ZERO,
        }
    }
}

impl Link {
    /// When what is sent now arrives.
    pub fn arrival(&mut self, now: Duration, bytes: usize, random: &mut Random) -> Duration {
        let takes = bytes as u64 * 1_000_000 / self.bytes_per_second;
        self.free_at = self.free_at.max(now) + Duration::from_micros(takes);
        let mut delay = random.millis(self.delay.0, self.delay.1);
        if random.chance(20) {
            // Something in between holds it back, and later messages overtake it.
            delay += random.millis(10, 1500);
        }
        self.free_at + delay
    }

    /// The same of what may come twice.
    pub fn arrivals(&mut self, now: Duration, bytes: usize, random: &mut Random) -> Vec<Duration> {
        let copies = if random.chance(self.twice) { 2 } else { 1 };
        (0..copies)
            .map(|_| self.arrival(now, bytes, random))
            .collect()
    }
}

#[derive(Debug, Default)]
pub struct Network {
    links: BTreeMap<(usize, usize), Link>,
    /// Who was told that whom can be reached.
    pub told: BTreeMap<(usize, usize), bool>,
}

impl Network {
    pub fn link(&mut self, from: usize, to: usize) -> &mut Link {
        self.links.entry((from, to)).or_default()
    }

    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.links.get(&(from, to)).is_some_and(|link| link.cut)
    }

    /// Both directions work.
    pub fn is_open(&self, a: usize, b: usize) -> bool {
        !self.is_cut(a, b) && !self.is_cut(b, a)
    }

    pub fn heal(&mut self) {
        for link in self.links.values_mut() {
            let free_at = link.free_at;
            *link = Link::default();
            link.free_at = free_at;
        }
    }
}
