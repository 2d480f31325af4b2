//! A node with two endpoints and two hosts outside.

use std::net::IpAddr;

use netloom_netns_tests::{Endpoint, Node};
use netloom_test_support::{Netns, emulated, until};

/// Everything of one of the two nodes. Its addresses are those of the other.
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) client: Endpoint,
    pub(crate) server: Endpoint,
    /// Behind the default route, by eth9; endpoints keep their addresses there.
    pub(crate) outside: Netns,
    /// Behind eth8, where endpoints get the node's address.
    pub(crate) elsewhere: Netns,
}

/// Where packets come from and arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Client,
    Server,
    Node,
    Outside,
    Elsewhere,
}

impl Place {
    pub(crate) const ALL: [Self; 5] =
        [Self::Client, Self::Server, Self::Node, Self::Outside, Self::Elsewhere];
}

/// Has addresses of both families.
pub(crate) type Both = [IpAddr; 2];

fn both(v4: &str, v6: &str) -> Both {
    [v4, v6].map(|address| address.parse().expect("it is an address"))
}

impl World {
    /// `[datapath]` has these lines as well.
    pub(crate) fn start(datapath: &str) -> Self {
        let node = Node::configured(&format!(
            "[datapath]\nnative = [\"198.51.100.0/24\", \"2001:db8:9::/64\"]\nuplinks = [\"eth8\", \"eth9\"]\n{datapath}"
        ));
        let (outside, elsewhere) = (Netns::new("outside"), Netns::new("elsewhere"));
        let links = [
            (&outside, "eth9", "198.51.100", "2001:db8:9:"),
            (&elsewhere, "eth8", "203.0.113", "2001:db8:8:"),
        ];
        for (far, device, v4, v6) in links {
            node.netns.link(&format!("{v4}.1/24")).named(device).to(far, &format!("{v4}.2/24"));
            node.netns.ip(&["address", "add", &format!("{v6}:1/64"), "dev", device, "nodad"]);
            far.ip(&["address", "add", &format!("{v6}:2/64"), "dev", device, "nodad"]);
            for address in ["192.0.2.77/32", "2001:db8:77::77/128"] {
                far.ip(&["address", "add", address, "dev", "lo"]);
            }
            far.ip(&["route", "add", "default", "via", &format!("{v4}.1")]);
            far.ip(&["-6", "route", "add", "default", "via", &format!("{v6}:1")]);
        }
        node.netns.ip(&["route", "add", "default", "via", "198.51.100.2"]);
        node.netns.ip(&["-6", "route", "add", "default", "via", "2001:db8:9::2"]);
        // For rules that look there.
        node.netns.ip(&["route", "add", "default", "via", "203.0.113.2", "table", "77"]);
        node.netns.ip(&["-6", "route", "add", "default", "via", "2001:db8:8::2", "table", "77"]);
        for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            let _ = node.netns.command(&["sysctl", "-qw", &format!("{key}=1")]).expect_ok();
        }
        // Which of several paths a flow takes goes by a number that the kernel draws at each boot, unless it can be set.
        let seed = node.netns.command(&["sysctl", "-qw", "net.ipv4.fib_multipath_hash_seed=15"]);
        assert!(seed.ok() || emulated(), "this kernel is older than 6.11");
        let (client, server) = (node.endpoint("client"), node.endpoint("server"));
        until(|| node.status().outside.masquerade, |masquerade| masquerade.off.is_none());
        Self { node, client, server, outside, elsewhere }
    }

    pub(crate) fn netns(&self, place: Place) -> &Netns {
        match place {
            Place::Client => &self.client.netns,
            Place::Server => &self.server.netns,
            Place::Node => &self.node.netns,
            Place::Outside => &self.outside,
            Place::Elsewhere => &self.elsewhere,
        }
    }

    /// The addresses of a place.
    pub(crate) fn addresses(&self, place: Place) -> Vec<Both> {
        let far = both("192.0.2.77", "2001:db8:77::77");
        match place {
            Place::Client => vec![[self.client.v4(), self.client.v6()]],
            Place::Server => vec![[self.server.v4(), self.server.v6()]],
            Place::Node => vec![both("192.0.2.1", "2001:db8::1"), both("198.51.100.1", "2001:db8:9::1")],
            Place::Outside => vec![both("198.51.100.2", "2001:db8:9::2"), far],
            Place::Elsewhere => vec![both("203.0.113.2", "2001:db8:8::2"), far],
        }
    }

    /// Addresses that nobody has, but by translation: one of the pools, one outside, one without a route of its own.
    pub(crate) fn nobodys() -> Vec<Both> {
        vec![
            both("10.210.0.99", "fd6e:6c00::99"),
            both("10.96.0.10", "fd96::10"),
            both("198.51.100.99", "2001:db8:9::99"),
        ]
    }

    /// All that may be sent to.
    pub(crate) fn targets(&self) -> Vec<Both> {
        let mut targets: Vec<_> = Place::ALL.iter().flat_map(|place| self.addresses(*place)).collect();
        targets.extend(Self::nobodys());
        targets
    }
}
