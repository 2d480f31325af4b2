//! What this node's kernel can do, found by trying.
