//! Network devices, addresses, routes and neighbours, over rtnetlink.
