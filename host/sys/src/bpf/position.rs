use std::os::fd::BorrowedFd;

use super::{attr, raw};

/// Where in a chain a program goes.
#[derive(Clone, Copy, Debug)]
pub enum Position<'a> {
    /// In front of everything.
    Head,
    /// Behind everything.
    Tail,
    /// Just in front of an entry.
    Before(Relative<'a>),
    /// Just behind an entry.
    After(Relative<'a>),
}

/// An entry of a chain.
#[derive(Clone, Copy, Debug)]
pub enum Relative<'a> {
    /// By its link's id.
    LinkId(u32),
    /// By its link.
    Link(BorrowedFd<'a>),
    /// By its program's id. An entry that has a link is known by its link only.
    ProgramId(u32),
    /// By its program.
    Program(BorrowedFd<'a>),
}

impl Position<'_> {
    /// The kernel's flags, and its `relative_fd` or `relative_id`.
    pub(super) fn encode(self) -> (u32, u32) {
        match self {
            Self::Head => (attr::F_BEFORE, 0),
            Self::Tail => (attr::F_AFTER, 0),
            Self::Before(relative) => relative.encode(attr::F_BEFORE),
            Self::After(relative) => relative.encode(attr::F_AFTER),
        }
    }
}

impl Relative<'_> {
    fn encode(self, side: u32) -> (u32, u32) {
        match self {
            Self::LinkId(id) => (side | attr::F_LINK | attr::F_ID, id),
            Self::Link(fd) => (side | attr::F_LINK, raw(fd)),
            Self::ProgramId(id) => (side | attr::F_ID, id),
            Self::Program(fd) => (side, raw(fd)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_side_and_an_anchor() {
        assert_eq!(Position::Head.encode(), (0x8, 0));
        assert_eq!(Position::Tail.encode(), (0x10, 0));
        assert_eq!(Position::Before(Relative::LinkId(7)).encode(), (0x2028, 7));
        assert_eq!(Position::After(Relative::ProgramId(9)).encode(), (0x30, 9));
    }
}
