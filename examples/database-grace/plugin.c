// Connections to a database that is going away have a while to end: a client in the middle of a transaction loses it
// when its connection is cut, and one whose connection just ends begins the next on another backend. What is still
// there when the while is over is cut. Of all other services the next plugin decides.

#include "plugin.h"

#include <stdlib.h>
#include <string.h>

enum { GRACE_MS = 30 * 1000 };

// PostgreSQL, MySQL, Redis, MongoDB.
static const uint16_t PORTS[] = {5432, 3306, 6379, 27017};

static bool is_database(const netloom_kernel_types_backend_t *backend)
{
    const netloom_kernel_types_socket_address_t *address = &backend->address;
    for (size_t i = 0; i < sizeof(PORTS) / sizeof(PORTS[0]); i++) {
        if (address->port == PORTS[i]) {
            return backend->protocol == NETLOOM_KERNEL_TYPES_PROTOCOL_TCP;
        }
    }
    return false;
}

void exports_netloom_policy_socket_reap_plan(
    exports_netloom_policy_socket_reap_node_t *node,
    exports_netloom_policy_socket_reap_event_t *event,
    exports_netloom_policy_socket_reap_plan_decision_t *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->tag = EXPORTS_NETLOOM_POLICY_SOCKET_REAP_PLAN_DECISION_ABSTAIN;
    // One plan is for all backends of an event: a database among them is waited for with the others. Who asked for it
    // by hand knows what they want.
    bool database = false;
    for (size_t i = 0; i < event->backends.len; i++) {
        database |= is_database(&event->backends.ptr[i]);
    }
    if (database && event->reason != EXPORTS_NETLOOM_POLICY_SOCKET_REAP_REASON_REQUESTED) {
        ret->tag = EXPORTS_NETLOOM_POLICY_SOCKET_REAP_PLAN_DECISION_REAP;
        ret->val.reap.connected_only = true;
        ret->val.reap.grace_ms = GRACE_MS;
        ret->val.reap.action = EXPORTS_NETLOOM_POLICY_SOCKET_REAP_ACTION_DESTROY;
    }
    exports_netloom_policy_socket_reap_node_free(node);
    exports_netloom_policy_socket_reap_event_free(event);
}

// Its plans destroy, and never ask. A hook is served whole nevertheless: nothing is to be destroyed.

void exports_netloom_policy_socket_reap_judge(
    exports_netloom_policy_socket_reap_event_t *event,
    exports_netloom_policy_socket_reap_list_bound_socket_t *sockets,
    plugin_list_bool_t *ret)
{
    ret->len = sockets->len;
    ret->ptr = ret->len == 0 ? NULL : calloc(ret->len, sizeof(*ret->ptr));
    exports_netloom_policy_socket_reap_event_free(event);
    exports_netloom_policy_socket_reap_list_bound_socket_free(sockets);
}

void exports_netloom_policy_socket_reap_judge_packed(
    exports_netloom_policy_socket_reap_event_t *event,
    plugin_list_u64_t *sockets,
    plugin_list_u64_t *ret)
{
    ret->len = (sockets->len / 10 + 63) / 64;
    ret->ptr = ret->len == 0 ? NULL : calloc(ret->len, sizeof(*ret->ptr));
    exports_netloom_policy_socket_reap_event_free(event);
    plugin_list_u64_free(sockets);
}
