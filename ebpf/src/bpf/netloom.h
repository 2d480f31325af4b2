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
 * What the socket-LB stores with a socket that it connected to a backend, in that backend's storage (see
 * bound.h). It speaks of the socket as long as the socket's peer is the backend: one that was disconnected, or
 * whose connect failed, keeps it until it is connected again or closed.
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

/* Key of nl_bound_slots: a backend. */
struct nl_bound_key {
	struct nl_addr address;
	__be16 port;
	__u8 protocol;
	__u8 reserved;
};

/* Key of nl_services: what a client connects to. */
struct nl_service_key {
	struct nl_addr vip;
	__be16 port;
	__u8 protocol;
	__u8 reserved;
};

/* How a service chooses. */
enum nl_choice {
	NL_CHOICE_RANDOM = 0,
	/* Each client has its slot: the table is one in which few slots change with the backends. */
	NL_CHOICE_HASH = 1,
};

/* Value of nl_services. Slots 0 … count - 1 of nl_backends hold the backends. */
struct nl_service {
	__u32 id;
	__u32 count;
	/* Its element of nl_service_counters. */
	__u32 counters;
	/* enum nl_choice */
	__u32 choice;
	/* Seconds for which a client that comes again gets the backend it had; 0 for none. */
	__u32 affinity;
};

/* Key of nl_affinities: a client, which is a network namespace, and the service it used. */
struct nl_client {
	__u64 netns_cookie;
	__u32 service;
	__u32 reserved;
};

/* Value of nl_affinities. */
struct nl_affinity {
	struct nl_addr backend;
	__be16 port;
	__u16 reserved;
	/* The backend's slot in nl_backends when it was chosen. */
	__u32 slot;
	/* Nanoseconds of the monotonic clock. */
	__u64 used;
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
	/*
	 * The key's service again: the kernel may hand an element to another key while a program still reads
	 * it, and this is how the program notices.
	 */
	__u32 service;
};

/* One address that an unconnected UDP socket sent to, and where its packets went instead. */
struct nl_flow {
	struct nl_addr vip;
	struct nl_addr backend;
	__be16 vip_port;
	__be16 backend_port;
	/* The backend's slot in nl_backends when it was chosen. */
	__u32 slot;
};

#define NL_FLOWS 16

/* Value of nl_flows, a socket storage: the flows of an unconnected UDP socket, the oldest overwritten first. */
struct nl_flows {
	__u32 next;
	/* The flow of the message that was sent last. */
	__u32 last;
	struct nl_flow flow[NL_FLOWS];
};

/* Key of nl_exchanges: an unconnected UDP socket, and a backend that it sent to. */
struct nl_exchange_key {
	__u64 cookie;
	struct nl_addr backend;
	__be16 port;
	__u8 reserved[6];
};

/* Value of nl_exchanges: the service that was asked. */
struct nl_exchange {
	struct nl_addr vip;
	__be16 port;
	__u16 reserved;
};

/* Value of nl_service_counters. The first is of services that are gone. */
struct nl_service_counters {
	/* Connects, and exchanges begun by unconnected UDP sockets, sent to a backend. */
	__u64 connected;
	/* Connects and messages refused because the service has no backend. */
	__u64 refused;
	/* Connects whose binding could not be stored: no reap will find them. */
	__u64 unbound;
};

/* An endpoint's device pair: how packets are handed over to it. */
enum nl_mode {
	NL_MODE_NETKIT = 1,
	NL_MODE_NETKIT_L2 = 2,
	NL_MODE_VETH = 3,
};

/* Value of nl_endpoints; the key is an address of the endpoint as struct nl_addr. */
struct nl_endpoint {
	__u32 id;
	/* The node's end of the pair. */
	__u32 ifindex;
	/* Bytes, of the endpoint's end. */
	__u32 mtu;
	/* The first twelve bytes of a frame to the endpoint: all zero where the link has no addresses. */
	__u8 mac[6];
	__u8 gateway_mac[6];
	/* enum nl_mode */
	__u8 mode;
	/* Whether what it sends and gets goes through the node's stack: its device queues or filters there. */
	__u8 through_stack;
	__u8 reserved[2];
};

#define NL_UPLINKS 8

/* Value of nl_node, which has one element: what is the same for every endpoint of the node. */
struct nl_node {
	/*
	 * Devices to outside that packets of endpoints go out of, and come in by, without the node's stack; zeros
	 * at the end. None at all where that stack has to see them, for it translates or filters.
	 */
	__u32 uplinks[NL_UPLINKS];
	/* Another one with each change of nl_endpoints or of what is here: what nl_routes has of before is void. */
	__u32 generation;
	/* NL_NODE_… */
	__u32 flags;
};

/* What goes from one endpoint to another goes through the node's stack, which has a say in it. */
#define NL_NODE_LOCAL_BY_STACK 1
/* The node's stack translates addresses of flows: which of them, it decides when they begin. */
#define NL_NODE_TRANSLATES 2
/* Which way a packet to outside takes depends on which of a sender's addresses it comes from. */
#define NL_NODE_ROUTES_BY_SOURCE 4

/* What goes to an address that is not in nl_native leaves the node through its stack, which masquerades it. */
#define NL_NODE_MASQUERADES 8

/* Key of nl_native: a prefix of addresses, those of IPv4 mapped. */
struct nl_prefix {
	__u32 bits;
	struct nl_addr address;
};

/* Key of nl_local_flows: one direction of a flow between two endpoints, as its sender addresses it. */
struct nl_local_flow_key {
	struct nl_addr source;
	struct nl_addr destination;
	__be16 source_port;
	__be16 destination_port;
	/* IPPROTO_TCP or IPPROTO_UDP. */
	__u8 protocol;
	__u8 reserved[3];
};

/* Value of nl_local_flows. */
struct nl_local_flow {
	/* CLOCK_MONOTONIC, in nanoseconds: when a packet of it went through the node's stack last. */
	__u64 asked;
	/* When one of its packets was seen last. */
	__u64 seen;
	/* Whether what went through the stack came out as it was. */
	__u32 untranslated;
	__u32 reserved;
};

/* 169.254.1.1 and fe80::1: the gateway of every endpoint that has a link layer. No device has these addresses. */
#define NL_GATEWAY_V4 bpf_htonl(0xa9fe0101)
#define NL_GATEWAY_V6 { .word = { bpf_htonl(0xfe800000), 0, 0, bpf_htonl(1) } }

/*
 * Why a packet from an endpoint, or from outside to one, was dropped: an index of nl_counters.dropped, of which
 * others come at the end only.
 */
enum nl_drop {
	/* The source address is not the endpoint's; from outside, it is an endpoint's or the node's own. */
	NL_DROP_SPOOFED,
	/* Shorter than its headers, or these contradict each other. */
	NL_DROP_MALFORMED,
	/* A protocol that this kind of link does not carry. */
	NL_DROP_UNSUPPORTED,
	/* It has a VLAN tag: nobody but the node says which of its networks an endpoint is in. */
	NL_DROP_TAGGED,
	/* It belongs to one link, and would leave it. */
	NL_DROP_LINK,
	/* To an address that no link carries. */
	NL_DROP_MARTIAN,
	NL_DROPS,
};

/* A kind of event; also the bit of it in nl_monitor.kinds. */
enum nl_event_kind {
	NL_EVENT_DROP = 1,
	NL_EVENT_CONNECT = 2,
};

/* Which way a dropped packet went. */
enum nl_direction {
	NL_FROM_ENDPOINT = 1,
	NL_TO_ENDPOINT = 2,
};

/* Value of nl_monitor, which has one element: what is listened to. */
struct nl_monitor {
	/* enum nl_event_kind; 0 as long as nobody listens. */
	__u32 kinds;
	/* Nanoseconds that must have passed on a CPU for each event; what was not used is saved up for a second. */
	__u32 cost;
};

/* Value of nl_event_rate, per CPU. */
struct nl_event_rate {
	/* CLOCK_MONOTONIC, in nanoseconds: up to when credit was given. */
	__u64 at;
	/* In nanoseconds. */
	__u64 credit;
	/* Events that were wanted and could not be given. */
	__u64 lost;
};

/* What is in nl_events. Zero is what an event does not have. */
struct nl_event {
	/* CLOCK_MONOTONIC, in nanoseconds. */
	__u64 at;
	/* Connect: of the socket and of its namespace. */
	__u64 cookie;
	__u64 netns_cookie;
	/* Connect: the service's address is the destination. */
	struct nl_addr source;
	struct nl_addr destination;
	struct nl_addr backend;
	/* enum nl_event_kind */
	__u32 kind;
	/* Drop: the endpoint's number, enum nl_drop, enum nl_direction. */
	__u32 endpoint;
	__u32 reason;
	__u32 direction;
	/* Drop: bytes with the link header, and the device that the program is on. */
	__u32 length;
	__u32 ifindex;
	/* Connect: the service's number, unless refused; the process that asked. */
	__u32 service;
	__u32 process;
	__be16 source_port;
	__be16 destination_port;
	__be16 backend_port;
	/* Drop */
	__be16 ethertype;
	/* IPPROTO_TCP, … */
	__u8 protocol;
	__u8 reserved[7];
	__u8 command[16];
};

/* Value of nl_counters, per CPU; the index is the endpoint's id. Bytes include the link header. */
struct nl_counters {
	/* From the endpoint, without those dropped. */
	__u64 sent_packets;
	__u64 sent_bytes;
	/* To the endpoint. */
	__u64 received_packets;
	__u64 received_bytes;
	__u64 dropped[NL_DROPS];
};

/*
 * Value of nl_routes, per CPU: where a sender's packets to an address went last. Finding that out takes longer
 * than everything else about a packet, and many packets take the same way.
 */
struct nl_route {
	/* What it is for. A sender is the id of an endpoint, 0 for an uplink, or NL_SOURCE. */
	struct nl_addr destination;
	__u32 sender;
	/* nl_node.generation before it was looked up. */
	__u32 generation;
	/* Up to when the node's routes are not asked again, in jiffies; not for endpoints. */
	__u64 until;
	/* The device it leaves by. 0 for what goes to the node's stack. */
	__u32 ifindex;
	/* Bytes, of the way. */
	__u32 mtu;
	/* Of an endpoint on this node: its id and the start of a frame to it. 0 for outside. */
	__u32 receiver;
	__u8 macs[12];
	__u32 mode;
	/* Outside: AF_INET or AF_INET6, and the next hop. */
	__u32 next_hop_family;
	struct nl_addr next_hop;
};

/* Not a sender: the element is about an address that packets from outside come from. */
#define NL_SOURCE 0xffffffff

/* nl_route.mode of such an element. */
enum nl_origin {
	NL_ORIGIN_OUTSIDE,
	/* Nobody's: the node's stack knows what to do. */
	NL_ORIGIN_MARTIAN,
	/* Of the node itself, or of an endpoint. */
	NL_ORIGIN_NODE,
};

/* A power of two. */
#define NL_ROUTES_BITS 10
#define NL_ROUTES (1 << NL_ROUTES_BITS)

#define NL_ADDRESSES 8

/* What the datapath programs are compiled for: a constant of each endpoint's own copy of them. */
struct nl_config {
	__u32 id;
	/* Bytes, of the endpoint's end. */
	__u32 mtu;
	/* The verdict that hands a packet on; it differs between hooks. */
	__s32 pass;
	/* enum nl_mode */
	__u8 mode;
	__u8 v4_count;
	__u8 v6_count;
	__u8 reserved;
	/* The addresses that the endpoint may send from. */
	__be32 v4[NL_ADDRESSES];
	struct nl_addr v6[NL_ADDRESSES];
};

#endif
