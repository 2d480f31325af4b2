"""Endpoints of the storage network get jumbo frames: those with the label `network=storage`.

Its configuration is described, and checked by the host, in config.schema.json.
"""

import json

from wit_world import exports
from wit_world.exports import datapath_mode
from wit_world.imports import types

mtu = 9000


class DatapathMode(exports.DatapathMode):
    def choose(self, node, endpoint):
        if not any(label.key == "network" and label.value == "storage" for label in endpoint.labels):
            return datapath_mode.ModeDecision_Abstain()
        device = types.DeviceMode.VETH
        if node.netkit:
            layer_2 = endpoint.virtual_machine or endpoint.mac is not None
            device = types.DeviceMode.NETKIT_L2 if layer_2 else types.DeviceMode.NETKIT
        # What is none takes the node's configured value.
        return datapath_mode.ModeDecision_Choose(
            datapath_mode.Mode(
                device=device,
                attachment=None,
                primary_policy=None,
                peer_policy=None,
                scrub=None,
                peer_scrub=None,
                headroom=None,
                tailroom=None,
                mtu=mtu,
                gso_max_size=None,
                gro_max_size=None,
            )
        )


class Lifecycle(exports.Lifecycle):
    def init(self, config):
        global mtu
        mtu = json.loads(config).get("mtu", mtu)

    def health(self):
        return None
