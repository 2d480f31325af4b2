// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Sockets from before: those that were connected when the service translation was attached first have no binding.
 * They are marked once, while they can still be told from those that the translation let pass. When a backend is
 * numbered, the marked sockets connected to it are bound.
 */
#include "bound.h"
#include "sock.h"

/* A mark dies with its socket. The value says when it was set: CLOCK_MONOTONIC, in nanoseconds. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, int);
	__type(value, __u64);
} nl_before SEC(".maps");

#define TCP_CLOSE 7
#define TCP_LISTEN 10

struct net {
	__u64 net_cookie;
} __attribute__((preserve_access_index));

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common___net {
	possible_net_t skc_net;
} __attribute__((preserve_access_index));

struct sock___protocol {
	__u16 sk_protocol;
} __attribute__((preserve_access_index));

struct socket {
	struct sock *sk;
} __attribute__((preserve_access_index));

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct file *file;
} __attribute__((preserve_access_index));

static __always_inline int is_connected(const struct sock_common *sk)
{
	__u16 family = sk->skc_family;
	__u8 state = sk->skc_state;

	return (family == AF_INET || family == AF_INET6) && sk->skc_dport && state != TCP_CLOSE &&
	       state != TCP_LISTEN;
}

static __always_inline __u8 protocol_of(struct sock *sk)
{
	return BPF_CORE_READ((struct sock___protocol *)sk, sk_protocol);
}

static __always_inline int mark(struct sock *sk)
{
	struct sock_common *common = (struct sock_common *)sk;
	__u8 protocol;
	__u64 *marked;

	if (!is_connected(common))
		return 0;
	protocol = protocol_of(sk);
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return 0;
	marked = bpf_sk_storage_get(&nl_before, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (marked && !*marked)
		*marked = bpf_ktime_get_ns();
	return 0;
}

/* The sockets of all namespaces that a process has a descriptor of. */
SEC("iter/task_file")
int nl_mark_files(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct socket *socket;
	struct sock *sk;

	if (!file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	return sk ? mark(sk) : 0;
}

/* The others of one namespace: on their way between processes, or held by the kernel. */
SEC("iter/tcp")
int nl_mark_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct tcp_sock *sk;

	if (!common)
		return 0;
	/* Neither a request nor a socket that waits out its time. */
	sk = bpf_skc_to_tcp_sock(common);
	return sk ? mark((struct sock *)sk) : 0;
}

SEC("iter/udp")
int nl_mark_udp(struct bpf_iter__udp *ctx)
{
	struct udp_sock *sk = ctx->udp_sk;

	return sk ? mark((struct sock *)sk) : 0;
}

/* Binds the marked sockets whose peer is a backend. Which service they came through, nobody knows: it is 0. */
SEC("iter/bpf_sk_storage_map")
int nl_bind_marked(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	__u64 *marked = ctx->value;
	struct sock *sk = ctx->sk;
	struct sock_common *common = (struct sock_common *)sk;
	struct nl_binding *binding;
	struct nl_addr peer;
	void *storage;
	__u64 cookie;
	__u8 protocol;

	if (!sk || !marked)
		return 0;
	if (!common->skc_refcnt.refs.counter || !is_connected(common))
		return 0;
	protocol = protocol_of(sk);
	peer = nl_peer(common);
	storage = nl_bound_to(&peer, common->skc_dport, protocol);
	if (!storage || bpf_sk_storage_get(storage, sk, NULL, 0))
		return 0;
	cookie = bpf_get_socket_cookie(sk);
	binding = bpf_sk_storage_get(storage, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!binding)
		return 0;
	binding->cookie = cookie;
	binding->netns_cookie = BPF_CORE_READ((struct sock_common___net *)common, skc_net.net, net_cookie);
	binding->bound_at = *marked;
	binding->backend = peer;
	binding->vip = peer;
	binding->backend_port = common->skc_dport;
	binding->vip_port = common->skc_dport;
	binding->protocol = protocol;
	binding->family = common->skc_family;
	bpf_seq_write(seq, &cookie, sizeof(cookie));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
