// Programs that only look go in front of all others, so that no verdict hides a packet from them.

#include "plugin.h"

#include <string.h>

static bool is(const plugin_string_t *text, const char *word)
{
    return text->len == strlen(word) && memcmp(text->ptr, word, text->len) == 0;
}

void exports_netloom_policy_attach_order_place(
    exports_netloom_policy_attach_order_node_t *node,
    exports_netloom_policy_attach_order_chain_t *chain,
    exports_netloom_policy_attach_order_candidate_t *candidate,
    exports_netloom_policy_attach_order_place_decision_t *ret)
{
    ret->tag = EXPORTS_NETLOOM_POLICY_ATTACH_ORDER_PLACE_DECISION_ABSTAIN;
    for (size_t i = 0; i < candidate->labels.len; i++) {
        const netloom_kernel_types_label_t *label = &candidate->labels.ptr[i];
        if (is(&label->key, "role") && is(&label->value, "observer")) {
            ret->tag = EXPORTS_NETLOOM_POLICY_ATTACH_ORDER_PLACE_DECISION_PLACE;
            ret->val.place.tag = NETLOOM_KERNEL_TYPES_PLACEMENT_HEAD;
        }
    }
    // What comes in is the function's to free.
    exports_netloom_policy_attach_order_node_free(node);
    exports_netloom_policy_attach_order_chain_free(chain);
    exports_netloom_policy_attach_order_candidate_free(candidate);
}

void exports_netloom_policy_attach_order_rebalance(
    exports_netloom_policy_attach_order_node_t *node,
    exports_netloom_policy_attach_order_chain_t *chain,
    exports_netloom_policy_attach_order_rebalance_decision_t *ret)
{
    ret->tag = EXPORTS_NETLOOM_POLICY_ATTACH_ORDER_REBALANCE_DECISION_KEEP;
    exports_netloom_policy_attach_order_node_free(node);
    exports_netloom_policy_attach_order_chain_free(chain);
}
