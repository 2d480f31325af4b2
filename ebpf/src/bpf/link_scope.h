/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What belongs to one link, and what no link carries: packets that a router does not forward, or that whoever gets
 * them takes for a neighbour's. They are not taken past the node's stack, which is a router.
 *
 * Common packets pay for a few comparisons. What these cannot tell is looked at in functions that are not inlined.
 */
#ifndef NETLOOM_LINK_SCOPE_H
#define NETLOOM_LINK_SCOPE_H

#include "packet.h"

#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8
#define IPPROTO_HOPOPTS 0
#define IPPROTO_IPIP 4
#define IPPROTO_DCCP 33
#define IPPROTO_IPV6 41
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_GRE 47
#define IPPROTO_ESP 50
#define IPPROTO_AH 51
#define IPPROTO_NONE 59
#define IPPROTO_DSTOPTS 60
#define IPPROTO_SCTP 132
#define IPPROTO_UDPLITE 136

/* Router solicitation, the first, to redirect, the last (RFC 4861). */
#define NL_FIRST_OF_LINK 133
#define NL_LAST_OF_LINK 137

/* Where a packet may be taken by this. */
enum nl_scope {
	NL_SCOPE_ANY,
	/* What the node's stack makes of it. */
	NL_SCOPE_STACK,
	/* Not off its link. */
	NL_SCOPE_LINK,
};

/*
 * TTLs and hop limits that are about the link: 0 and 1 go no further, and one of 255 says that no router was on the
 * way (RFC 5082), which the node is.
 */
static __always_inline int nl_is_ttl_of_link(__u8 ttl)
{
	return (__u8)(ttl - 2) >= 253;
}

/* The Ethernet type with the two bytes behind it, of a frame that nl_network_header has found. */
static __always_inline __u32 nl_start_of(const void *network_header)
{
	return *(const __u32 *)(network_header - 2);
}

/* IPv4 by the frame and by the header, which has no options. */
static __always_inline int nl_is_plain_v4(const struct nl_ipv4_header *ip)
{
	return (nl_start_of(ip) & bpf_htonl(0xffffff00)) == bpf_htonl(0x08004500);
}

/* The same with options. */
static __always_inline int nl_is_v4(const struct nl_ipv4_header *ip)
{
	return (nl_start_of(ip) & bpf_htonl(0xfffff000)) == bpf_htonl(0x08004000) && (ip->version_length & 0xf) >= 5;
}

static __always_inline int nl_is_v6(const struct nl_ipv6_header *ip)
{
	return (nl_start_of(ip) & bpf_htonl(0xfffff000)) == bpf_htonl(0x86dd6000);
}

/* Whether the packet is longer than what the frame has of it. */
static __always_inline int nl_is_cut_off(const struct __sk_buff *skb, __u32 length)
{
	return length > skb->len - ETH_HLEN;
}

/* fe00::/7: addresses of a link and groups, and some that nobody uses. */
static __always_inline int nl_may_stay_v6(const struct nl_addr *address)
{
	return (address->word[0] & bpf_htonl(0xfe000000)) == bpf_htonl(0xfe000000);
}

/* ::ffff:0:0/96, which is how maps hold IPv4: on a link it is nobody's. */
static __always_inline int nl_is_mapped(const struct nl_addr *address)
{
	return address->word[2] == bpf_htonl(0xffff) && !address->word[1] && !address->word[0];
}

/* 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, and groups, reserved addresses and the limited broadcast from 224 on. */
static __always_inline int nl_stays_v4(__be32 address)
{
	__u32 ip = bpf_ntohl(address);
	__u32 first = ip >> 24;

	return !first || first == 127 || first >= 224 || ip >> 16 == 0xa9fe;
}

/* :: and ::1, what IPv4 is held as, addresses of a link, groups. */
static __always_inline int nl_stays_v6(const struct nl_addr *address)
{
	if (!(address->word[0] | address->word[1] | address->word[2]))
		return address->word[3] == 0 || address->word[3] == bpf_htonl(1);
	return nl_is_mapped(address) || nl_may_stay_v6(address);
}

/* The same of an address of either family, IPv4 held v4-mapped. */
static __always_inline int nl_stays_on_a_link(const struct nl_addr *address)
{
	return nl_is_mapped(address) ? nl_stays_v4(address->word[3]) : nl_stays_v6(address);
}

/* The protocols of most packets: nothing of a link is among them, and nothing comes before their headers. */
static __always_inline int nl_is_stream_or_datagram(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

/* An extension header's first bytes: RFC 8200, section 4. */
struct nl_extension {
	__u8 next;
	/* Of most of them, in units of eight bytes and without the first eight. */
	__u8 length;
	/* Of a fragment. */
	__be16 fragment;
	__be32 rest;
};

/* So many extension headers are looked through. */
#define NL_EXTENSIONS 6

/* Protocols of which no message belongs to a link, or could be seen to. */
static __always_inline int nl_is_of_any_link(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
	case IPPROTO_ESP:
	case IPPROTO_GRE:
	case IPPROTO_IPIP:
	case IPPROTO_IPV6:
	case IPPROTO_NONE:
		return 1;
	}
	return 0;
}

/*
 * Looks through an IPv6 packet's headers for neighbour discovery. Options for each router, unknown headers, too many,
 * and those that the packet does not have in full are left to the node's stack.
 */
static __noinline __attribute__((unused)) int nl_scope_of_v6(struct __sk_buff *skb)
{
	__u32 offset = ETH_HLEN + sizeof(struct nl_ipv6_header);
	struct nl_extension extension;
	__u8 next, type;

	if (bpf_skb_load_bytes(skb, ETH_HLEN + __builtin_offsetof(struct nl_ipv6_header, next_header), &next,
			       sizeof(next)))
		return NL_SCOPE_STACK;
	for (int i = 0; i < NL_EXTENSIONS; i++) {
		if (nl_is_of_any_link(next))
			return NL_SCOPE_ANY;
		if (next == IPPROTO_ICMPV6) {
			if (bpf_skb_load_bytes(skb, offset, &type, sizeof(type)))
				return NL_SCOPE_STACK;
			return type >= NL_FIRST_OF_LINK && type <= NL_LAST_OF_LINK ? NL_SCOPE_LINK : NL_SCOPE_ANY;
		}
		if (bpf_skb_load_bytes(skb, offset, &extension, sizeof(extension)))
			return NL_SCOPE_STACK;
		switch (next) {
		case IPPROTO_HOPOPTS:
			/* The kernel's own note of a packet that is still to be cut into segments is for nobody. */
			if (i || !skb->gso_size || extension.length || extension.fragment != bpf_htons(0xc204))
				return NL_SCOPE_STACK;
			offset += sizeof(extension);
			break;
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			offset += (extension.length + 1) * 8;
			break;
		case IPPROTO_AH:
			offset += (extension.length + 2) * 4;
			break;
		case IPPROTO_FRAGMENT:
			/* The first one has the headers, and without it the others are nothing. */
			if (extension.fragment & bpf_htons(0xfff8))
				return nl_is_of_any_link(extension.next) || extension.next == IPPROTO_ICMPV6 ?
					       NL_SCOPE_ANY :
					       NL_SCOPE_STACK;
			offset += sizeof(extension);
			break;
		default:
			return NL_SCOPE_STACK;
		}
		next = extension.next;
	}
	return NL_SCOPE_STACK;
}

#endif
