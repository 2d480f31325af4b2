/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Who has this address? On a link between an endpoint and its node the node has them all: the gateway's, which no
 * device has, and those of the node's other endpoints. A question for one of these is made the answer, and goes
 * back to where it came from. Other questions are the node's own to answer.
 */
#ifndef NETLOOM_NEIGHBOURS_H
#define NETLOOM_NEIGHBOURS_H

#include "endpoints.h"

#define NL_ARP_REQUEST bpf_htons(1)
#define NL_ARP_REPLY bpf_htons(2)

struct nl_arp {
	__u8 destination[6];
	__u8 source[6];
	__be16 ethertype;
	/* Hardware and protocol types and address lengths. */
	__u8 kind[6];
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender[4];
	__u8 target_mac[6];
	__u8 target[4];
} __attribute__((packed));

/* Whether the node answers for an address of the family: not for the asking endpoint's own. */
static __always_inline int nl_answers_for(const struct nl_addr *address, __u32 asking)
{
	const struct nl_endpoint *endpoint = bpf_map_lookup_elem(&nl_endpoints, address);

	return endpoint && endpoint->id != asking;
}

/* Answers an ARP request; false if the node's stack is to. */
static __always_inline int nl_answer_arp(struct __sk_buff *skb, __u32 asking)
{
	struct nl_endpoint *own;
	struct nl_addr address;
	struct nl_arp arp;
	__be32 sender, target;

	if (bpf_skb_load_bytes(skb, 0, &arp, sizeof(arp)) || arp.operation != NL_ARP_REQUEST)
		return 0;
	__builtin_memcpy(&sender, arp.sender, sizeof(sender));
	__builtin_memcpy(&target, arp.target, sizeof(target));
	/* Whoever asks has this address, or it looks whether somebody has it before it takes it. */
	address = nl_mapped(sender);
	own = bpf_map_lookup_elem(&nl_endpoints, &address);
	if (!own || own->id != asking)
		return 0;
	address = nl_mapped(target);
	if (target != NL_GATEWAY_V4 && !nl_answers_for(&address, asking))
		return 0;
	__builtin_memcpy(arp.destination, arp.sender_mac, sizeof(arp.destination));
	__builtin_memcpy(arp.source, own->gateway_mac, sizeof(arp.source));
	arp.operation = NL_ARP_REPLY;
	__builtin_memcpy(arp.target_mac, arp.sender_mac, sizeof(arp.target_mac));
	__builtin_memcpy(arp.target, arp.sender, sizeof(arp.target));
	__builtin_memcpy(arp.sender_mac, own->gateway_mac, sizeof(arp.sender_mac));
	__builtin_memcpy(arp.sender, &target, sizeof(arp.sender));
	return !bpf_skb_store_bytes(skb, 0, &arp, sizeof(arp), 0);
}

#define NL_SOLICITATION 135
#define NL_ADVERTISEMENT 136
/* A router's, asked for, and taking the place of what was known. */
#define NL_ADVERTISED bpf_htonl(0xe0000000)
#define NL_SOURCE_LINK_ADDRESS 1
#define NL_TARGET_LINK_ADDRESS 2

/* RFC 4861, sections 4.3 and 4.4, with one option. */
struct nl_discovery {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be32 flags;
	struct nl_addr target;
	__u8 option;
	/* In units of eight bytes. */
	__u8 option_length;
	__u8 mac[6];
};

/* What the checksum is over: RFC 8200, section 8.1. */
struct nl_discovery_sum {
	struct nl_addr source;
	struct nl_addr destination;
	__be32 length;
	__be32 next_header;
	struct nl_discovery message;
};

/* Answers a neighbour solicitation; false if the node's stack is to. */
static __always_inline int nl_answer_solicitation(struct __sk_buff *skb, struct nl_addr source, __u32 asking,
						  const __u8 *gateway_mac)
{
	struct nl_addr gateway = NL_GATEWAY_V6;
	struct nl_discovery_sum sum = {};
	struct {
		__u8 destination[6];
		__u8 source[6];
	} frame;
	__s64 checksum;

	/* Without the option it looks whether somebody has its address. */
	if (skb->len != ETH_HLEN + sizeof(struct nl_ipv6_header) + sizeof(sum.message))
		return 0;
	if (bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(struct nl_ipv6_header), &sum.message, sizeof(sum.message)))
		return 0;
	if (sum.message.type != NL_SOLICITATION || sum.message.option != NL_SOURCE_LINK_ADDRESS ||
	    sum.message.option_length != 1)
		return 0;
	if (!nl_same(&sum.message.target, &gateway) && !nl_answers_for(&sum.message.target, asking))
		return 0;
	__builtin_memcpy(frame.destination, sum.message.mac, sizeof(frame.destination));
	__builtin_memcpy(frame.source, gateway_mac, sizeof(frame.source));
	sum.source = sum.message.target;
	sum.destination = source;
	sum.length = bpf_htonl(sizeof(sum.message));
	sum.next_header = bpf_htonl(IPPROTO_ICMPV6);
	sum.message.type = NL_ADVERTISEMENT;
	sum.message.checksum = 0;
	sum.message.flags = NL_ADVERTISED;
	sum.message.option = NL_TARGET_LINK_ADDRESS;
	__builtin_memcpy(sum.message.mac, gateway_mac, sizeof(sum.message.mac));
	checksum = bpf_csum_diff(NULL, 0, (__be32 *)&sum, sizeof(sum), 0);
	if (checksum < 0)
		return 0;
	checksum = (checksum & 0xffff) + ((__u32)checksum >> 16);
	checksum = (checksum & 0xffff) + (checksum >> 16);
	sum.message.checksum = ~checksum;
	/* Source and destination lie one after the other, here and in the header. */
	return !bpf_skb_store_bytes(skb, 0, &frame, sizeof(frame), 0) &&
	       !bpf_skb_store_bytes(skb, ETH_HLEN + 8, &sum.source, 2 * sizeof(sum.source), 0) &&
	       !bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(struct nl_ipv6_header), &sum.message,
				    sizeof(sum.message), 0);
}

#endif
