/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Packets: their headers, where they lie, and how long they are on a link.
 */
#ifndef NETLOOM_PACKET_H
#define NETLOOM_PACKET_H

#include "netloom.h"

struct nl_ipv4_header {
	/* 0x45 of a header without options. */
	__u8 version_length;
	__u8 tos;
	__be16 total_length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__u16 checksum;
	__be32 source;
	__be32 destination;
};

struct nl_ipv6_header {
	__be32 version_class_label;
	__be16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
	struct nl_addr source;
	struct nl_addr destination;
};

/* The network header, with `size` bytes of it readable; NULL if the packet has fewer. */
static __always_inline void *nl_network_header(struct __sk_buff *skb, __u32 size)
{
	void *data = (void *)(long)skb->data;

	if (data + ETH_HLEN + size <= (void *)(long)skb->data_end)
		return data + ETH_HLEN;
	if (bpf_skb_pull_data(skb, ETH_HLEN + size))
		return NULL;
	data = (void *)(long)skb->data;
	if (data + ETH_HLEN + size > (void *)(long)skb->data_end)
		return NULL;
	return data + ETH_HLEN;
}

static __always_inline struct nl_addr nl_mapped(__be32 address)
{
	struct nl_addr mapped = { .word = { 0, 0, bpf_htonl(0xffff), address } };

	return mapped;
}

/* fe80::/10 */
static __always_inline int nl_is_link_local(const struct nl_addr *address)
{
	return (address->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/* ff00::/8 */
static __always_inline int nl_is_multicast(const struct nl_addr *address)
{
	return (address->word[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/* ff02::/16 */
static __always_inline int nl_is_link_multicast(const struct nl_addr *address)
{
	return (address->word[0] & bpf_htonl(0xffff0000)) == bpf_htonl(0xff020000);
}

static __always_inline int nl_is_unspecified(const struct nl_addr *address)
{
	return !(address->word[0] | address->word[1] | address->word[2] | address->word[3]);
}

/* Longer than any link carries: of a packet that the node's stack had better measure. */
#define NL_TOO_LONG 0xffff

/*
 * How long the packet will be on a link, from its network header on: of one that is still to be cut into
 * segments, the length of such a segment.
 */
static __always_inline __u32 nl_length_on_link(struct __sk_buff *skb, __u32 network_header, __u8 protocol)
{
	__u32 length = skb->len - ETH_HLEN, segment = skb->gso_size;
	__u8 data_offset;

	if (!segment)
		return length < NL_TOO_LONG ? length : NL_TOO_LONG;
	if (protocol == IPPROTO_UDP)
		return network_header + 8 + segment;
	if (protocol != IPPROTO_TCP)
		return NL_TOO_LONG;
	if (bpf_skb_load_bytes(skb, ETH_HLEN + network_header + 12, &data_offset, sizeof(data_offset)))
		return NL_TOO_LONG;
	return network_header + (data_offset >> 4) * 4 + segment;
}

#endif
