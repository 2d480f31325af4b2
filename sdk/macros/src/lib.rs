//! The plugin attribute of netloom-sdk.
