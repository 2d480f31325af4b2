// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Service translation at the socket: a client that connects or sends to a service's address gets one of its
 * backends, and reads the service's address back. No packet is touched.
 *
 * Each connect leaves a binding with the socket, by which a reap finds the sockets of a dead backend. It lives
 * in socket storage, so it costs no reference, is never evicted, and is gone with its socket.
 */
#include "bound.h"
#include "events.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct nl_service_key);
	__type(value, struct nl_service);
} nl_services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct nl_backend_key);
	__type(value, struct nl_backend);
} nl_backends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 16385);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct nl_service_counters);
} nl_service_counters SEC(".maps");

/* The oldest are forgotten first. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct nl_client);
	__type(value, struct nl_affinity);
} nl_affinities SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, int);
	__type(value, struct nl_flows);
} nl_flows SEC(".maps");

/* Flows that a socket had more of than its storage has room for; the oldest are forgotten first. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct nl_exchange_key);
	__type(value, struct nl_exchange);
} nl_exchanges SEC(".maps");

/*
 * Namespaces, by cookie, whose sockets see services' addresses as they are: what runs there translates them itself.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u64);
	__type(value, __u32);
} nl_untranslated SEC(".maps");

static __always_inline struct nl_service_counters *nl_count(__u32 counters)
{
	return bpf_map_lookup_elem(&nl_service_counters, &counters);
}

static __always_inline int nl_is(const struct nl_addr *a, __be16 a_port, const struct nl_addr *b, __be16 b_port)
{
	return a_port == b_port && a->word[3] == b->word[3] && a->word[2] == b->word[2] &&
	       a->word[1] == b->word[1] && a->word[0] == b->word[0];
}

/* The address in the hook's context, which has one field for each family. */
static __always_inline struct nl_addr nl_read_address(struct bpf_sock_addr *ctx, int v6)
{
	struct nl_addr address;

	if (v6) {
		address.word[0] = ctx->user_ip6[0];
		address.word[1] = ctx->user_ip6[1];
		address.word[2] = ctx->user_ip6[2];
		address.word[3] = ctx->user_ip6[3];
	} else {
		address.word[0] = 0;
		address.word[1] = 0;
		address.word[2] = bpf_htonl(0xffff);
		address.word[3] = ctx->user_ip4;
	}
	return address;
}

/* A v4-mapped address stays one: services and their backends are of one family. */
static __always_inline void nl_write_address(struct bpf_sock_addr *ctx, int v6, const struct nl_addr *address,
					     __be16 port)
{
	if (v6) {
		ctx->user_ip6[0] = address->word[0];
		ctx->user_ip6[1] = address->word[1];
		ctx->user_ip6[2] = address->word[2];
		ctx->user_ip6[3] = address->word[3];
	} else {
		ctx->user_ip4 = address->word[3];
	}
	ctx->user_port = port;
}

static __always_inline struct nl_service_key nl_service_key(struct bpf_sock_addr *ctx, int v6)
{
	struct nl_service_key key = {
		.vip = nl_read_address(ctx, v6),
		.port = ctx->user_port,
		.protocol = ctx->protocol,
	};

	return key;
}

/* Copies a backend; false if the slot is empty or was just given away. */
static __always_inline int nl_backend_at(__u32 service, __u32 slot, struct nl_backend *copy)
{
	struct nl_backend_key key = { .service = service, .slot = slot };
	const struct nl_backend *backend = bpf_map_lookup_elem(&nl_backends, &key);

	if (!backend)
		return 0;
	*copy = *backend;
	return copy->service == service;
}

/* The slot of a client, which is a network namespace: the same one each time. */
static __always_inline __u32 nl_slot_of(__u64 netns_cookie, __u32 count)
{
	/* The finaliser of MurmurHash3: neighbouring numbers get slots that are far apart. */
	netns_cookie ^= netns_cookie >> 33;
	netns_cookie *= 0xff51afd7ed558ccdULL;
	netns_cookie ^= netns_cookie >> 33;
	netns_cookie *= 0xc4ceb9fe1a85ec53ULL;
	netns_cookie ^= netns_cookie >> 33;
	return (__u32)netns_cookie % count;
}

/*
 * Chooses a backend. User space may shrink the service between the lookups, hence more than one attempt, each
 * after the first with a fresh count.
 */
static __always_inline int nl_choose(struct bpf_sock_addr *ctx, const struct nl_service_key *key,
				     const struct nl_service *service, struct nl_backend *backend, __u32 *slot)
{
	for (int attempt = 0; attempt < 4; attempt++) {
		__u32 count, id;

		if (!service)
			return 0;
		id = service->id;
		count = service->count;
		if (!count)
			return 0;
		if (service->choice == NL_CHOICE_HASH)
			*slot = nl_slot_of(bpf_get_netns_cookie(ctx), count);
		else
			*slot = bpf_get_prandom_u32() % count;
		if (nl_backend_at(id, *slot, backend))
			return 1;
		service = bpf_map_lookup_elem(&nl_services, key);
	}
	return 0;
}

/* Chooses the backend that the client had before, if the service still has it and that was not too long ago. */
static __noinline int nl_choose_again(struct bpf_sock_addr *ctx, const struct nl_service_key *key,
				      const struct nl_service *service, struct nl_backend *backend, __u32 *slot)
{
	struct nl_affinity *last, fresh = {};
	struct nl_client client = {};
	__u64 now;

	client.netns_cookie = bpf_get_netns_cookie(ctx);
	client.service = service->id;
	now = bpf_ktime_get_ns();
	last = bpf_map_lookup_elem(&nl_affinities, &client);
	if (last && now - last->used < service->affinity * 1000000000ULL && last->slot < service->count &&
	    nl_backend_at(service->id, last->slot, backend) &&
	    nl_is(&backend->address, backend->port, &last->backend, last->port)) {
		last->used = now;
		*slot = last->slot;
		return 1;
	}
	if (!nl_choose(ctx, key, service, backend, slot))
		return 0;
	fresh.backend = backend->address;
	fresh.port = backend->port;
	fresh.slot = *slot;
	fresh.used = now;
	bpf_map_update_elem(&nl_affinities, &client, &fresh, BPF_ANY);
	return 1;
}

static __always_inline int nl_choose_for(struct bpf_sock_addr *ctx, const struct nl_service_key *key,
					 const struct nl_service *service, struct nl_backend *backend, __u32 *slot)
{
	if (service->affinity)
		return nl_choose_again(ctx, key, service, backend, slot);
	return nl_choose(ctx, key, service, backend, slot);
}

/* The service that a socket is to be led to. Whoever asks for none of them pays for one lookup. */
static __always_inline const struct nl_service *nl_find_service(struct bpf_sock_addr *ctx,
								const struct nl_service_key *key)
{
	const struct nl_service *service = bpf_map_lookup_elem(&nl_services, key);
	__u64 netns;

	if (!service)
		return NULL;
	netns = bpf_get_netns_cookie(ctx);
	return bpf_map_lookup_elem(&nl_untranslated, &netns) ? NULL : service;
}

/* Fails the system call with ECONNREFUSED, as a connection to a closed port does. */
static __always_inline int nl_refuse(struct bpf_sock_addr *ctx, const struct nl_service_key *key,
				     struct nl_service_counters *counters)
{
	if (counters)
		counters->refused++;
	nl_event_connect(ctx, key, NULL);
	bpf_set_retval(-ECONNREFUSED);
	return 0;
}

/* Removes the binding to a backend, if there is one. A lookup costs less than a deletion of nothing. */
static __always_inline void nl_unbind_from(struct bpf_sock *sk, const struct nl_addr *backend, __be16 port,
					   __u8 protocol)
{
	void *storage = nl_bound_to(backend, port, protocol);

	if (storage && bpf_sk_storage_get(storage, sk, NULL, 0))
		bpf_sk_storage_delete(storage, sk);
}

/* A connected UDP socket may be connected anew: it leaves the backend that it is connected to now. */
static __always_inline void nl_unbind_from_peer(struct bpf_sock *sk, int v6, __u8 protocol)
{
	struct nl_addr peer = {};

	if (protocol != IPPROTO_UDP || !sk->dst_port)
		return;
	if (v6) {
		peer.word[0] = sk->dst_ip6[0];
		peer.word[1] = sk->dst_ip6[1];
		peer.word[2] = sk->dst_ip6[2];
		peer.word[3] = sk->dst_ip6[3];
	} else {
		peer.word[2] = bpf_htonl(0xffff);
		peer.word[3] = sk->dst_ip4;
	}
	nl_unbind_from(sk, &peer, sk->dst_port, protocol);
}

static __always_inline int nl_connect(struct bpf_sock_addr *ctx, int v6)
{
	struct nl_service_key key = nl_service_key(ctx, v6);
	const struct nl_service *service;
	struct nl_service_counters *counters;
	struct nl_binding *binding;
	struct nl_backend backend;
	void *storage;
	__u32 slot;

	if (!ctx->sk)
		return 1;
	service = nl_find_service(ctx, &key);
	if (!service) {
		nl_unbind_from_peer(ctx->sk, v6, key.protocol);
		/* A backend's own address: no reap is to take this for a connection through the service. */
		nl_unbind_from(ctx->sk, &key.vip, key.port, key.protocol);
		return 1;
	}
	counters = nl_count(service->counters);
	if (!nl_choose_for(ctx, &key, service, &backend, &slot))
		return nl_refuse(ctx, &key, counters);

	nl_unbind_from_peer(ctx->sk, v6, key.protocol);
	if (counters)
		counters->connected++;
	storage = nl_bound_to(&backend.address, backend.port, key.protocol);
	binding = storage ? bpf_sk_storage_get(storage, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE) : NULL;
	if (binding) {
		/* The kernel makes a cookie when it is first asked for; without this, it would read 0. */
		binding->cookie = bpf_get_socket_cookie(ctx);
		binding->netns_cookie = bpf_get_netns_cookie(ctx);
		binding->bound_at = bpf_ktime_get_ns();
		binding->backend = backend.address;
		binding->vip = key.vip;
		binding->service = backend.service;
		binding->backend_port = backend.port;
		binding->vip_port = key.port;
		binding->protocol = key.protocol;
		binding->family = ctx->family;
	} else if (counters) {
		counters->unbound++;
	}
	nl_event_connect(ctx, &key, &backend);
	nl_write_address(ctx, v6, &backend.address, backend.port);
	return 1;
}

static __always_inline struct nl_exchange_key nl_exchange_key(struct bpf_sock_addr *ctx, const struct nl_addr *backend,
							      __be16 port)
{
	struct nl_exchange_key key = { .cookie = bpf_get_socket_cookie(ctx), .backend = *backend, .port = port };

	return key;
}

/* Keeps a flow whose place another takes: its answers may be under way. */
static __noinline int nl_keep_flow(struct bpf_sock_addr *ctx, const struct nl_flow *flow)
{
	struct nl_exchange_key key;
	struct nl_exchange exchange = {};

	if (!flow || !flow->vip_port)
		return 0;
	key = nl_exchange_key(ctx, &flow->backend, flow->backend_port);
	exchange.vip = flow->vip;
	exchange.port = flow->vip_port;
	bpf_map_update_elem(&nl_exchanges, &key, &exchange, BPF_ANY);
	return 0;
}

/* The service that was asked, of a flow that was kept. */
static __always_inline int nl_show_kept(struct bpf_sock_addr *ctx, int v6)
{
	struct nl_addr peer = nl_read_address(ctx, v6);
	struct nl_exchange_key key = nl_exchange_key(ctx, &peer, ctx->user_port);
	const struct nl_exchange *exchange = bpf_map_lookup_elem(&nl_exchanges, &key);

	if (!exchange)
		return 0;
	nl_write_address(ctx, v6, &exchange->vip, exchange->port);
	return 1;
}

/*
 * A message with an address of its own. The socket keeps its backend for a service as long as the service
 * keeps the backend, so that an exchange of several messages is with one server.
 */
static __always_inline int nl_sendmsg(struct bpf_sock_addr *ctx, int v6)
{
	struct nl_service_key key = nl_service_key(ctx, v6);
	const struct nl_service *service = nl_find_service(ctx, &key);
	struct nl_service_counters *counters;
	struct nl_backend backend;
	struct nl_flows *flows;
	struct nl_flow *flow;
	__u32 slot;

	if (!service || !ctx->sk)
		return 1;

	flows = bpf_sk_storage_get(&nl_flows, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (flows) {
		for (int i = 0; i < NL_FLOWS; i++) {
			flow = &flows->flow[i];
			if (!nl_is(&flow->vip, flow->vip_port, &key.vip, key.port))
				continue;
			if (flow->slot < service->count && nl_backend_at(service->id, flow->slot, &backend) &&
			    nl_is(&flow->backend, flow->backend_port, &backend.address, backend.port)) {
				flows->last = i;
				nl_write_address(ctx, v6, &backend.address, backend.port);
				return 1;
			}
		}
	}

	counters = nl_count(service->counters);
	if (!nl_choose_for(ctx, &key, service, &backend, &slot))
		return nl_refuse(ctx, &key, counters);
	if (counters)
		counters->connected++;
	if (flows) {
		flows->last = flows->next++ % NL_FLOWS;
		flow = &flows->flow[flows->last % NL_FLOWS];
		nl_keep_flow(ctx, flow);
		flow->vip = key.vip;
		flow->backend = backend.address;
		flow->vip_port = key.port;
		flow->backend_port = backend.port;
		flow->slot = slot;
	}
	nl_event_connect(ctx, &key, &backend);
	nl_write_address(ctx, v6, &backend.address, backend.port);
	return 1;
}

/* The peer of a connected socket, where it is a backend, becomes the service again. */
static __always_inline void nl_show_service(struct bpf_sock_addr *ctx, int v6, const struct nl_addr *peer)
{
	const struct nl_binding *binding;
	void *storage = nl_bound_to(peer, ctx->user_port, ctx->protocol);

	if (!storage)
		return;
	binding = bpf_sk_storage_get(storage, ctx->sk, NULL, 0);
	if (binding && nl_is(&binding->backend, binding->backend_port, peer, ctx->user_port))
		nl_write_address(ctx, v6, &binding->vip, binding->vip_port);
}

static __always_inline int nl_recvmsg(struct bpf_sock_addr *ctx, int v6)
{
	struct nl_addr peer = nl_read_address(ctx, v6);
	struct nl_flows *flows;

	if (!ctx->sk)
		return 1;
	flows = bpf_sk_storage_get(&nl_flows, ctx->sk, NULL, 0);
	if (flows) {
		struct nl_flow *flow = &flows->flow[flows->last % NL_FLOWS];

		/* Where two services have one backend, the answer is to the question that was asked last. */
		if (nl_is(&flow->backend, flow->backend_port, &peer, ctx->user_port)) {
			nl_write_address(ctx, v6, &flow->vip, flow->vip_port);
			return 1;
		}
		for (int i = 0; i < NL_FLOWS; i++) {
			flow = &flows->flow[i];
			if (nl_is(&flow->backend, flow->backend_port, &peer, ctx->user_port)) {
				nl_write_address(ctx, v6, &flow->vip, flow->vip_port);
				return 1;
			}
		}
		if (flows->next > NL_FLOWS && nl_show_kept(ctx, v6))
			return 1;
	}
	nl_show_service(ctx, v6, &peer);
	return 1;
}

static __always_inline int nl_getpeername(struct bpf_sock_addr *ctx, int v6)
{
	struct nl_addr peer = nl_read_address(ctx, v6);

	if (ctx->sk)
		nl_show_service(ctx, v6, &peer);
	return 1;
}

SEC("cgroup/connect4")
int nl_connect4(struct bpf_sock_addr *ctx)
{
	return nl_connect(ctx, 0);
}

SEC("cgroup/connect6")
int nl_connect6(struct bpf_sock_addr *ctx)
{
	return nl_connect(ctx, 1);
}

SEC("cgroup/sendmsg4")
int nl_sendmsg4(struct bpf_sock_addr *ctx)
{
	return nl_sendmsg(ctx, 0);
}

SEC("cgroup/sendmsg6")
int nl_sendmsg6(struct bpf_sock_addr *ctx)
{
	return nl_sendmsg(ctx, 1);
}

SEC("cgroup/recvmsg4")
int nl_recvmsg4(struct bpf_sock_addr *ctx)
{
	return nl_recvmsg(ctx, 0);
}

SEC("cgroup/recvmsg6")
int nl_recvmsg6(struct bpf_sock_addr *ctx)
{
	return nl_recvmsg(ctx, 1);
}

SEC("cgroup/getpeername4")
int nl_getpeername4(struct bpf_sock_addr *ctx)
{
	return nl_getpeername(ctx, 0);
}

SEC("cgroup/getpeername6")
int nl_getpeername6(struct bpf_sock_addr *ctx)
{
	return nl_getpeername(ctx, 1);
}

char LICENSE[] SEC("license") = "GPL";
