/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Where the bindings are: each backend has a socket storage of its own, in which every socket bound to it has an
 * element. So a reap walks the sockets of the dead backends and no others.
 *
 * User space numbers the backends and puts a storage at each number before anything can be bound to it.
 */
#ifndef NETLOOM_BOUND_H
#define NETLOOM_BOUND_H

#include "netloom.h"

/* What a storage at a number is made after. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, int);
	__type(value, struct nl_binding);
} nl_bound_kind SEC(".maps");

struct nl_bound_storage {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct nl_binding);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 131072);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__array(values, struct nl_bound_storage);
} nl_bound SEC(".maps");

/* The number of each backend. What has no number of its own shares one. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct nl_bound_key);
	__type(value, __u32);
} nl_bound_slots SEC(".maps");

/* The storage of the sockets bound to an address; none if it is no backend's. */
static __always_inline void *nl_bound_to(const struct nl_addr *address, __be16 port, __u8 protocol)
{
	struct nl_bound_key key = { .address = *address, .port = port, .protocol = protocol };
	const __u32 *slot = bpf_map_lookup_elem(&nl_bound_slots, &key);
	__u32 index;

	if (!slot)
		return NULL;
	index = *slot;
	return bpf_map_lookup_elem(&nl_bound, &index);
}

#endif
