"""Endpoints of the storage network get jumbo frames: those with the label `network=storage`.

Configuration: `mtu`, in bytes; 9000 unless given.
"""

import json

from componentize_py_types import Err
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
        given = json.loads(config)
        unknown = sorted(given.keys() - {"mtu"})
        if unknown:
            raise Err(f"unknown field `{unknown[0]}`, expected `mtu`")
        mtu = given.get("mtu", mtu)
        if type(mtu) is not int or not 1280 <= mtu <= 65535:
            raise Err(f"`mtu` is {mtu!r}: give a number of bytes from 1280 to 65535")

    def health(self):
        return None
