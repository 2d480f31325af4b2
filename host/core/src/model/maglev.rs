//! Maglev's table: each slot has a backend, the backends have about as many slots each as their weights say, and when
//! one comes or goes, few slots change but its own. So a client that always uses the same slot stays with its backend.
//!
//! Eisenbud and others, *Maglev: A Fast and Reliable Software Network Load Balancer*, NSDI 2016, section 3.4.

use std::net::{IpAddr, SocketAddr};

use sha2::{Digest as _, Sha256};

/// Slots of a table: a prime number.
pub const SLOTS: usize = 509;

/// The table of some backends with their weights, the same whatever their order; empty if nobody has a weight.
#[must_use]
pub fn table(backends: &[(SocketAddr, u32)]) -> Vec<SocketAddr> {
    let mut backends: Vec<_> = backends.iter().filter(|(_, weight)| *weight > 0).collect();
    backends.sort_unstable();
    let heaviest = backends.iter().map(|(_, weight)| *weight).max().unwrap_or_default();
    let mut preferences: Vec<Preferences> =
        backends.iter().map(|(address, _)| Preferences::of(*address)).collect();
    let mut credit = vec![0; backends.len()];
    let mut table = vec![None; if backends.is_empty() { 0 } else { SLOTS }];
    let mut left = table.len();
    while left > 0 {
        // In each round every backend takes its next free slot; one of half the weight in every second round.
        for (((address, weight), preferences), credit) in
            backends.iter().zip(&mut preferences).zip(&mut credit)
        {
            *credit += weight;
            if *credit < heaviest || left == 0 {
                continue;
            }
            *credit -= heaviest;
            while let Some(slot) = table.get_mut(preferences.next_slot()) {
                if slot.is_none() {
                    *slot = Some(*address);
                    left -= 1;
                    break;
                }
            }
        }
    }
    table.into_iter().flatten().collect()
}

/// A backend's order of the slots: each of them once, for the step and their number have no common divisor.
struct Preferences {
    next: usize,
    step: usize,
}

impl Preferences {
    fn of(address: SocketAddr) -> Self {
        let mut hash = Sha256::new();
        match address.ip() {
            IpAddr::V4(ip) => hash.update(ip.octets()),
            IpAddr::V6(ip) => hash.update(ip.octets()),
        }
        hash.update(address.port().to_be_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let number = |from: usize| {
            digest.iter().skip(from).take(7).fold(0_usize, |number, byte| (number << 8) | usize::from(*byte))
        };
        Self { next: number(0) % SLOTS, step: number(8) % (SLOTS - 1) + 1 }
    }

    fn next_slot(&mut self) -> usize {
        let slot = self.next;
        self.next = (slot + self.step) % SLOTS;
        slot
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn address(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 80))
    }

    fn shares(table: &[SocketAddr]) -> BTreeMap<SocketAddr, usize> {
        let mut shares = BTreeMap::new();
        for backend in table {
            *shares.entry(*backend).or_default() += 1;
        }
        shares
    }

    #[test]
    fn shares_are_as_the_weights() {
        let table = table(&[(address(1), 3), (address(2), 1), (address(3), 0)]);
        let shares = shares(&table);
        assert_eq!(shares.len(), 2, "a weight of 0 has no slot");
        let ratio = shares[&address(1)] as f64 / shares[&address(2)] as f64;
        assert!((2.8..3.2).contains(&ratio), "{shares:?}");
    }

    #[test]
    fn without_a_backend_there_is_no_table() {
        assert!(table(&[]).is_empty() && table(&[(address(1), 0)]).is_empty());
    }

    #[test]
    fn on_average_few_slots_of_others_change() {
        const BACKENDS: u8 = 40;
        let backends: Vec<_> = (1..=BACKENDS).map(|host| (address(host), 1)).collect();
        let whole = table(&backends);
        let mut changed = 0;
        for (gone, _) in &backends {
            let left: Vec<_> = backends.iter().filter(|(other, _)| other != gone).copied().collect();
            let without = table(&left);
            changed += whole.iter().zip(&without).filter(|(old, new)| *old != gone && old != new).count();
        }
        assert!(changed <= usize::from(BACKENDS) * SLOTS / 10, "{changed} slots of others changed");
    }

    proptest! {
        #[test]
        fn all_have_their_share_and_few_slots_change(hosts in proptest::collection::btree_set(1_u8.., 2..40)) {
            let backends: Vec<_> = hosts.iter().map(|host| (address(*host), 1)).collect();
            let whole = table(&backends);
            prop_assert_eq!(whole.len(), SLOTS);
            let fair = SLOTS / backends.len();
            let shares = shares(&whole);
            prop_assert_eq!(shares.len(), backends.len());
            prop_assert!(shares.values().all(|share| (fair..=fair + 1).contains(share)), "{:?}", shares);

            let mut reversed = backends.clone();
            reversed.reverse();
            prop_assert_eq!(&whole, &table(&reversed), "the order does not matter");

            let without = table(&backends[1..]);
            let gone = backends[0].0;
            let others = whole.iter().zip(&without).filter(|(old, new)| **old != gone && old != new).count();
            // Of few backends some sets are much worse than most; the average is below.
            prop_assert!(others <= SLOTS / 3, "{} slots of others changed", others);
        }
    }
}
