/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Flows between two endpoints on a node whose stack translates addresses of some flows: by netfilter's NAT, or IPVS.
 *
 * Which it translates, it decides by a flow's first packet, and the answers have to come back through it. So the first
 * packet in each direction goes through the stack, and is looked for where it gets to the receiver. One that arrives
 * as it was sent is of a flow that is not translated, and those that follow go straight there; one that does not is
 * never found, and its flow goes on through the stack. A new flow may have the ports of an earlier one: it begins with
 * a SYN, or after a pause, and in between a packet goes through the stack from time to time, so that the stack
 * remembers the flow and gives its ports to no other.
 */
#ifndef NETLOOM_FLOWS_H
#define NETLOOM_FLOWS_H

#include "endpoints.h"

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct nl_local_flow_key);
	__type(value, struct nl_local_flow);
} nl_local_flows SEC(".maps");

/* Nanoseconds. The kernel forgets a UDP flow without an answer after 30 seconds, unless it is told otherwise. */
#define NL_FLOW_IDLE (10 * 1000000000ULL)
#define NL_FLOW_ASK_AGAIN (10 * 1000000000ULL)

#define NL_TCP_SYN 0x02
#define NL_MORE_FRAGMENTS bpf_htons(0x3fff)

/* The flow of a packet of TCP or UDP. False for others, for fragments, and for what has headers in between. */
static __always_inline int nl_local_flow_of(struct __sk_buff *skb, struct nl_local_flow_key *key, __u8 *tcp_flags)
{
	__be16 ports[2];
	__u32 transport;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct nl_ipv4_header ip;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
			return 0;
		if (ip.version_length != 0x45 || (ip.fragment & NL_MORE_FRAGMENTS))
			return 0;
		key->source = nl_mapped(ip.source);
		key->destination = nl_mapped(ip.destination);
		key->protocol = ip.protocol;
		transport = ETH_HLEN + sizeof(ip);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct nl_ipv6_header ip;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
			return 0;
		key->source = ip.source;
		key->destination = ip.destination;
		key->protocol = ip.next_header;
		transport = ETH_HLEN + sizeof(ip);
	} else {
		return 0;
	}
	if (key->protocol == IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, transport + 13, tcp_flags, sizeof(*tcp_flags)))
			return 0;
	} else if (key->protocol != IPPROTO_UDP) {
		return 0;
	}
	if (bpf_skb_load_bytes(skb, transport, ports, sizeof(ports)))
		return 0;
	key->source_port = ports[0];
	key->destination_port = ports[1];
	return 1;
}

/* Whether a packet that an endpoint sends to another may go past the stack: its flow is known not to be translated. */
static __noinline __attribute__((unused)) int nl_is_untranslated(struct __sk_buff *skb)
{
	struct nl_local_flow_key key = {};
	struct nl_local_flow *flow, new = {};
	__u64 now = bpf_ktime_get_coarse_ns();
	__u8 tcp_flags = 0;

	if (!nl_local_flow_of(skb, &key, &tcp_flags))
		return 0;
	flow = bpf_map_lookup_elem(&nl_local_flows, &key);
	if (!flow) {
		new.asked = new.seen = now;
		bpf_map_update_elem(&nl_local_flows, &key, &new, BPF_ANY);
		return 0;
	}
	if ((tcp_flags & NL_TCP_SYN) || now - flow->seen > NL_FLOW_IDLE)
		flow->untranslated = 0;
	flow->seen = now;
	if (!flow->untranslated || now - flow->asked > NL_FLOW_ASK_AGAIN) {
		flow->asked = now;
		return 0;
	}
	return 1;
}

/* What comes to an endpoint as it was sent is not translated. */
static __noinline __attribute__((unused)) int nl_note_arrival(struct __sk_buff *skb)
{
	struct nl_local_flow_key key = {};
	struct nl_local_flow *flow;
	__u8 tcp_flags = 0;

	if (!nl_local_flow_of(skb, &key, &tcp_flags))
		return 0;
	flow = bpf_map_lookup_elem(&nl_local_flows, &key);
	if (flow && !flow->untranslated)
		flow->untranslated = 1;
	return 0;
}

#endif
