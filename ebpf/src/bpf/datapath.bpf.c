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
#include "netloom.h"

struct nl_ipv4_header {
	__u8 before_source[12];
	__be32 source;
	__be32 destination;
};

struct nl_ipv6_header {
	__u8 before_source[8];
	struct nl_addr source;
	struct nl_addr destination;
};

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

const volatile struct nl_config nl_config = {};

static __always_inline struct nl_counters *nl_counters_of(__u32 id)
{
	return bpf_map_lookup_elem(&nl_counters, &id);
}

static __always_inline void nl_count_sent(__u32 bytes)
{
	struct nl_counters *counters = nl_counters_of(nl_config.id);

	if (counters) {
		counters->sent_packets++;
		counters->sent_bytes += bytes;
	}
}

static __always_inline void nl_count_received(__u32 id, __u32 bytes)
{
	struct nl_counters *counters = nl_counters_of(id);

	if (counters) {
		counters->received_packets++;
		counters->received_bytes += bytes;
	}
}

static __always_inline int nl_drop(enum nl_drop reason)
{
	struct nl_counters *counters = nl_counters_of(nl_config.id);

	if (counters)
		counters->dropped[reason]++;
	return TC_ACT_SHOT;
}

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

/* fe80::/10 */
static __always_inline int nl_is_link_local(const struct nl_addr *address)
{
	return (address->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
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
static __always_inline int nl_to_local(struct __sk_buff *skb, const struct nl_endpoint *to)
{
	/* Left over from the sender's own qdiscs, it would classify the packet on the way out. */
	skb->tc_classid = 0;

	/*
	 * Every link here has an Ethernet header, also netkit's L3 mode, where it is all zero and a frame with
	 * another destination would count as one for another host. Between two of those nothing changes.
	 */
	if (nl_config.mode != NL_MODE_NETKIT || to->mode != NL_MODE_NETKIT) {
		if (bpf_skb_store_bytes(skb, 0, to->mac, sizeof(to->mac) + sizeof(to->host_mac), 0))
			return nl_drop(NL_DROP_MALFORMED);
	}
	nl_count_sent(skb->len);

	/*
	 * Straight into the peer's namespace, without a queue in between. The kernel allows it at ingress only,
	 * which netkit's hook is not. It passes by the receiver's nl_to_endpoint, which therefore cannot count.
	 */
	if (nl_config.mode == NL_MODE_VETH && to->mode == NL_MODE_VETH) {
		nl_count_received(to->id, skb->len);
		return bpf_redirect_peer(to->ifindex, 0);
	}

	/* Out through the node's end of the receiver's pair, and so through its nl_to_endpoint. */
	return bpf_redirect(to->ifindex, 0);
}

static __always_inline int nl_forward(struct __sk_buff *skb, const struct nl_addr *destination)
{
	const struct nl_endpoint *to = bpf_map_lookup_elem(&nl_endpoints, destination);

	if (!to)
		return nl_to_node(skb);
	/* Some packets may not fit: the node's stack fragments them or tells the sender. */
	if (to->mtu < nl_config.mtu)
		return nl_to_node(skb);
	return nl_to_local(skb, to);
}

static __always_inline int nl_from_endpoint_v4(struct __sk_buff *skb)
{
	const struct nl_ipv4_header *ip = nl_network_header(skb, sizeof(*ip));
	struct nl_addr destination = { .word = { 0, 0, bpf_htonl(0xffff), 0 } };

	if (!ip)
		return nl_drop(NL_DROP_MALFORMED);
	if (!nl_is_own_v4(ip->source))
		return nl_drop(NL_DROP_SPOOFED);
	destination.word[3] = ip->destination;
	return nl_forward(skb, &destination);
}

static __always_inline int nl_from_endpoint_v6(struct __sk_buff *skb)
{
	const struct nl_ipv6_header *ip = nl_network_header(skb, sizeof(*ip));
	struct nl_addr destination;

	if (!ip)
		return nl_drop(NL_DROP_MALFORMED);
	if (!nl_is_own_v6(&ip->source)) {
		if (!nl_stays_on_link(ip))
			return nl_drop(NL_DROP_SPOOFED);
		/* Without a link layer there is nothing to discover; the device's own attempts are not spoofing. */
		if (nl_config.mode == NL_MODE_NETKIT)
			return nl_drop(NL_DROP_UNSUPPORTED);
		return nl_to_node(skb);
	}
	destination = ip->destination;
	return nl_forward(skb, &destination);
}

SEC("classifier")
int nl_from_endpoint(struct __sk_buff *skb)
{
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return nl_from_endpoint_v4(skb);
	case bpf_htons(ETH_P_IPV6):
		return nl_from_endpoint_v6(skb);
	case bpf_htons(ETH_P_ARP):
		if (nl_config.mode != NL_MODE_NETKIT)
			return nl_to_node(skb);
	}
	return nl_drop(NL_DROP_UNSUPPORTED);
}

SEC("classifier")
int nl_to_endpoint(struct __sk_buff *skb)
{
	nl_count_received(nl_config.id, skb->len);
	return nl_config.pass;
}

char LICENSE[] SEC("license") = "GPL";
