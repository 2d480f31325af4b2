//! What the glue of every kernel operation needs: the grant, the namespace, and errors as the guest sees them.

use netloom_core::{
    grants::{Access, Grants, Namespace},
    model::NetnsId,
};

use super::kernel::types as wit;
use crate::{
    operations::{OperationError, Operations},
    state::State,
};

impl From<OperationError> for wit::Error {
    fn from(error: OperationError) -> Self {
        let text = error.to_string();
        match error {
            OperationError::NotFound(_) => Self::NotFound(text),
            OperationError::Stale(_) => Self::Stale(text),
            OperationError::Invalid(_) => Self::Invalid(text),
            OperationError::Denied(_) => Self::Denied(text),
            OperationError::Unsupported(_) => Self::Unsupported(text),
            OperationError::Busy(_) => Self::Exhausted(text),
            OperationError::Failed(_) => Self::Kernel(text),
        }
    }
}

/// A granted operation's answer: an error is the guest's to handle.
pub(super) type Answer<T> = Result<T, wit::Error>;

pub(super) fn invalid(text: impl Into<String>) -> wit::Error {
    wit::Error::Invalid(text.into())
}

impl State {
    /// The node's operations. A component is linked with none unless the host has them.
    pub(super) fn operations(&self) -> Answer<std::sync::Arc<dyn Operations>> {
        let none = || wit::Error::Unsupported("this host carries out no kernel operations".to_owned());
        self.operations.clone().ok_or_else(none)
    }

    /// One kind of grant. What was not granted is not linked, so that a call without it is a bug of the linker's.
    pub(super) fn granted<G>(&self, name: &str, of: impl FnOnce(&Grants) -> Option<&G>) -> Answer<G>
    where
        G: Clone,
    {
        of(&self.grants).cloned().ok_or_else(|| wit::Error::Denied(format!("the grant `{name}` is missing")))
    }

    /// Refuses what a grant does not cover, and has it written down.
    pub(super) fn deny(&self, operation: &'static str, why: String) -> wit::Error {
        if let Some(operations) = &self.operations {
            operations.denied(&self.plugin, operation, &why);
        }
        wit::Error::Denied(why)
    }

    pub(super) fn check(
        &self,
        covered: bool,
        operation: &'static str,
        what: impl FnOnce() -> String,
    ) -> Answer<()> {
        if covered {
            Ok(())
        } else {
            Err(self.deny(operation, format!("the grant does not cover {}", what())))
        }
    }

    pub(super) fn check_mutate(&self, access: Access, grant: &str, operation: &'static str) -> Answer<()> {
        match access {
            Access::Mutate => Ok(()),
            Access::Read => Err(self.deny(
                operation,
                format!("the grant `{grant}` is for reading: it needs access = \"mutate\""),
            )),
        }
    }

    /// The namespaces that the node or the plugin's grants know.
    pub(super) async fn namespaces(&self) -> Answer<Vec<Namespace>> {
        let mut paths: Vec<_> = self.grants.namespace_paths().cloned().collect();
        paths.sort();
        paths.dedup();
        Ok(self.operations()?.namespaces(&paths).await?)
    }

    /// A namespace by its identity. One can be known in several ways: `covered` picks the one a grant names.
    pub(super) async fn namespace(
        &self,
        id: wit::NetnsId,
        operation: &'static str,
        covered: impl Fn(&Namespace) -> bool,
    ) -> Answer<Namespace> {
        let id = NetnsId::from(id);
        let mut known: Vec<Namespace> =
            self.namespaces().await?.into_iter().filter(|namespace| namespace.id == id).collect();
        if let Some(at) = known.iter().position(covered) {
            return Ok(known.swap_remove(at));
        }
        match known.first() {
            Some(namespace) => {
                Err(self.deny(operation, format!("the grant does not cover this in {namespace}")))
            }
            None => Err(wit::Error::NotFound(format!(
                "the network namespace {id} is neither the node's nor an endpoint's, and no grant names it"
            ))),
        }
    }
}
