// A program that its owner has in a chain already is not attached there once more: it would see, count or change each
// packet twice. The tag is the kernel's hash over a program's instructions, so that a new version is no twin.

export const attachOrder = {
  place(node, chain, candidate) {
    const twin = chain.entries.find((entry) => entry.owner === candidate.owner && entry.tag === candidate.tag);
    if (twin === undefined) {
      return { tag: "abstain" };
    }
    const where = `${chain.hook.device}, ${chain.hook.point}`;
    return { tag: "veto", val: `${candidate.owner} has this program there already (${twin.name} at ${where})` };
  },
  rebalance(node, chain) {
    return { tag: "keep" };
  },
};
