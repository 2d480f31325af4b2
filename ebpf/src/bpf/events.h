/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Events for whoever listens: packets that were dropped, connects that were translated or refused. Nobody listens
 * as a rule, and then an event costs the look at one word. None of them is of a packet that goes on.
 */
#ifndef NETLOOM_EVENTS_H
#define NETLOOM_EVENTS_H

#include "packet.h"

/* Of struct nl_event. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 512 * 1024);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} nl_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct nl_monitor);
} nl_monitor SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct nl_event_rate);
} nl_event_rate SEC(".maps");

/* What a CPU may save up: a second's events. */
#define NL_CREDIT_NS 1000000000ULL

static __always_inline const struct nl_monitor *nl_wanted(__u32 kind)
{
	const struct nl_monitor *monitor;
	__u32 zero = 0;

	monitor = bpf_map_lookup_elem(&nl_monitor, &zero);
	return monitor && (monitor->kinds & kind) ? monitor : NULL;
}

/* Room for an event. NULL, and counted as lost, if there were too many lately or nobody has read those of before. */
static __always_inline struct nl_event *nl_begin_event(const struct nl_monitor *monitor, __u32 kind)
{
	struct nl_event_rate *rate;
	struct nl_event *event = NULL;
	__u64 now, credit;
	__u32 zero = 0;

	rate = bpf_map_lookup_elem(&nl_event_rate, &zero);
	if (!rate)
		return NULL;
	now = bpf_ktime_get_ns();
	credit = rate->credit + (now - rate->at);
	if (credit > NL_CREDIT_NS)
		credit = NL_CREDIT_NS;
	rate->at = now;
	if (credit >= monitor->cost) {
		credit -= monitor->cost;
		event = bpf_ringbuf_reserve(&nl_events, sizeof(*event), 0);
	}
	rate->credit = credit;
	if (!event) {
		rate->lost++;
		return NULL;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->at = now;
	event->kind = kind;
	return event;
}

/* Addresses and ports, as far as the packet has them. Not inlined, so that its types are in the object's BTF. */
static __noinline __attribute__((unused)) void nl_describe_packet(struct __sk_buff *skb, struct nl_event *event)
{
	__u32 transport = 0;
	__be16 ports[2];

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct nl_ipv4_header ip;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
			return;
		event->source = nl_mapped(ip.source);
		event->destination = nl_mapped(ip.destination);
		event->protocol = ip.protocol;
		/* The first fragment alone has ports. */
		if (!(ip.fragment & bpf_htons(0x1fff)))
			transport = ETH_HLEN + (ip.version_length & 0xf) * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct nl_ipv6_header ip;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
			return;
		event->source = ip.source;
		event->destination = ip.destination;
		event->protocol = ip.next_header;
		transport = ETH_HLEN + sizeof(ip);
	}
	if (event->protocol != IPPROTO_TCP && event->protocol != IPPROTO_UDP)
		return;
	if (!transport || bpf_skb_load_bytes(skb, transport, ports, sizeof(ports)))
		return;
	event->source_port = ports[0];
	event->destination_port = ports[1];
}

/* Not inlined: what forwards packets stays as short as it is. */
static __noinline __attribute__((unused)) void nl_event_drop(struct __sk_buff *skb, __u32 endpoint, __u32 reason,
							     __u32 direction)
{
	const struct nl_monitor *monitor = nl_wanted(NL_EVENT_DROP);
	struct nl_event *event = monitor ? nl_begin_event(monitor, NL_EVENT_DROP) : NULL;

	if (!event)
		return;
	event->endpoint = endpoint;
	event->reason = reason;
	event->direction = direction;
	event->length = skb->len;
	event->ifindex = skb->ifindex;
	event->ethertype = skb->protocol;
	nl_describe_packet(skb, event);
	bpf_ringbuf_submit(event, 0);
}

/* A connect or message to a service; without a backend it was refused. */
static __always_inline void nl_event_connect(struct bpf_sock_addr *ctx, const struct nl_service_key *key,
					     const struct nl_backend *backend)
{
	const struct nl_monitor *monitor = nl_wanted(NL_EVENT_CONNECT);
	struct nl_event *event = monitor ? nl_begin_event(monitor, NL_EVENT_CONNECT) : NULL;

	if (!event)
		return;
	event->cookie = bpf_get_socket_cookie(ctx);
	event->netns_cookie = bpf_get_netns_cookie(ctx);
	event->destination = key->vip;
	event->destination_port = key->port;
	event->protocol = key->protocol;
	if (backend) {
		event->backend = backend->address;
		event->backend_port = backend->port;
		event->service = backend->service;
	}
	event->process = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(event->command, sizeof(event->command));
	bpf_ringbuf_submit(event, 0);
}

#endif
