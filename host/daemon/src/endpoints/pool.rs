//! A pool of addresses: which one is given next, and how many there are.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv6Addr},
    ops::RangeInclusive,
};

use ipnet::IpNet;
use netloom_core::reserved::Reserved;

/// Addresses as numbers.
type Range = RangeInclusive<u128>;

/// A prefix whose addresses are given to endpoints, but for some.
pub(super) struct Pool {
    pub(super) prefix: IpNet,
    /// Those that are given; none if the prefix is too narrow.
    range: Option<Range>,
    /// Those of the range that are not, in order; none touches another.
    excluded: Vec<Range>,
}

impl Pool {
    /// The network's own address and its first host are left out, and the broadcast address.
    pub(super) fn new(prefix: IpNet, excluded: &[IpNet]) -> Self {
        let range = match prefix {
            IpNet::V4(pool) => pool
                .hosts()
                .nth(1)
                .zip(pool.hosts().next_back())
                .map(|(first, last)| u128::from(u32::from(first))..=u128::from(u32::from(last))),
            IpNet::V6(pool) => {
                let ends = pool.hosts().nth(2).zip(pool.hosts().next_back());
                ends.map(|(first, last)| u128::from(first)..=u128::from(last))
            }
        };
        let same_family = excluded.iter().filter(|other| other.addr().is_ipv4() == prefix.addr().is_ipv4());
        let excluded = IpNet::aggregate(&same_family.copied().collect());
        let mut excluded: Vec<Range> = excluded
            .iter()
            .filter_map(|other| {
                let range = range.as_ref()?;
                let begin = number(other.network()).max(*range.start());
                let end = number(other.broadcast()).min(*range.end());
                (begin <= end).then_some(begin..=end)
            })
            .collect();
        excluded.sort_by_key(|range| *range.start());
        Self { prefix, range, excluded }
    }

    /// The free address that comes next after another one, in turn: an address rests as long as it can before somebody
    /// else has it.
    pub(super) fn next(
        &self,
        after: Option<IpAddr>,
        taken: &HashSet<IpAddr>,
        reserved: &Reserved,
    ) -> Option<IpAddr> {
        let range = self.range.clone()?;
        let (first, last) = (*range.start(), *range.end());
        let after = after.filter(|after| self.prefix.contains(after)).map(number);
        let begin =
            after.filter(|after| range.contains(after) && *after < last).map_or(first, |after| after + 1);
        let is_free = |address: &IpAddr| !taken.contains(address) && reserved.refuses(*address).is_none();
        let from = |begin: u128, end: u128| {
            let mut next = begin;
            while next <= end {
                let excluded = self.excluded.iter().find(|excluded| excluded.contains(&next));
                let address = self.address(next);
                match excluded {
                    None if is_free(&address) => return Some(address),
                    None => next += 1,
                    // However many they are.
                    Some(excluded) => next = excluded.end() + 1,
                }
            }
            None
        };
        from(begin, last).or_else(|| if begin > first { from(first, begin - 1) } else { None })
    }

    /// How many addresses it has to give.
    pub(super) fn size(&self) -> u64 {
        let length = |range: &Range| (range.end() - range.start()).saturating_add(1);
        let size = self.range.as_ref().map_or(0, length) - self.excluded.iter().map(length).sum::<u128>();
        u64::try_from(size).unwrap_or(u64::MAX)
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.prefix {
            IpNet::V4(_) => IpAddr::V4((number as u32).into()),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(prefix: &str, excluded: &[&str]) -> Pool {
        let excluded: Vec<IpNet> = excluded.iter().map(|other| other.parse().unwrap()).collect();
        Pool::new(prefix.parse().unwrap(), &excluded)
    }

    /// So many addresses in turn.
    fn given(pool: &Pool, count: usize) -> Vec<String> {
        let (open, none) = (Reserved::default(), HashSet::new());
        let mut last = None;
        let in_turn = (0..count).map_while(|_| {
            last = pool.next(last, &none, &open);
            Some(last?.to_string())
        });
        in_turn.collect()
    }

    #[test]
    fn addresses_are_given_once_and_never_the_first_host() {
        let ten = pool("10.0.0.0/29", &[]);
        let mut taken = HashSet::new();
        let reserved = Reserved { own: vec!["10.0.0.3/29".parse().unwrap()], ..Reserved::default() };
        while let Some(address) = ten.next(None, &taken, &reserved) {
            assert!(taken.insert(address));
        }
        assert_eq!((taken.len(), ten.size()), (4, 5));
        assert!(!taken.contains(&"10.0.0.1".parse().unwrap()));
        assert!(!taken.contains(&"10.0.0.3".parse().unwrap()), "the node has it");
        assert_eq!(given(&pool("fd00::/112", &[]), 1), ["fd00::2"]);
        for narrow in ["10.0.0.1/32", "fd00::1/128"] {
            assert_eq!((given(&pool(narrow, &[]), 1).len(), pool(narrow, &[]).size()), (0, 0), "{narrow}");
        }
    }

    #[test]
    fn addresses_are_given_in_turn() {
        let ten = pool("10.0.0.0/29", &[]);
        let last: Vec<String> = [2, 3, 4, 5, 6, 2, 3].iter().map(|last| format!("10.0.0.{last}")).collect();
        assert_eq!(given(&ten, 7), last);
        let taken = HashSet::from(["10.0.0.4".parse().unwrap()]);
        let after = |last: &str| {
            ten.next(Some(last.parse().unwrap()), &taken, &Reserved::default()).unwrap().to_string()
        };
        assert_eq!((after("10.0.0.3"), after("10.0.0.6")), ("10.0.0.5".to_owned(), "10.0.0.2".to_owned()));
        assert_eq!((after("10.9.9.9"), after("fd00::3")), ("10.0.0.2".to_owned(), "10.0.0.2".to_owned()));
        assert_eq!(given(&pool("fd00::/126", &[]), 3), ["fd00::2", "fd00::3", "fd00::2"]);
        assert_eq!(given(&pool("::/0", &[]), 1), ["::2"]);
    }

    #[test]
    fn what_is_excluded_is_passed_over_at_once_and_not_counted() {
        let ten =
            pool("10.0.0.0/28", &["10.0.0.0/30", "10.0.0.4/31", "10.0.0.4/32", "10.0.0.14/31", "fd00::/8"]);
        let last: Vec<String> = (6..=13).chain([6]).map(|last| format!("10.0.0.{last}")).collect();
        assert_eq!((given(&ten, 9), ten.size()), (last, 8));
        let wide = pool("fd00::/64", &["fd00::/65"]);
        assert_eq!(given(&wide, 1), ["fd00::8000:0:0:0"]);
        assert_eq!(wide.size(), 1 << 63);
        assert_eq!(pool("fd00::/8", &[]).size(), u64::MAX);
        let none = pool("10.0.0.0/29", &["10.0.0.0/8"]);
        assert_eq!((given(&none, 1).len(), none.size()), (0, 0));
    }
}
