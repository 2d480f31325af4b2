use std::fmt;

/// A question the host asks plugins: one exported interface of `netloom:policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Where programs go in a chain.
    AttachOrder,
    /// What kind of device and datapath an endpoint gets.
    DatapathMode,
    /// Which sockets are cut when a backend is gone.
    SocketReap,
    /// Configuration at the start, health afterwards.
    Lifecycle,
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 4] = [Self::AttachOrder, Self::DatapathMode, Self::SocketReap, Self::Lifecycle];

    /// The name, as in WIT, CLI and API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AttachOrder => "attach-order",
            Self::DatapathMode => "datapath-mode",
            Self::SocketReap => "socket-reap",
            Self::Lifecycle => "lifecycle",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
