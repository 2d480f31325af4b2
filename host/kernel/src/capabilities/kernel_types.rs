//! What the kernel's BTF type information names.

use std::io;

use netloom_core::model::Support;

use super::{missing, there};
use crate::kernel_types::{self, PATH};

/// The kernel's type information, or why it cannot be read.
pub(super) struct KernelTypes(io::Result<&'static kernel_types::KernelTypes>);

impl KernelTypes {
    pub(super) fn read() -> Self {
        Self(kernel_types::KernelTypes::read())
    }

    pub(super) fn support(&self) -> Support {
        match &self.0 {
            Ok(_) => there(format!("{PATH} is readable")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing(format!(
                "no {PATH}: the kernel needs CONFIG_DEBUG_INFO_BTF, and sysfs mounted on /sys"
            )),
            Err(error) => missing(format!("{PATH}: {error}")),
        }
    }

    /// Whether there is a function of a name.
    pub(super) fn has(&self, function: &str) -> Support {
        self.names(function, self.function(function).is_some())
    }

    /// The id of a function, for programs that call it or are called by it.
    pub(super) fn function(&self, name: &str) -> Option<u32> {
        self.0.as_ref().ok()?.function(name)
    }

    /// How many programs a hook takes: the kernel keeps them in an array, with an empty item at the end.
    pub(super) fn chain_limit(&self) -> Support {
        const CHAIN: &str = "bpf_mprog_entry";
        match self.0.as_ref().ok().and_then(|types| types.first_array(CHAIN)) {
            Some(items) => {
                there(format!("{} programs on a hook, by {CHAIN} in {PATH}", items.saturating_sub(1)))
            }
            None => self.names(CHAIN, false),
        }
    }

    fn names(&self, name: &str, named: bool) -> Support {
        match &self.0 {
            Ok(_) if named => there(format!("{name} is in {PATH}")),
            Ok(_) => missing(format!("{name} is not in {PATH}")),
            Err(_) => missing(format!("{PATH} cannot be read")),
        }
    }
}
