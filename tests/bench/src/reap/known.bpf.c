// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * The known way: in each namespace, an iterator over all its UDP or TCP sockets compares each one's peer, and
 * destroys those of the dead backend.
 */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct sock_common {
	__be32 skc_daddr;
	__be16 skc_dport;
} __attribute__((preserve_access_index));

struct udp_sock;

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
} __attribute__((preserve_access_index));

struct bpf_iter__udp {
	struct bpf_iter_meta *meta;
	struct udp_sock *udp_sk;
} __attribute__((preserve_access_index));

const volatile __u32 dead_address;
const volatile __u16 dead_port;

static __always_inline int is_stale(struct sock_common *sk)
{
	return sk->skc_dport == dead_port && sk->skc_daddr == dead_address;
}

static __always_inline int found(struct seq_file *seq, struct sock_common *sk)
{
	__u64 cookie;

	if (!is_stale(sk))
		return 0;
	cookie = bpf_get_socket_cookie(sk);
	bpf_seq_write(seq, &cookie, sizeof(cookie));
	return 0;
}

/* bpf_sock_destroy(): the number is filled in when the kernel is known. */
static __always_inline int destroy(struct seq_file *seq, struct sock_common *sk)
{
	__u64 cookie;

	if (!is_stale(sk))
		return 0;
	cookie = bpf_get_socket_cookie(sk);
	asm volatile("r1 = %[sk]\n"
		     ".8byte 0x2085\n"
		     :
		     : [sk] "r"(sk)
		     : "r0", "r1", "r2", "r3", "r4", "r5", "memory");
	bpf_seq_write(seq, &cookie, sizeof(cookie));
	return 0;
}

SEC("iter/tcp")
int find_tcp(struct bpf_iter__tcp *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct sock_common *sk = ctx->sk_common;

	return sk ? found(seq, sk) : 0;
}

SEC("iter/udp")
int find_udp(struct bpf_iter__udp *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct udp_sock *sk = ctx->udp_sk;

	return sk ? found(seq, (struct sock_common *)sk) : 0;
}

SEC("iter/tcp")
int destroy_tcp(struct bpf_iter__tcp *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct sock_common *sk = ctx->sk_common;

	return sk ? destroy(seq, sk) : 0;
}

SEC("iter/udp")
int destroy_udp(struct bpf_iter__udp *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct udp_sock *sk = ctx->udp_sk;

	return sk ? destroy(seq, (struct sock_common *)sk) : 0;
}

char LICENSE[] SEC("license") = "GPL";
