// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * An endpoint's packets. Each endpoint has its own copy of these programs, with its identity and addresses as
 * constants: the verifier removes the branches that do not concern it, and no packet pays for a lookup of its
 * own sender.
 *
 * nl_from_endpoint runs on what the endpoint sends: on netkit at the peer, elsewhere at the ingress of the
 * node's end. nl_to_endpoint runs on what the node sends to the endpoint: on netkit at the primary, elsewhere
 * at the egress of the node's end.
 */
#include "events.h"
#include "flows.h"
#include "link_scope.h"
#include "neighbours.h"

const volatile struct nl_config nl_config = {};

/* How long a route is used without asking again: a quarter of a second at most, with the slowest clock. */
#define NL_ROUTE_JIFFIES 25

static __always_inline void nl_count_sent(__u32 bytes)
{
	struct nl_counters *counters = nl_counters_of(nl_config.id);

	if (counters) {
		counters->sent_packets++;
		counters->sent_bytes += bytes;
	}
}

static __always_inline int nl_drop(struct __sk_buff *skb, enum nl_drop reason)
{
	nl_count_dropped(nl_config.id, reason);
	nl_event_drop(skb, nl_config.id, reason, NL_FROM_ENDPOINT);
	return TC_ACT_SHOT;
}

static __always_inline int nl_is_own_v4(__be32 address)
{
	for (int i = 0; i < NL_ADDRESSES && i < nl_config.v4_count; i++) {
		if (address == nl_config.v4[i])
			return 1;
	}
	return 0;
}

static __always_inline int nl_is_own_v6(const struct nl_addr *address)
{
	for (int i = 0; i < NL_ADDRESSES && i < nl_config.v6_count; i++) {
		if (address->word[3] == nl_config.v6[i].word[3] && address->word[2] == nl_config.v6[i].word[2] &&
		    address->word[1] == nl_config.v6[i].word[1] && address->word[0] == nl_config.v6[i].word[0])
			return 1;
	}
	return 0;
}

/*
 * Neighbour discovery and everything else between the endpoint and the node that stays on their link. The
 * source is an address of the link, or none yet.
 */
static __always_inline int nl_stays_on_link(const struct nl_ipv6_header *ip)
{
	if (nl_is_link_local(&ip->source))
		return nl_is_link_local(&ip->destination) || nl_is_link_multicast(&ip->destination);
	return nl_is_unspecified(&ip->source) && nl_is_link_multicast(&ip->destination);
}

/* Sends a question that was made an answer back over the endpoint's link. */
static __always_inline int nl_answer(struct __sk_buff *skb)
{
	nl_count_sent(skb->len);
	skb->tc_classid = 0;
	return bpf_redirect(skb->ifindex, 0);
}

/* Hands a packet to the node's own stack: it is for the node, for outside, or needs an ICMP answer. */
static __always_inline int nl_to_node(struct __sk_buff *skb)
{
	nl_count_sent(skb->len);
	return nl_config.pass;
}

/*
 * Hands a packet to an endpoint on this node, past the node's stack. TTL and hop limit stay as they are: the
 * two endpoints see each other as if on one link, no loop can pass here because the packet goes straight to
 * the owner of its destination, and the checksum need not be touched.
 */
static __always_inline int nl_to_local(struct __sk_buff *skb, const struct nl_route *route, __u32 header,
				       __u8 protocol)
{
	/* What does not fit, the node's stack fragments, or tells the sender of. */
	if (route->mtu < nl_config.mtu && nl_length_on_link(skb, header, protocol) > route->mtu)
		return nl_to_node(skb);
	/* Left over from the sender's own qdiscs, it would classify the packet on the way out. */
	skb->tc_classid = 0;

	/*
	 * Every link here has an Ethernet header, also netkit's L3 mode, where it is all zero and a frame with
	 * another destination would count as one for another host. Between two of those nothing changes.
	 */
	if (nl_config.mode != NL_MODE_NETKIT || route->mode != NL_MODE_NETKIT) {
		if (bpf_skb_store_bytes(skb, 0, route->macs, sizeof(route->macs), 0))
			return nl_drop(skb, NL_DROP_MALFORMED);
	}
	nl_count_sent(skb->len);

	/*
	 * Straight into the peer's namespace, without a queue in between. The kernel allows it at ingress only,
	 * which netkit's hook is not. It passes by the receiver's nl_to_endpoint, which therefore cannot count.
	 */
	if (nl_config.mode == NL_MODE_VETH) {
		nl_count_received(route->receiver, skb->len);
		return bpf_redirect_peer(route->ifindex, 0);
	}

	/* Out through the node's end of the receiver's pair, and so through its nl_to_endpoint. */
	return bpf_redirect(route->ifindex, 0);
}

/*
 * Asks the node's routes for the way to outside. What the node itself is asked for, what has no route, and what
 * leaves by another device than an uplink, is for its stack.
 */
static __always_inline void nl_find_outside(struct __sk_buff *skb, struct nl_route *route,
					    const struct nl_node *node, struct bpf_fib_lookup *lookup)
{
	int found;

	if (!node->uplinks[0])
		return;
	/* The node's end of the pair, where the node receives what the endpoint sends. */
	lookup->ifindex = skb->ifindex;
	/* Shorter than any link's limit, which is so returned. */
	lookup->tot_len = 1;
	found = bpf_fib_lookup(skb, lookup, sizeof(*lookup), BPF_FIB_LOOKUP_SKIP_NEIGH);
	/* Before Linux 6.3 it does not know the flag, and looks for the neighbour as well. */
	if (found < 0)
		found = bpf_fib_lookup(skb, lookup, sizeof(*lookup), 0);
	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH)
		return;
	if (!nl_is_uplink(node, lookup->ifindex))
		return;
	route->mtu = lookup->mtu_result;
	route->next_hop_family = lookup->family;
	if (lookup->family == AF_INET) {
		route->next_hop.word[0] = lookup->ipv4_dst;
	} else {
		__builtin_memcpy(&route->next_hop, lookup->ipv6_dst, sizeof(route->next_hop));
	}
	route->ifindex = lookup->ifindex;
}

/*
 * Hands a packet to the next hop outside, past the node's stack. TTL and hop limit stay as they are, as if the
 * endpoint were on the wire itself: whoever forwards the packet from there counts them.
 */
static __always_inline int nl_to_outside(struct __sk_buff *skb, const struct nl_route *route, __u32 header,
					 __u8 protocol)
{
	struct bpf_redir_neigh next;

	if (nl_length_on_link(skb, header, protocol) > route->mtu)
		return nl_to_node(skb);
	skb->tc_classid = 0;
	nl_count_sent(skb->len);
	next.nh_family = route->next_hop_family;
	__builtin_memcpy(next.ipv6_nh, &route->next_hop, sizeof(next.ipv6_nh));
	return bpf_redirect_neigh(route->ifindex, &next, sizeof(next), 0);
}

/*
 * Whether the way to outside depends on which of several addresses the endpoint sends from: one way is remembered
 * for all of them.
 */
static __always_inline int nl_depends_on_source(const struct nl_node *node, __u8 family)
{
	return (node->flags & NL_NODE_ROUTES_BY_SOURCE) &&
	       (family == AF_INET ? nl_config.v4_count : nl_config.v6_count) > 1;
}

/* Whether the node's stack has a say in everything that the endpoint sends. */
static __always_inline int nl_sends_by_stack(const struct nl_addr *source)
{
	const struct nl_endpoint *own = bpf_map_lookup_elem(&nl_endpoints, source);

	return !own || own->through_stack;
}

/* Finds the way of a packet, and remembers it. */
static __always_inline void nl_find(struct __sk_buff *skb, struct nl_route *route, const struct nl_addr *source,
				    const struct nl_addr *destination, const struct nl_node *node,
				    struct bpf_fib_lookup *lookup)
{
	int local = nl_find_local(route, destination, nl_config.id, node->generation);

	route->until = bpf_jiffies64() + NL_ROUTE_JIFFIES;
	if (nl_sends_by_stack(source) || (local && (node->flags & NL_NODE_LOCAL_BY_STACK)))
		nl_by_stack(route);
	else if (!local && !nl_stays_on_a_link(destination) && !nl_depends_on_source(node, lookup->family) &&
		 nl_keeps_address(node, destination))
		nl_find_outside(skb, route, node, lookup);
}

/* The way of a packet, and whether it has to be looked up. */
static __always_inline int nl_is_fresh(const struct nl_route *route, const struct nl_addr *destination,
				       const struct nl_node *node)
{
	return nl_same(&route->destination, destination) && route->sender == nl_config.id &&
	       route->generation == node->generation &&
	       (route->receiver || bpf_jiffies64() <= route->until);
}

static __always_inline int nl_take(struct __sk_buff *skb, const struct nl_route *route,
				   const struct nl_node *node, __u32 header, __u8 protocol)
{
	/* A router forwards no packet of a frame to everybody. */
	if (nl_config.mode != NL_MODE_NETKIT && skb->pkt_type != PACKET_HOST)
		return nl_to_node(skb);
	if (route->receiver) {
		if ((node->flags & NL_NODE_TRANSLATES) && !nl_is_untranslated(skb))
			return nl_to_node(skb);
		return nl_to_local(skb, route, header, protocol);
	}
	if (route->ifindex)
		return nl_to_outside(skb, route, header, protocol);
	return nl_to_node(skb);
}

static __always_inline int nl_from_endpoint_v4(struct __sk_buff *skb)
{
	const struct nl_ipv4_header *ip = nl_network_header(skb, sizeof(*ip));
	const struct nl_node *node = nl_this_node();
	struct nl_addr destination;
	struct nl_route *route;
	__u8 version_length, protocol;

	if (!ip || !node)
		return nl_drop(skb, NL_DROP_MALFORMED);
	if ((!nl_is_plain_v4(ip) && !nl_is_v4(ip)) || nl_is_cut_off(skb, bpf_ntohs(ip->total_length)))
		return nl_drop(skb, NL_DROP_MALFORMED);
	if (!nl_is_own_v4(ip->source))
		return nl_drop(skb, NL_DROP_SPOOFED);
	if (nl_is_ttl_of_link(ip->ttl))
		return nl_to_node(skb);
	destination = nl_mapped(ip->destination);
	version_length = ip->version_length;
	protocol = ip->protocol;
	route = nl_route_of(&destination, nl_config.id);
	if (!route)
		return nl_to_node(skb);
	if (!nl_is_fresh(route, &destination, node)) {
		struct bpf_fib_lookup lookup = {
			.family = AF_INET,
			.ipv4_src = ip->source,
			.ipv4_dst = ip->destination,
		};
		struct nl_addr source = nl_mapped(ip->source);

		nl_find(skb, route, &source, &destination, node, &lookup);
	}
	/* Options are for routers, and the next one is the node. */
	if (version_length != 0x45 && !route->receiver)
		return nl_to_node(skb);
	return nl_take(skb, route, node, (version_length & 0xf) * 4, protocol);
}

/* Answers a solicitation in place. The node's own address on the link is with the endpoint's other constants. */
static __always_inline int nl_solicits(struct __sk_buff *skb, struct nl_addr source)
{
	const struct nl_endpoint *own;
	struct nl_addr address = nl_config.v6[0];

	own = bpf_map_lookup_elem(&nl_endpoints, &address);
	return own && own->id == nl_config.id && nl_answer_solicitation(skb, source, nl_config.id, own->gateway_mac);
}

/* What becomes of neighbour discovery between addresses that are not of the link alone. */
enum nl_discovered {
	NL_DISCOVERED_ANSWERED,
	NL_DISCOVERED_NODE,
	NL_DISCOVERED_LEAVES,
};

/*
 * The node answers for everybody on the link; what is for the node itself is left to its stack, which also drops it
 * where it does not forward. Nothing else gets off the link. Calls nothing, for its stack is deep.
 */
static __noinline int nl_discovers(struct __sk_buff *skb)
{
	struct bpf_fib_lookup lookup = { .family = AF_INET6, .ifindex = skb->ifindex, .tot_len = 1 };
	struct nl_ipv6_header ip;
	int found;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return NL_DISCOVERED_LEAVES;
	if (nl_config.mode != NL_MODE_NETKIT && nl_solicits(skb, ip.source))
		return NL_DISCOVERED_ANSWERED;
	__builtin_memcpy(lookup.ipv6_src, &ip.source, sizeof(lookup.ipv6_src));
	__builtin_memcpy(lookup.ipv6_dst, &ip.destination, sizeof(lookup.ipv6_dst));
	found = bpf_fib_lookup(skb, &lookup, sizeof(lookup), 0);
	if (found == BPF_FIB_LKUP_RET_NOT_FWDED || found == BPF_FIB_LKUP_RET_FWD_DISABLED)
		return NL_DISCOVERED_NODE;
	return NL_DISCOVERED_LEAVES;
}

static __always_inline int nl_from_endpoint_v6(struct __sk_buff *skb)
{
	const struct nl_ipv6_header *ip = nl_network_header(skb, sizeof(*ip));
	const struct nl_node *node = nl_this_node();
	struct nl_addr destination;
	struct nl_route *route;
	__u8 next_header, hop_limit;

	if (!ip || !node)
		return nl_drop(skb, NL_DROP_MALFORMED);
	if (!nl_is_v6(ip) || nl_is_cut_off(skb, bpf_ntohs(ip->payload_length) + sizeof(*ip)))
		return nl_drop(skb, NL_DROP_MALFORMED);
	if (!nl_is_own_v6(&ip->source)) {
		if (!nl_stays_on_link(ip))
			return nl_drop(skb, NL_DROP_SPOOFED);
		/* Without a link layer there is nothing to discover; the device's own attempts are not spoofing. */
		if (nl_config.mode == NL_MODE_NETKIT)
			return nl_drop(skb, NL_DROP_UNSUPPORTED);
		if (ip->next_header == IPPROTO_ICMPV6 && nl_solicits(skb, ip->source))
			return nl_answer(skb);
		return nl_to_node(skb);
	}
	destination = ip->destination;
	next_header = ip->next_header;
	hop_limit = ip->hop_limit;
	if (nl_may_stay_v6(&destination)) {
		if (nl_config.mode != NL_MODE_NETKIT && next_header == IPPROTO_ICMPV6 && nl_solicits(skb, ip->source))
			return nl_answer(skb);
		return nl_to_node(skb);
	}
	/* It would be taken for IPv4's. */
	if (nl_is_mapped(&destination))
		return nl_drop(skb, NL_DROP_MARTIAN);
	if (!nl_is_stream_or_datagram(next_header)) {
		int scope = nl_scope_of_v6(skb);

		if (scope == NL_SCOPE_LINK) {
			switch (nl_discovers(skb)) {
			case NL_DISCOVERED_ANSWERED:
				return nl_answer(skb);
			case NL_DISCOVERED_NODE:
				return nl_to_node(skb);
			}
			return nl_drop(skb, NL_DROP_LINK);
		}
		if (scope == NL_SCOPE_STACK)
			return nl_to_node(skb);
	}
	if (nl_is_ttl_of_link(hop_limit))
		return nl_to_node(skb);
	route = nl_route_of(&destination, nl_config.id);
	if (!route)
		return nl_to_node(skb);
	if (!nl_is_fresh(route, &destination, node)) {
		struct bpf_fib_lookup lookup = { .family = AF_INET6 };
		struct nl_addr source = ip->source;

		__builtin_memcpy(lookup.ipv6_src, &ip->source, sizeof(lookup.ipv6_src));
		__builtin_memcpy(lookup.ipv6_dst, &destination, sizeof(lookup.ipv6_dst));
		nl_find(skb, route, &source, &destination, node, &lookup);
	}
	return nl_take(skb, route, node, sizeof(*ip), next_header);
}

SEC("classifier")
int nl_from_endpoint(struct __sk_buff *skb)
{
	/*
	 * There is nobody on the link but the endpoint and its node: a frame to another's address is for the node,
	 * which would leave it alone otherwise, and so would the endpoint that it is redirected to. On veth every
	 * frame is one: the address by which the endpoint knows its node is no device's, so that nothing gets to the
	 * node's stack but through here, also when this program is gone.
	 */
	if (nl_config.mode != NL_MODE_NETKIT && skb->pkt_type == PACKET_OTHERHOST)
		bpf_skb_change_type(skb, PACKET_HOST);

	/* The outer tag is beside the frame, or in it; another one behind it is what the frame then has in it. */
	if (skb->vlan_present)
		return nl_drop(skb, NL_DROP_TAGGED);

	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return nl_from_endpoint_v4(skb);
	case bpf_htons(ETH_P_IPV6):
		return nl_from_endpoint_v6(skb);
	case bpf_htons(ETH_P_ARP):
		if (nl_config.mode != NL_MODE_NETKIT)
			return nl_answer_arp(skb, nl_config.id) ? nl_answer(skb) : nl_to_node(skb);
		break;
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		return nl_drop(skb, NL_DROP_TAGGED);
	}
	return nl_drop(skb, NL_DROP_UNSUPPORTED);
}

SEC("classifier")
int nl_to_endpoint(struct __sk_buff *skb)
{
	const struct nl_node *node = nl_this_node();

	nl_count_received(nl_config.id, skb->len);
	if (node && (node->flags & NL_NODE_TRANSLATES))
		nl_note_arrival(skb);
	return nl_config.pass;
}

char LICENSE[] SEC("license") = "GPL";
