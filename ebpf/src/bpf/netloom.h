/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The layouts that the programs share with each other and with user space. `src/layout.rs` mirrors each of
 * them, and a test compares the two by the objects' BTF.
 *
 * Fields are in host byte order unless their type is __be16. No struct has implicit padding: user space
 * compares and hashes keys byte by byte, as the kernel does.
 */
#ifndef NETLOOM_H
#define NETLOOM_H

#include "kernel.h"

/* An address of either family; IPv4 is held v4-mapped, as ::ffff:a.b.c.d, so that one key serves both. */
struct nl_addr {
	__u32 word[4];
};

/*
 * What the socket-LB stores with a socket that it connected to a backend: the value of the shard maps
 * nl_bound_0 … nl_bound_15. A socket is in at most one shard, that of its backend (see shard.h).
 */
struct nl_binding {
	__u64 cookie;
	__u64 netns_cookie;
	/* CLOCK_MONOTONIC, in nanoseconds. */
	__u64 bound_at;
	struct nl_addr backend;
	struct nl_addr vip;
	/* The service's number, a key of nl_backends. */
	__u32 service;
	__be16 backend_port;
	__be16 vip_port;
	/* IPPROTO_TCP or IPPROTO_UDP. */
	__u8 protocol;
	/* The socket's own family: AF_INET6 with a v4-mapped backend is an IPv6 socket that talks IPv4. */
	__u8 family;
	__u8 reserved[6];
};

/* Key of nl_services: what a client connects to. */
struct nl_service_key {
	struct nl_addr vip;
	__be16 port;
	__u8 protocol;
	__u8 reserved;
};

/* Value of nl_services. Slots 0 … count - 1 of nl_backends hold the backends. */
struct nl_service {
	__u32 id;
	__u32 count;
};

/* Key of nl_backends. */
struct nl_backend_key {
	__u32 service;
	__u32 slot;
};

/* Value of nl_backends. */
struct nl_backend {
	struct nl_addr address;
	__be16 port;
	__u16 reserved;
};

#define NL_SHARDS 16

#endif
