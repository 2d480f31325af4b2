use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    net::SocketAddr,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::{Name, maglev};

/// A transport protocol that services and socket policies know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The protocol of an IP protocol number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A text is not a protocol.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a protocol: use tcp or udp")]
pub struct InvalidProtocol(String);

impl FromStr for Protocol {
    type Err = InvalidProtocol;
    fn from_str(text: &str) -> Result<Self, InvalidProtocol> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(InvalidProtocol(text.to_owned())),
        }
    }
}

/// A backend: the address a service's VIP is translated to, and over what. Its identity is all of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Backend {
    /// Where.
    pub address: SocketAddr,
    /// Over what.
    pub protocol: Protocol,
    /// For which service.
    pub service: Name,
}

/// How many of a service's connections a backend gets, in proportion to the other backends' weights: 1 if nothing is
/// said. With 0 it gets none, and those it has live on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(u8);

impl Weight {
    /// No new connections.
    pub const NONE: Self = Self(0);
    /// The largest.
    pub const MAX: u32 = 100;
}

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

/// A number is not a weight.
#[derive(Debug, thiserror::Error)]
#[error("a weight is a whole number from 0, for no new connections, to {max}: not {0}", max = Weight::MAX)]
pub struct InvalidWeight(String);

impl TryFrom<u32> for Weight {
    type Error = InvalidWeight;
    fn try_from(weight: u32) -> Result<Self, InvalidWeight> {
        let refused = || InvalidWeight(weight.to_string());
        if weight > Self::MAX {
            Err(refused())
        } else {
            u8::try_from(weight).map(Self).map_err(|_| refused())
        }
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> Self {
        weight.0.into()
    }
}

impl FromStr for Weight {
    type Err = InvalidWeight;
    fn from_str(text: &str) -> Result<Self, InvalidWeight> {
        text.parse::<u32>().map_err(|_| InvalidWeight(format!("{text:?}")))?.try_into()
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

/// How a service chooses a backend for a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// By chance, for each connection anew.
    #[default]
    Random,
    /// By the client's network namespace, in a table that changes little when backends do: see [`maglev`].
    Maglev,
}

/// A text is no way to choose.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no way to choose a backend: use random or maglev")]
pub struct InvalidChoice(String);

impl FromStr for Choice {
    type Err = InvalidChoice;
    fn from_str(text: &str) -> Result<Self, InvalidChoice> {
        match text {
            "random" => Ok(Self::Random),
            "maglev" => Ok(Self::Maglev),
            _ => Err(InvalidChoice(text.to_owned())),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Random => "random",
            Self::Maglev => "maglev",
        })
    }
}

/// A service: a virtual address translated to one of its backends at connect time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Unique on the node.
    pub name: Name,
    /// The virtual address. `0.0.0.0` and `[::]` stand for every address of the node.
    pub vip: SocketAddr,
    /// Over what.
    pub protocol: Protocol,
    /// Where its connections go; the same address family as the VIP.
    #[serde(default)]
    pub backends: Vec<SocketAddr>,
    /// Weights of backends, where they are not 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<SocketAddr, Weight>,
    /// How it chooses among them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub choice: Choice,
    /// For so many seconds after its last connection, a client (a network namespace) gets the backend it had. 0 for
    /// none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub affinity_seconds: u32,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Service {
    /// A service without backends, that chooses by chance.
    #[must_use]
    pub const fn new(name: Name, vip: SocketAddr, protocol: Protocol) -> Self {
        Self {
            name,
            vip,
            protocol,
            backends: Vec::new(),
            weights: BTreeMap::new(),
            choice: Choice::Random,
            affinity_seconds: 0,
        }
    }

    /// Whether it is at every address of the node.
    #[must_use]
    pub fn is_on_node(&self) -> bool {
        self.vip.ip().is_unspecified()
    }

    /// A backend's weight.
    #[must_use]
    pub fn weight(&self, backend: SocketAddr) -> Weight {
        self.weights.get(&backend).copied().unwrap_or_default()
    }

    /// Gives a backend a weight.
    pub fn set_weight(&mut self, backend: SocketAddr, weight: Weight) {
        if weight == Weight::default() {
            self.weights.remove(&backend);
        } else {
            self.weights.insert(backend, weight);
        }
    }

    /// Where new connections go, in slots. By chance: the shortest list that has each backend as often as its weight
    /// says. By client: a [`maglev`] table.
    #[must_use]
    pub fn choices(&self) -> Vec<SocketAddr> {
        if self.choice == Choice::Maglev {
            let weighted = self.backends.iter().map(|backend| (*backend, u32::from(self.weight(*backend).0)));
            return maglev::table(&weighted.collect::<Vec<_>>());
        }
        let weights = self.backends.iter().map(|backend| usize::from(self.weight(*backend).0));
        let unit = weights.clone().fold(0, greatest_common_divisor).max(1);
        let repeated = |(backend, weight): (&SocketAddr, usize)| std::iter::repeat_n(*backend, weight / unit);
        self.backends.iter().zip(weights).flat_map(repeated).collect()
    }

    /// The same service with `::ffff:a.b.c.d` written as `a.b.c.d`, which it is to the kernel, each backend once, and
    /// no weights of others.
    #[must_use]
    pub fn canonical(self) -> Self {
        let mut seen = HashSet::new();
        let backends: Vec<_> =
            self.backends.into_iter().map(canonical).filter(|backend| seen.insert(*backend)).collect();
        let weights = self.weights.into_iter().map(|(backend, weight)| (canonical(backend), weight));
        let weights =
            weights.filter(|(backend, weight)| seen.contains(backend) && *weight != Weight::default());
        Self { vip: canonical(self.vip), weights: weights.collect(), backends, ..self }
    }

    /// One of its backends, in full.
    #[must_use]
    pub fn backend(&self, address: SocketAddr) -> Backend {
        Backend { address, protocol: self.protocol, service: self.name.clone() }
    }
}

/// An address with `::ffff:a.b.c.d` written as `a.b.c.d`, which it is to the kernel.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 80))
    }

    fn choices(weights: &[u32]) -> Vec<u8> {
        let mut service = Service::new(Name::new("web").unwrap(), address(0), Protocol::Tcp);
        for (host, weight) in (1..).zip(weights) {
            service.backends.push(address(host));
            service.set_weight(address(host), Weight::try_from(*weight).unwrap());
        }
        let hosts = |address: SocketAddr| match address {
            SocketAddr::V4(address) => address.ip().octets()[3],
            SocketAddr::V6(_) => 0,
        };
        service.choices().into_iter().map(hosts).collect()
    }

    #[test]
    fn choices_are_as_many_as_weights_ask_for_and_no_more() {
        assert_eq!(choices(&[1, 1]), [1, 2]);
        assert_eq!(choices(&[100, 100, 50]), [1, 1, 2, 2, 3]);
        assert_eq!(choices(&[3, 1]), [1, 1, 1, 2]);
        assert_eq!(choices(&[0, 7]), [2]);
        assert_eq!(choices(&[0, 0]), [0_u8; 0]);
        assert_eq!(choices(&[]), [0_u8; 0]);
    }

    #[test]
    fn a_weight_is_within_its_bounds() {
        assert_eq!("0".parse::<Weight>().unwrap(), Weight::NONE);
        for wrong in ["101", "-1", "x", "", "1.5"] {
            let error = wrong.parse::<Weight>().unwrap_err().to_string();
            assert!(error.contains("from 0"), "{error}");
        }
        assert!(serde_json::from_str::<Weight>("256").is_err());
    }

    #[test]
    fn a_mapped_address_is_the_address() {
        let text = r#"{"name": "web", "vip": "[::ffff:10.0.0.9]:80", "protocol": "tcp",
            "backends": ["[::ffff:10.0.0.1]:80", "10.0.0.1:80", "10.0.0.2:80"],
            "weights": {"[::ffff:10.0.0.1]:80": 3, "10.0.0.2:80": 1, "10.0.0.7:80": 5}}"#;
        let service = serde_json::from_str::<Service>(text).unwrap().canonical();
        assert_eq!(service.vip, address(9));
        assert_eq!(service.backends, [address(1), address(2)]);
        assert_eq!(service.weights, BTreeMap::from([(address(1), Weight(3))]));
    }
}
