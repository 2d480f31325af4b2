// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Destroying sockets while an iterator walks all sockets of a namespace (Linux 6.5): for kernels that do not
 * destroy sockets through sock_diag.
 */
#include "sock.h"

/* Value of nl_doomed; the key is the socket's cookie. `src/layout.rs` mirrors it. */
struct nl_doomed {
	struct nl_addr backend;
	__be16 backend_port;
	__u16 reserved;
	/* 1 until the socket was met; then 0, or a negative errno. */
	__s32 result;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct nl_doomed);
} nl_doomed SEC(".maps");

/*
 * Calls the kernel's bpf_sock_destroy(). It is written as the instruction itself, a call of source register 2: its
 * number differs from kernel to kernel, and is filled in before loading (`socket_destroyer_with` in
 * src/kfunc.rs). The iterator has locked the socket.
 */
static __always_inline int destroy(struct sock_common *sk)
{
	int result;

	asm volatile("r1 = %[sk]\n"
		     ".8byte 0x2085\n"
		     "%[result] = w0\n"
		     : [result] "=w"(result)
		     : [sk] "r"(sk)
		     : "r0", "r1", "r2", "r3", "r4", "r5", "memory");
	return result;
}

/* Only as long as its peer is the backend: it may have been connected anew since it was found. */
static __always_inline int destroy_if_doomed(struct sock_common *sk)
{
	__u64 cookie = bpf_get_socket_cookie(sk);
	struct nl_doomed *doomed = bpf_map_lookup_elem(&nl_doomed, &cookie);
	struct nl_addr peer;

	if (!doomed)
		return 0;
	peer = nl_peer(sk);
	if (sk->skc_dport != doomed->backend_port || !nl_is_address(&peer, &doomed->backend))
		return 0;
	doomed->result = destroy(sk);
	return 0;
}

SEC("iter/tcp")
int nl_destroy_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;

	return sk ? destroy_if_doomed(sk) : 0;
}

SEC("iter/udp")
int nl_destroy_udp(struct bpf_iter__udp *ctx)
{
	struct udp_sock *sk = ctx->udp_sk;

	return sk ? destroy_if_doomed((struct sock_common *)sk) : 0;
}

char LICENSE[] SEC("license") = "GPL";
