// Package export_netloom_policy_attach_order puts programs that only look in front of all others, so that no verdict
// hides a packet from them. Each hook that the plugin serves has a folder and package called so.
package export_netloom_policy_attach_order

import (
	"wit_component/netloom_kernel_types"
	. "wit_component/netloom_policy_attach_order"
)

func Place(node Node, chain Chain, candidate Candidate) PlaceDecision {
	for _, label := range candidate.Labels {
		if label.Key == "role" && label.Value == "observer" {
			return MakePlaceDecisionPlace(netloom_kernel_types.MakePlacementHead())
		}
	}
	return MakePlaceDecisionAbstain()
}

func Rebalance(node Node, chain Chain) RebalanceDecision {
	return MakeRebalanceDecisionKeep()
}
