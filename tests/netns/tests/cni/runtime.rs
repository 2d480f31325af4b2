use netloom_netns_tests::Node;
use netloom_test_support::{CniCall, Netns};
use serde_json::{Value, json};

/// The versions of the specification that netloom-cni speaks.
pub(crate) const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// Those that have CHECK.
pub(crate) const WITH_CHECK: [&str; 3] = ["0.4.0", "1.0.0", "1.1.0"];

/// The configuration of a network on this node.
pub(crate) fn network(node: &Node, version: &str) -> Value {
    json!({ "cniVersion": version, "name": "pods", "type": "netloom-cni", "instance": node.daemon.instance() })
}

/// A configuration with more in it.
pub(crate) fn with(mut config: Value, more: Value) -> Value {
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// A command for a container's `eth0`.
pub(crate) fn call(command: &str, container: &str, netns: &Netns) -> CniCall {
    CniCall::new(command, &netns.path()).with("CNI_CONTAINERID", container)
}

/// A command that is about no container.
pub(crate) fn call_of_network(command: &str) -> CniCall {
    CniCall::new(command, "/".as_ref()).without("CNI_CONTAINERID").without("CNI_NETNS").without("CNI_IFNAME")
}

/// The names of the node's endpoints.
pub(crate) fn endpoints(node: &Node) -> Vec<String> {
    node.endpoints().iter().map(|view| view.endpoint.spec.name.to_string()).collect()
}

pub(crate) fn checked(config: &Value, result: &Value) -> Value {
    with(config.clone(), json!({ "prevResult": result }))
}
