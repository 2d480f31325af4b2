/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Which of the shard maps holds the bindings to a backend. `Shard::of` in src/shard.rs is the same function,
 * and a test runs both on the same inputs.
 */
#ifndef NETLOOM_SHARD_H
#define NETLOOM_SHARD_H

#include "netloom.h"

/*
 * FNV-1a over whole words. A reap walks one shard only, so what matters is that neighbouring addresses and
 * ports spread evenly: the fold brings the high bits, where the product mixes best, down to the index.
 */
static __always_inline __u32 nl_shard(const struct nl_addr *address, __be16 port, __u8 protocol)
{
	__u32 hash = 0x811c9dc5;

	hash = (hash ^ address->word[0]) * 0x01000193;
	hash = (hash ^ address->word[1]) * 0x01000193;
	hash = (hash ^ address->word[2]) * 0x01000193;
	hash = (hash ^ address->word[3]) * 0x01000193;
	hash = (hash ^ port) * 0x01000193;
	hash = (hash ^ protocol) * 0x01000193;
	hash ^= hash >> 16;
	hash ^= hash >> 8;
	hash ^= hash >> 4;
	return hash % NL_SHARDS;
}

#endif
