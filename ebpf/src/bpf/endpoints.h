/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The node's endpoints as all programs see them: where each is, and what went there.
 */
#ifndef NETLOOM_ENDPOINTS_H
#define NETLOOM_ENDPOINTS_H

#include "packet.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct nl_addr);
	__type(value, struct nl_endpoint);
} nl_endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4096);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct nl_counters);
} nl_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct nl_node);
} nl_node SEC(".maps");

/* The node's own addresses, but for those that each of its links has. The values are of no account. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct nl_addr);
	__type(value, __u32);
} nl_own_addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NL_ROUTES);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct nl_route);
} nl_routes SEC(".maps");

/* Prefixes to and from which packets keep the addresses of endpoints. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct nl_prefix);
	__type(value, __u32);
} nl_native SEC(".maps");

static __always_inline struct nl_counters *nl_counters_of(__u32 id)
{
	return bpf_map_lookup_elem(&nl_counters, &id);
}

static __always_inline void nl_count_received(__u32 id, __u32 bytes)
{
	struct nl_counters *counters = nl_counters_of(id);

	if (counters) {
		counters->received_packets++;
		counters->received_bytes += bytes;
	}
}

/* A packet to or from an endpoint that was dropped. */
static __always_inline void nl_count_dropped(__u32 id, enum nl_drop reason)
{
	struct nl_counters *counters = nl_counters_of(id);

	if (counters)
		counters->dropped[reason]++;
}

static __always_inline const struct nl_node *nl_this_node(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&nl_node, &zero);
}

/* The element that this address and sender share with few others. */
static __always_inline struct nl_route *nl_route_of(const struct nl_addr *destination, __u32 sender)
{
	__u32 mixed = destination->word[0] ^ destination->word[1] ^ destination->word[2] ^ destination->word[3];
	__u32 index = ((mixed ^ sender) * 0x9e3779b1) >> (32 - NL_ROUTES_BITS);

	return bpf_map_lookup_elem(&nl_routes, &index);
}

static __always_inline int nl_same(const struct nl_addr *a, const struct nl_addr *b)
{
	return !((a->word[3] ^ b->word[3]) | (a->word[2] ^ b->word[2]) | (a->word[1] ^ b->word[1]) |
		 (a->word[0] ^ b->word[0]));
}

/* Sends what takes this route through the node's stack. */
static __always_inline void nl_by_stack(struct nl_route *route)
{
	route->ifindex = 0;
	route->receiver = 0;
}

/*
 * The route of an endpoint on this node; false if the address is not one's. Through the stack where that has a say.
 */
static __always_inline int nl_find_local(struct nl_route *route, const struct nl_addr *destination, __u32 sender,
					 __u32 generation)
{
	const struct nl_endpoint *to = bpf_map_lookup_elem(&nl_endpoints, destination);

	route->destination = *destination;
	route->sender = sender;
	route->generation = generation;
	if (!to) {
		nl_by_stack(route);
		return 0;
	}
	if (to->through_stack) {
		nl_by_stack(route);
		return 1;
	}
	route->ifindex = to->ifindex;
	route->mtu = to->mtu;
	route->receiver = to->id;
	route->mode = to->mode;
	__builtin_memcpy(route->macs, to->mac, sizeof(route->macs));
	return 1;
}

/* Whether packets to and from an address outside keep the endpoints' addresses: the others the stack masquerades. */
static __always_inline int nl_keeps_address(const struct nl_node *node, const struct nl_addr *outside)
{
	struct nl_prefix all = { .bits = 128, .address = *outside };

	return !(node->flags & NL_NODE_MASQUERADES) || bpf_map_lookup_elem(&nl_native, &all);
}

static __always_inline int nl_is_uplink(const struct nl_node *node, __u32 ifindex)
{
	for (int i = 0; i < NL_UPLINKS; i++) {
		if (node->uplinks[i] == ifindex)
			return 1;
		if (!node->uplinks[i])
			break;
	}
	return 0;
}

#endif
