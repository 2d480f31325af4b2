"""Programs that only look go in front of all others, so that no verdict hides a packet from them."""

from wit_world import exports
from wit_world.exports import attach_order
from wit_world.imports import types


class AttachOrder(exports.AttachOrder):
    def place(self, node, chain, candidate):
        if any(label.key == "role" and label.value == "observer" for label in candidate.labels):
            return attach_order.PlaceDecision_Place(types.Placement_Head())
        return attach_order.PlaceDecision_Abstain()

    def rebalance(self, node, chain):
        return attach_order.RebalanceDecision_Keep()
