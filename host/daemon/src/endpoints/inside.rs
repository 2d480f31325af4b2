//! Which routes an endpoint's namespace gets by it.

use ipnet::IpNet;
use netloom_core::model::{DefaultRoute, Endpoint, EndpointRoute, EndpointSpec};
use netloom_kernel::{
    devices::{Devices, own_metric},
    netns::Netns,
};

use super::Endpoints;
use crate::failure::Failure;

/// The metric of default routes behind those that are there: far behind what any tool gives by itself.
const LATER: u32 = 2_048;
/// So many routes of its own has an endpoint at most.
const MOST: usize = 64;

impl Endpoints {
    /// The default routes that a namespace has already, whoever set them.
    pub(super) async fn default_routes_in(&self, netns: &Netns) -> Result<Vec<EndpointRoute>, Failure> {
        let devices = Devices::open(netns)?;
        let mut found = Vec::new();
        let has_ipv6 = self.has_ipv6();
        for everywhere in EndpointRoute::EVERYWHERE.into_iter().filter(|net| net.addr().is_ipv4() || has_ipv6)
        {
            for route in devices.routes(everywhere).await? {
                found.push(EndpointRoute { destination: everywhere, metric: route.metric });
            }
        }
        Ok(found)
    }
}

/// The routes of an endpoint with these addresses, in a namespace with default routes of others, or that others are
/// about to have; none if they are the usual ones.
pub(super) fn choose_routes(
    spec: &EndpointSpec,
    addresses: &[IpNet],
    there: &[EndpointRoute],
) -> Result<Option<Vec<EndpointRoute>>, Failure> {
    let usual = EndpointRoute::defaults(addresses);
    let mut routes = Vec::new();
    for route in &usual {
        let same = there.iter().filter(|other| other.destination == route.destination);
        let last =
            same.map(|other| other.metric.unwrap_or_else(|| own_metric(other.destination.addr()))).max();
        match (spec.default_route, last) {
            (DefaultRoute::First | DefaultRoute::Always, None) => routes.push(*route),
            (DefaultRoute::Always, Some(last)) => {
                let metric = Some(LATER.max(last.saturating_add(1)));
                routes.push(EndpointRoute { metric, ..*route });
            }
            (DefaultRoute::First, Some(_)) | (DefaultRoute::Never, _) => {}
        }
    }
    if spec.routes.len() > MOST {
        return Err(Failure::invalid(anyhow::anyhow!("an endpoint has at most {MOST} routes")));
    }
    for destination in spec.routes.iter().map(IpNet::trunc) {
        if destination.prefix_len() == 0 {
            return Err(Failure::invalid(anyhow::anyhow!("a route to {destination} is a default route"))
                .hint("say with default_route whether there is to be one"));
        }
        let v4 = destination.addr().is_ipv4();
        if !addresses.iter().any(|address| address.addr().is_ipv4() == v4) {
            return Err(Failure::invalid(anyhow::anyhow!(
                "the endpoint has a route to {destination}, and no address of its family"
            ))
            .hint("leave the route out, or give it such an address"));
        }
        let route = EndpointRoute { destination, metric: None };
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    Ok((routes != usual).then_some(routes))
}

/// The default routes that the endpoints among these have in their namespace.
pub(super) fn defaults_of<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> Vec<EndpointRoute> {
    let routes = endpoints.flat_map(Endpoint::routes_inside);
    routes.filter(|route| route.destination.prefix_len() == 0).collect()
}

#[cfg(test)]
mod tests {
    use netloom_core::model::Name;

    use super::*;

    fn chosen(default_route: DefaultRoute, routes: &[&str], there: &[EndpointRoute]) -> Option<Vec<String>> {
        let spec: EndpointSpec = serde_json::from_value(serde_json::json!({
            "name": Name::new("web").unwrap(),
            "netns": "/run/netns/web",
            "default_route": default_route,
            "routes": routes,
        }))
        .unwrap();
        let addresses = ["10.210.0.2/32", "fd00::2/128"].map(|address| address.parse().unwrap());
        let told = |route: &EndpointRoute| format!("{} {:?}", route.destination, route.metric);
        choose_routes(&spec, &addresses, there).unwrap().map(|routes| routes.iter().map(told).collect())
    }

    fn there(destination: &str, metric: Option<u32>) -> EndpointRoute {
        EndpointRoute { destination: destination.parse().unwrap(), metric }
    }

    #[test]
    fn the_first_has_the_default_route_and_others_what_they_ask_for() {
        use DefaultRoute::{Always, First, Never};
        let v4 = [there("0.0.0.0/0", None)];
        let both = [there("0.0.0.0/0", Some(5_000)), there("::/0", None)];
        for (asked, others, expected) in [
            (First, [].as_slice(), None),
            (Always, &[], None),
            (Never, &[], Some(vec![])),
            (First, &v4, Some(vec!["::/0 None"])),
            (First, &both, Some(vec![])),
            (Always, &v4, Some(vec!["0.0.0.0/0 Some(2048)", "::/0 None"])),
            (Always, &both, Some(vec!["0.0.0.0/0 Some(5001)", "::/0 Some(2048)"])),
            (Never, &both, Some(vec![])),
        ] {
            let expected: Option<Vec<String>> =
                expected.map(|routes: Vec<&str>| routes.into_iter().map(str::to_owned).collect());
            assert_eq!(chosen(asked, &[], others), expected, "{asked:?} {others:?}");
        }
        let further = chosen(First, &["10.8.0.1/16", "10.8.0.0/16"], &both);
        assert_eq!(further.unwrap(), ["10.8.0.0/16 None"], "each destination once");
    }
}
