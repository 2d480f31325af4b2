/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The kernel's sockets, as far as iterators read them. */
#ifndef NETLOOM_SOCK_H
#define NETLOOM_SOCK_H

#include "netloom.h"

#include <bpf/bpf_core_read.h>

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
} __attribute__((preserve_access_index));

struct refcount_struct {
	struct {
		int counter;
	} refs;
} __attribute__((preserve_access_index));

struct sock_common {
	struct refcount_struct skc_refcnt;
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	unsigned char skc_state;
	int skc_bound_dev_if;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

struct tcp_sock {
	__u64 bytes_acked;
	__u64 bytes_received;
} __attribute__((preserve_access_index));

/* Begins with its struct sock, as all sockets do. */
struct udp_sock;

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
} __attribute__((preserve_access_index));

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
} __attribute__((preserve_access_index));

struct bpf_iter__udp {
	struct bpf_iter_meta *meta;
	struct udp_sock *udp_sk;
} __attribute__((preserve_access_index));

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

static __always_inline struct nl_addr nl_v4_mapped(__be32 v4)
{
	struct nl_addr address = { .word = { 0, 0, bpf_htonl(0xffff), v4 } };

	return address;
}

static __always_inline struct nl_addr nl_v6(const struct in6_addr *from)
{
	struct nl_addr address = { .word = {
		from->in6_u.u6_addr32[0],
		from->in6_u.u6_addr32[1],
		from->in6_u.u6_addr32[2],
		from->in6_u.u6_addr32[3],
	} };

	return address;
}

/* The peer's address; all zero of an unconnected socket. */
static __always_inline struct nl_addr nl_peer(const struct sock_common *sk)
{
	if (sk->skc_family == AF_INET6)
		return nl_v6(&sk->skc_v6_daddr);
	return nl_v4_mapped(sk->skc_daddr);
}

static __always_inline int nl_is_address(const struct nl_addr *a, const struct nl_addr *b)
{
	return a->word[3] == b->word[3] && a->word[2] == b->word[2] && a->word[1] == b->word[1] &&
	       a->word[0] == b->word[0];
}

#endif
