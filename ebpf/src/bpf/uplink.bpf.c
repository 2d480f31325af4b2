// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Packets from outside, at the ingress of a device to there: those to an endpoint go straight into it, past the
 * node's stack. Everything else, and whatever needs an ICMP answer or fragments, goes on unchanged.
 */
#include "endpoints.h"

/*
 * Into the endpoint's namespace without a queue in between, which the kernel allows at ingress. It passes by the
 * endpoint's nl_to_endpoint, which therefore cannot count. TTL and hop limit stay as they are: the endpoint is seen
 * as if it were on the wire itself, and no loop can pass here because the packet goes straight to the owner of its
 * destination.
 */
static __always_inline int nl_deliver(struct __sk_buff *skb, const struct nl_addr *destination, __u32 header,
				      __u8 protocol)
{
	const struct nl_node *node = nl_this_node();
	struct nl_route *route = nl_route_of(destination, 0);

	if (!node || !route)
		return TCX_NEXT;
	if (!nl_same(&route->destination, destination) || route->sender || route->generation != node->generation)
		nl_find_local(route, destination, 0, node->generation);
	if (!route->receiver)
		return TCX_NEXT;
	/* The node's stack fragments, or answers. */
	if (nl_length_on_link(skb, header, protocol) > route->mtu)
		return TCX_NEXT;
	/* A link without addresses does not look at those of another. */
	if (route->mode != NL_MODE_NETKIT && bpf_skb_store_bytes(skb, 0, route->macs, sizeof(route->macs), 0))
		return TCX_NEXT;
	nl_count_received(route->receiver, skb->len);
	return bpf_redirect_peer(route->ifindex, 0);
}

SEC("classifier")
int nl_from_uplink(struct __sk_buff *skb)
{
	struct nl_addr destination;

	/* What a device in promiscuous mode sees beside is another machine's. */
	if (skb->pkt_type != PACKET_HOST)
		return TCX_NEXT;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		const struct nl_ipv4_header *ip = nl_network_header(skb, sizeof(*ip));

		/* Options are for routers, and the node is one on this way. */
		if (!ip || ip->version_length != 0x45)
			return TCX_NEXT;
		destination = nl_mapped(ip->destination);
		return nl_deliver(skb, &destination, sizeof(*ip), ip->protocol);
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		const struct nl_ipv6_header *ip = nl_network_header(skb, sizeof(*ip));

		if (!ip || nl_is_link_local(&ip->source))
			return TCX_NEXT;
		destination = ip->destination;
		return nl_deliver(skb, &destination, sizeof(*ip), ip->next_header);
	}
	return TCX_NEXT;
}

char LICENSE[] SEC("license") = "GPL";
