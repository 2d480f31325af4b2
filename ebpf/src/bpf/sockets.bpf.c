// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Finding bound sockets: one pass over a backend's bindings sees its sockets in every network namespace, tells
 * those asked for apart here in the kernel, and writes a record of each.
 *
 * User space fills the three maps, then reads the iterator of each backend it is interested in.
 */
#include "bound.h"
#include "sock.h"

/* TCP_CLOSE and TCP_LISTEN of include/net/tcp_states.h: a socket in another state has a peer. */
#define STATE_CLOSE 7
#define STATE_LISTEN 10

#define FIND_BACKENDS 1
#define FIND_NETNS 2

/*
 * What to look for: the only element of nl_find. `src/layout.rs` mirrors this struct and the next, which no
 * other program uses.
 */
struct nl_find {
	/* Nanoseconds since the socket was bound. */
	__u64 min_age;
	/* Bit n for state n. */
	__u32 states;
	/* Bit 0 for TCP, bit 1 for UDP. */
	__u16 protocols;
	/* FIND_BACKENDS, FIND_NETNS: only what these maps hold. */
	__u16 conditions;
};

/* One socket, as user space reads it. Both addresses of an IPv4 socket are held v4-mapped. */
struct nl_found {
	__u64 cookie;
	__u64 netns_cookie;
	/* CLOCK_MONOTONIC, in nanoseconds. */
	__u64 bound_at;
	/* TCP: acknowledged by the peer, the SYN counted as one; received in order. */
	__u64 bytes_acked;
	__u64 bytes_received;
	struct nl_addr backend;
	struct nl_addr local;
	struct nl_addr remote;
	__u32 service;
	/* The index of the device the socket is bound to, or 0. */
	__u32 device;
	__be16 backend_port;
	__u16 local_port;
	__be16 remote_port;
	__u8 protocol;
	__u8 family;
	__u8 state;
	__u8 reserved[7];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nl_find);
} nl_find SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct nl_bound_key);
	__type(value, __u8);
} nl_find_backend SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u8);
} nl_find_netns SEC(".maps");

static __always_inline int is_wanted(const struct nl_find *find, const struct nl_binding *binding,
				     __u8 state)
{
	__u16 protocol = binding->protocol == IPPROTO_TCP ? 1 : binding->protocol == IPPROTO_UDP ? 2 : 0;
	struct nl_bound_key backend = {};
	__u64 netns;

	if (!(find->protocols & protocol) || !(find->states & (1u << (state & 31))))
		return 0;
	if (find->min_age && bpf_ktime_get_ns() - binding->bound_at < find->min_age)
		return 0;
	if (find->conditions & FIND_NETNS) {
		netns = binding->netns_cookie;
		if (!bpf_map_lookup_elem(&nl_find_netns, &netns))
			return 0;
	}
	if (find->conditions & FIND_BACKENDS) {
		backend.address = binding->backend;
		backend.port = binding->backend_port;
		backend.protocol = binding->protocol;
		if (!bpf_map_lookup_elem(&nl_find_backend, &backend))
			return 0;
	}
	return 1;
}

/* Not inlined: the type information that user space checks its mirror against knows types of functions only. */
static __noinline void write(struct seq_file *seq, struct nl_found *found)
{
	/* A full buffer ends the read; the kernel shows this socket again at the next. */
	bpf_seq_write(seq, found, sizeof(*found));
}

static __always_inline int show(struct seq_file *seq, struct sock_common *sk, const struct nl_binding *binding)
{
	const struct nl_find *find;
	struct nl_found found = {};
	struct tcp_sock *tcp;
	__u32 zero = 0;

	/* A socket that was closed is still here until the readers of the kernel's tables are through. */
	if (!sk->skc_refcnt.refs.counter)
		return 0;
	find = bpf_map_lookup_elem(&nl_find, &zero);
	if (!find)
		return 0;
	found.state = sk->skc_state;
	if (!is_wanted(find, binding, found.state))
		return 0;

	found.family = sk->skc_family;
	found.remote_port = sk->skc_dport;
	found.remote = nl_peer(sk);
	if (found.family == AF_INET6)
		found.local = nl_v6(&sk->skc_v6_rcv_saddr);
	else
		found.local = nl_v4_mapped(sk->skc_rcv_saddr);
	found.backend = binding->backend;
	found.backend_port = binding->backend_port;
	/*
	 * The binding says where connect was sent. A connect that failed afterwards, or that another program
	 * sent elsewhere, left the socket with another peer: it is not this backend's.
	 */
	if (found.state != STATE_CLOSE && found.state != STATE_LISTEN &&
	    (found.remote_port != found.backend_port || !nl_is_address(&found.remote, &found.backend)))
		return 0;

	found.cookie = binding->cookie;
	found.netns_cookie = binding->netns_cookie;
	found.bound_at = binding->bound_at;
	found.service = binding->service;
	found.protocol = binding->protocol;
	found.local_port = sk->skc_num;
	found.device = sk->skc_bound_dev_if;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (tcp) {
		found.bytes_acked = tcp->bytes_acked;
		found.bytes_received = tcp->bytes_received;
	}
	write(seq, &found);
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int nl_find_bound(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct nl_binding *binding = ctx->value;
	struct sock *sk = ctx->sk;

	/* The last call of a pass comes without a socket. */
	if (!sk || !binding)
		return 0;
	return show(seq, (struct sock_common *)sk, binding);
}

/*
 * The same among all sockets of one namespace, where the kernel has no iterator over storages. Only a connected
 * socket says which backend's storage to look in.
 */
static __always_inline int show_if_bound(struct seq_file *seq, struct sock_common *sk, __u8 protocol)
{
	const struct nl_binding *binding;
	struct nl_addr peer = nl_peer(sk);
	void *storage = nl_bound_to(&peer, sk->skc_dport, protocol);

	if (!storage)
		return 0;
	binding = bpf_sk_storage_get(storage, sk, NULL, 0);
	if (!binding)
		return 0;
	return show(seq, sk, binding);
}

SEC("iter/tcp")
int nl_find_tcp(struct bpf_iter__tcp *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct sock_common *sk = ctx->sk_common;

	return sk ? show_if_bound(seq, sk, IPPROTO_TCP) : 0;
}

SEC("iter/udp")
int nl_find_udp(struct bpf_iter__udp *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct udp_sock *sk = ctx->udp_sk;

	return sk ? show_if_bound(seq, (struct sock_common *)sk, IPPROTO_UDP) : 0;
}

char LICENSE[] SEC("license") = "GPL";
