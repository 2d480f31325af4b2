//! sock_diag: finding and destroying sockets by exact tuple and cookie.
