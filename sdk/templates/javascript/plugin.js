// Programs that only look go in front of all others, so that no verdict hides a packet from them.

export const attachOrder = {
  place(node, chain, candidate) {
    if (candidate.labels.some((label) => label.key === "role" && label.value === "observer")) {
      return { tag: "place", val: { tag: "head" } };
    }
    return { tag: "abstain" };
  },
  rebalance(node, chain) {
    return { tag: "keep" };
  },
};
