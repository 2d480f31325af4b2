// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Packets from outside, at the ingress of a device to there: those to an endpoint go straight into it, past the
 * node's stack. Everything else, and whatever needs an ICMP answer or fragments, goes on unchanged.
 */
#include "endpoints.h"
#include "events.h"
#include "link_scope.h"

/* How long an address that the node had is taken for its own without asking again, in jiffies. */
#define NL_OWN_JIFFIES 25

/*
 * Whether the node still has an address that it told it had: whoever took it over is outside, also while nobody
 * tells.
 */
static __always_inline int nl_is_own(struct __sk_buff *skb, const struct nl_addr *address)
{
	struct bpf_fib_lookup lookup = { .ifindex = skb->ifindex, .tot_len = 1 };
	int found;

	if (!bpf_map_lookup_elem(&nl_own_addresses, address))
		return 0;
	if (nl_is_mapped(address)) {
		lookup.family = AF_INET;
		lookup.ipv4_dst = address->word[3];
	} else {
		lookup.family = AF_INET6;
		__builtin_memcpy(lookup.ipv6_dst, address, sizeof(lookup.ipv6_dst));
	}
	found = bpf_fib_lookup(skb, &lookup, sizeof(lookup), 0);
	return found == BPF_FIB_LKUP_RET_NOT_FWDED || found == BPF_FIB_LKUP_RET_FWD_DISABLED;
}

/* Looks where packets from an address come from, if they come in here. IPv4 is mapped in `source`. */
static __noinline void nl_find_origin(struct __sk_buff *skb, struct nl_route *origin, const struct nl_addr *source,
				      __u32 generation)
{
	if (!origin || !source)
		return;
	origin->destination = *source;
	origin->sender = NL_SOURCE;
	origin->generation = generation;
	origin->until = bpf_jiffies64() + NL_OWN_JIFFIES;
	if (skb->protocol == bpf_htons(ETH_P_IP) ? nl_stays_v4(source->word[3]) : nl_stays_v6(source))
		origin->mode = NL_ORIGIN_MARTIAN;
	else if (bpf_map_lookup_elem(&nl_endpoints, source) || nl_is_own(skb, source))
		origin->mode = NL_ORIGIN_NODE;
	else
		origin->mode = NL_ORIGIN_OUTSIDE;
}

/* enum nl_origin of an address that a packet has as its source. */
static __always_inline __u32 nl_origin_of(struct __sk_buff *skb, const struct nl_addr *source, __u32 generation)
{
	struct nl_route *origin = nl_route_of(source, NL_SOURCE);

	if (!origin)
		return NL_ORIGIN_MARTIAN;
	if (!nl_same(&origin->destination, source) || origin->sender != NL_SOURCE ||
	    origin->generation != generation ||
	    (origin->mode != NL_ORIGIN_OUTSIDE && bpf_jiffies64() > origin->until))
		nl_find_origin(skb, origin, source, generation);
	return origin->mode;
}

/* The way of what comes in by a device, which goes through the node's stack unless it is an uplink. */
static __always_inline void nl_find_from_uplink(struct nl_route *route, const struct nl_addr *destination,
						const struct nl_node *node, __u32 ifindex)
{
	nl_find_local(route, destination, 0, node->generation);
	if (!nl_is_uplink(node, ifindex))
		nl_by_stack(route);
}

/*
 * Into the endpoint's namespace without a queue in between, which the kernel allows at ingress. It passes by the
 * endpoint's nl_to_endpoint, which therefore cannot count. TTL and hop limit stay as they are: the endpoint is seen
 * as if it were on the wire itself, and no loop can pass here because the packet goes straight to the owner of its
 * destination.
 */
static __always_inline int nl_deliver(struct __sk_buff *skb, const struct nl_addr *source,
				      const struct nl_addr *destination, __u32 header, __u8 protocol)
{
	const struct nl_node *node = nl_this_node();
	struct nl_route *route = nl_route_of(destination, 0);

	if (!node || !route)
		return TCX_NEXT;
	if (!nl_same(&route->destination, destination) || route->sender || route->generation != node->generation)
		nl_find_from_uplink(route, destination, node, skb->ifindex);
	if (!route->receiver)
		return TCX_NEXT;
	switch (nl_origin_of(skb, source, node->generation)) {
	case NL_ORIGIN_OUTSIDE:
		break;
	case NL_ORIGIN_NODE:
		nl_count_dropped(route->receiver, NL_DROP_SPOOFED);
		nl_event_drop(skb, route->receiver, NL_DROP_SPOOFED, NL_TO_ENDPOINT);
		return TC_ACT_SHOT;
	default:
		return TCX_NEXT;
	}
	if (!nl_keeps_address(node, source))
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
	struct nl_addr source, destination;

	/* What a device in promiscuous mode sees beside is another machine's, and what has a tag another network's. */
	if (skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return TCX_NEXT;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		const struct nl_ipv4_header *ip = nl_network_header(skb, sizeof(*ip));

		/* Options are for routers, and the node is one on this way. */
		if (!ip || !nl_is_plain_v4(ip) || nl_is_ttl_of_link(ip->ttl) ||
		    nl_is_cut_off(skb, bpf_ntohs(ip->total_length)))
			return TCX_NEXT;
		source = nl_mapped(ip->source);
		destination = nl_mapped(ip->destination);
		return nl_deliver(skb, &source, &destination, sizeof(*ip), ip->protocol);
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		const struct nl_ipv6_header *ip = nl_network_header(skb, sizeof(*ip));

		if (!ip || !nl_is_v6(ip) || nl_is_ttl_of_link(ip->hop_limit) ||
		    nl_is_cut_off(skb, bpf_ntohs(ip->payload_length) + sizeof(*ip)))
			return TCX_NEXT;
		source = ip->source;
		destination = ip->destination;
		/* It would be taken for IPv4's. */
		if (nl_is_mapped(&destination) || nl_is_mapped(&source))
			return TCX_NEXT;
		if (!nl_is_stream_or_datagram(ip->next_header) && nl_scope_of_v6(skb) != NL_SCOPE_ANY)
			return TCX_NEXT;
		return nl_deliver(skb, &source, &destination, sizeof(*ip), ip->next_header);
	}
	return TCX_NEXT;
}

char LICENSE[] SEC("license") = "GPL";
