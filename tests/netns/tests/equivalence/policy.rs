//! Random rules of a node's operator: firewalls, translation, routes, IPsec.

use std::{fmt, net::IpAddr};

use fastrand::Rng;

use crate::{
    traffic::PORTS,
    world::{Place, World},
};

/// A few statements.
pub(crate) struct Policy(Vec<Statement>);

/// A command, and the one that takes it back.
struct Statement {
    /// What it is about.
    flow: Flow,
    make: Vec<String>,
    unmake: Vec<String>,
}

impl Policy {
    /// Now and then none: that is a policy too.
    pub(crate) fn random(rng: &mut Rng, world: &World) -> Self {
        let statements = rng.usize(..5);
        Self((0..statements).map(|number| Statement::random(rng, world, number)).collect())
    }

    /// How many statements could be made. Some cannot, as two routes to one address.
    pub(crate) fn apply(&self, world: &World) -> usize {
        self.0.iter().filter(|statement| run(world, &statement.make)).count()
    }

    /// One of the flows that it is about, if there is one.
    pub(crate) fn flow(&self, rng: &mut Rng) -> Option<&Flow> {
        rng.choice(&self.0).map(|statement| &statement.flow)
    }

    pub(crate) fn undo(&self, world: &World) {
        for statement in &self.0 {
            run(world, &statement.unmake);
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|statement| writeln!(f, "  {}", statement.make.join(" ")))
    }
}

fn run(world: &World, command: &[String]) -> bool {
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    world.node.netns.command(&command).ok()
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// What a rule may look at.
#[derive(Clone, Copy)]
pub(crate) struct Flow {
    pub(crate) sender: Place,
    from: IpAddr,
    /// Of the same family.
    pub(crate) to: IpAddr,
    pub(crate) port: u16,
}

impl Flow {
    fn random(rng: &mut Rng, world: &World) -> Self {
        let family = rng.usize(..2);
        let of = |addresses: &[[IpAddr; 2]], rng: &mut Rng| {
            rng.choice(addresses).and_then(|both| both.get(family)).copied().expect("there are addresses")
        };
        let sender = if rng.u8(..4) == 0 { Place::Outside } else { Place::Client };
        Self {
            sender,
            from: of(&world.addresses(sender), rng),
            to: of(&world.targets(), rng),
            port: *rng.choice(&PORTS).expect("there are ports"),
        }
    }

    fn ip(&self) -> &'static str {
        if self.to.is_ipv4() { "ip" } else { "ip6" }
    }

    /// For `ip rule` and the like.
    fn family(&self) -> &'static str {
        if self.to.is_ipv4() { "-4" } else { "-6" }
    }

    fn whole(&self) -> u8 {
        if self.to.is_ipv4() { 32 } else { 128 }
    }

    /// For nftables: some of it.
    fn matched(&self, rng: &mut Rng) -> String {
        let ip = self.ip();
        let (from, to) = (format!("{ip} saddr {}", self.from), format!("{ip} daddr {}", self.to));
        let port = format!("meta l4proto {{ tcp, udp }} th dport {}", self.port);
        match rng.u8(..5) {
            0 => from,
            1 => to,
            2 => format!("{to} {port}"),
            3 => format!("{from} {to}"),
            _ => format!("meta nfproto {} {port}", if self.to.is_ipv4() { "ipv4" } else { "ipv6" }),
        }
    }
}

impl Statement {
    fn random(rng: &mut Rng, world: &World, number: usize) -> Self {
        let flow = Flow::random(rng, world);
        match rng.u8(..12) {
            0..=3 => Self::filter(rng, flow, number),
            4..=6 => Self::translation(rng, world, flow, number),
            7 | 8 => Self::rule(rng, flow, number),
            9 | 10 => Self::route(rng, flow),
            _ => Self::other(rng, flow),
        }
    }

    fn nft(flow: Flow, family: &str, number: usize, chain: &str, rule: &str) -> Self {
        let table = format!("{family} others{number}");
        let make = format!("table {table} {{\nchain some {{\ntype {chain};\n{rule};\n}}\n}}");
        Self { flow, make: vec!["nft".to_owned(), make], unmake: words(&format!("nft delete table {table}")) }
    }

    fn filter(rng: &mut Rng, flow: Flow, number: usize) -> Self {
        let matched = flow.matched(rng);
        if rng.u8(..5) == 0 {
            let hook = *rng.choice(&["ingress", "egress"]).expect("there are hooks");
            let device = *rng.choice(&["eth8", "eth9"]).expect("there are devices");
            let chain = format!("filter hook {hook} device \"{device}\" priority 0");
            return Self::nft(flow, "netdev", number, &chain, &format!("{matched} drop"));
        }
        let hook = *rng
            .choice(&["prerouting", "forward", "forward", "postrouting", "input", "output"])
            .expect("there are hooks");
        let family = if rng.bool() { "inet" } else { flow.ip() };
        let priority = *rng.choice(&["-300", "-150", "0"]).expect("there are priorities");
        let verdict = match rng.u8(..5) {
            0 => "ct state new drop",
            1 if matches!(hook, "forward" | "input") => "reject",
            2 => "counter accept",
            3 if priority == "-300" && matches!(hook, "prerouting" | "output") => "notrack",
            _ => "drop",
        };
        Self::nft(
            flow,
            family,
            number,
            &format!("filter hook {hook} priority {priority}"),
            &format!("{matched} {verdict}"),
        )
    }

    fn translation(rng: &mut Rng, world: &World, flow: Flow, number: usize) -> Self {
        let family = usize::from(flow.to.is_ipv6());
        let place = *rng
            .choice(&[Place::Server, Place::Outside, Place::Elsewhere, Place::Node])
            .expect("there are places");
        let to = world
            .addresses(place)
            .first()
            .and_then(|both| both.get(family))
            .copied()
            .expect("it has addresses");
        let ip = flow.ip();
        let target = |port: u16| if to.is_ipv4() { format!("{to}:{port}") } else { format!("[{to}]:{port}") };
        let matched = flow.matched(rng);
        let port = format!("{ip} daddr {} meta l4proto {{ tcp, udp }} th dport {}", flow.to, flow.port);
        let (hook, rule) = match rng.u8(..7) {
            0 => ("prerouting priority -100", format!("{ip} daddr {} dnat to {to}", flow.to)),
            1 => ("output priority -100", format!("{ip} daddr {} dnat to {to}", flow.to)),
            2 => ("prerouting priority -100", format!("{port} dnat to {}", target(7001))),
            3 => ("prerouting priority -100", format!("{port} redirect to :7001")),
            4 => ("postrouting priority 100", format!("{matched} masquerade")),
            5 => (
                "postrouting priority 100",
                format!("{matched} snat to {}", if to.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" }),
            ),
            _ => ("prerouting priority -100", format!("{port} dnat to {}", target(flow.port))),
        };
        Self::nft(flow, ip, number, &format!("nat hook {hook}"), &rule)
    }

    fn rule(rng: &mut Rng, flow: Flow, number: usize) -> Self {
        let Flow { from, to, port, .. } = flow;
        let matched = match rng.u8(..5) {
            0 => format!("from {from}"),
            1 => format!("to {to}"),
            2 => format!("from {from} to {to}"),
            3 => format!("ipproto 17 dport {port}"),
            _ => format!("to {to} ipproto 6 dport {port}"),
        };
        let action = *rng
            .choice(&["lookup 77", "lookup 77", "prohibit", "blackhole", "unreachable"])
            .expect("there are actions");
        let (family, pref) = (flow.family(), 100 + number);
        Self {
            flow,
            make: words(&format!("ip {family} rule add pref {pref} {matched} {action}")),
            unmake: words(&format!("ip {family} rule delete pref {pref}")),
        }
    }

    fn route(rng: &mut Rng, flow: Flow) -> Self {
        let (family, to) = (flow.family(), format!("{}/{}", flow.to, flow.whole()));
        let (outside, elsewhere) = if flow.to.is_ipv4() {
            ("198.51.100.2", "203.0.113.2")
        } else {
            ("2001:db8:9::2", "2001:db8:8::2")
        };
        let (kind, by) = match rng.u8(..6) {
            0 => ("blackhole ", String::new()),
            1 => ("prohibit ", String::new()),
            2 => ("", format!(" via {outside} dev eth9")),
            _ => ("", format!(" via {elsewhere} dev eth8")),
        };
        // Last of all: the routes of the node and of its endpoints stay what they are.
        Self {
            flow,
            make: words(&format!("ip {family} route append {kind}{to}{by} metric 4000")),
            unmake: words(&format!("ip {family} route delete {kind}{to}{by} metric 4000")),
        }
    }

    fn other(rng: &mut Rng, flow: Flow) -> Self {
        if rng.u8(..4) == 0 {
            let key = "net.ipv4.conf.all.rp_filter";
            return Self {
                flow,
                make: words(&format!("sysctl -qw {key}={}", rng.u8(1..3))),
                unmake: words(&format!("sysctl -qw {key}=0")),
            };
        }
        let direction = *rng.choice(&["fwd", "fwd", "out", "in"]).expect("there are directions");
        let selector = format!("src {} dst {} dir {direction}", flow.from, flow.to);
        Self {
            flow,
            make: words(&format!("ip xfrm policy add {selector} action block priority 1")),
            unmake: words(&format!("ip xfrm policy delete {selector}")),
        }
    }
}
