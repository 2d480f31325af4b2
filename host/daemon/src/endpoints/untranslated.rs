//! Endpoints whose sockets see services' addresses as they are: what runs in them, a service mesh, looks at these itself.

use netloom_core::model::{Endpoint, Labels, NetnsCookie, NetnsId};

use super::Endpoints;
use crate::failure::Failure;

impl Endpoints {
    /// The label of the configuration that leaves an endpoint out of service translation, if it has one.
    pub(crate) fn untranslated_by(&self, labels: &Labels) -> Option<&str> {
        self.config.datapath.untranslated.iter().map(String::as_str).find(|label| has(labels, label))
    }

    /// Before an endpoint is complete: nothing in it is to connect through a service first.
    pub(super) fn leave_untranslated(&self, endpoint: &Endpoint) -> Result<(), Failure> {
        if self.untranslated_by(&endpoint.spec.labels).is_some() {
            self.metrics.refused(self.datapath.set_untranslated(endpoint.netns_cookie, true))?;
        }
        Ok(())
    }

    /// After an endpoint has come to nothing or is gone: another in its namespace may be left out still. Under the
    /// namespace's lock.
    pub(super) fn translate_again(&self, gone: &Endpoint) -> Result<(), Failure> {
        if self.untranslated_by(&gone.spec.labels).is_none() || self.is_untranslated(gone.netns)? {
            return Ok(());
        }
        Ok(self.datapath.set_untranslated(gone.netns_cookie, false)?)
    }

    fn is_untranslated(&self, netns: NetnsId) -> Result<bool, Failure> {
        let endpoints = self.store.all::<Endpoint>()?;
        let mut here = endpoints.iter().filter(|(_, endpoint)| endpoint.netns == netns);
        Ok(here.any(|(_, endpoint)| self.untranslated_by(&endpoint.spec.labels).is_some()))
    }

    /// The labels of an endpoint whose record was lost, as far as the datapath knows them.
    pub(crate) fn found_labels(&self, netns: NetnsCookie) -> Result<Labels, Failure> {
        let known = self.datapath.untranslated()?.contains(&netns);
        let label = self.config.datapath.untranslated.first().filter(|_| known);
        let pair = label.map(|label| label.split_once('=').unwrap_or((label, "")));
        Ok(pair.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect())
    }

    /// At the start: endpoints may have gone meanwhile, and the configuration may name other labels.
    pub(super) fn adopt_untranslated(&self) -> Result<(), Failure> {
        let mut endpoints: Vec<Endpoint> =
            self.store.all::<Endpoint>()?.into_iter().map(|(_, endpoint)| endpoint).collect();
        endpoints.retain(|endpoint| self.untranslated_by(&endpoint.spec.labels).is_some());
        for netns in self.datapath.untranslated()? {
            if !endpoints.iter().any(|endpoint| endpoint.netns_cookie == netns) {
                self.datapath.set_untranslated(netns, false)?;
            }
        }
        endpoints.iter().try_for_each(|endpoint| self.leave_untranslated(endpoint))
    }
}

/// Whether there is a label, `KEY=VALUE` or `KEY`.
fn has(labels: &Labels, label: &str) -> bool {
    match label.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(label),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_looked_for_with_its_value_or_with_any() {
        let labels = Labels::from([("mesh".to_owned(), "on".to_owned())]);
        for (label, there) in
            [("mesh", true), ("mesh=on", true), ("mesh=off", false), ("mes", false), ("mesh=", false)]
        {
            assert_eq!(has(&labels, label), there, "{label}");
        }
    }
}
