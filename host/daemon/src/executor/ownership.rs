//! What proves that a device or a pin is ours. A name proves nothing, and neither does a sign that is missing.

use std::path::Path;

use netloom_api::types::EventKind;
use netloom_core::{
    model::{Device, IfIndex, Owner},
    plan::{Op, Plan},
};

use super::Executor;
use crate::{failure::Failure, naming};

impl Executor {
    /// Deletes a device of ours. One that cannot be proven ours stays, and is told of.
    pub(super) async fn delete_device(
        &self,
        name: &str,
        alias: &str,
        ifindex: Option<IfIndex>,
    ) -> Result<(), Failure> {
        let found = match ifindex {
            Some(index) => self.devices.by_index(index).await?,
            None => self.devices.get(name).await?,
        };
        if let Some(device) = &found
            && is_ours(device, name, alias, ifindex.is_some())
        {
            self.devices.delete(device.ifindex).await?;
            return Ok(());
        }
        let named = match found {
            Some(device) => Some(device),
            None => self.devices.get(name).await?,
        };
        if let Some(device) = named {
            let message = format!(
                "the device {} (index {}) stays: it is not the one that Netloom made under the name {name}",
                device.name, device.ifindex
            );
            self.events.add(EventKind::ForeignDevice, device.name, message);
        }
        Ok(())
    }

    /// An id for an attachment of an owner. Where a store was lost, its numbers begin anew, and some may be in use.
    pub(crate) fn attachment_id(&self, owner: &Owner) -> Result<String, Failure> {
        loop {
            let number = self.store.commit(|changes| changes.next("attachment"))?;
            let id = naming::attachment(owner, number);
            if !is_there(&naming::pin(&self.paths.bpffs, &id))? {
                return Ok(id);
            }
        }
    }

    /// Refuses a plan whose pins are somebody's already: whatever is found under their paths later is the plan's.
    pub(super) fn check_pins(&self, plan: &Plan) -> Result<(), Failure> {
        for op in &plan.before {
            let Op::Attach { id, .. } = op else { continue };
            let pin = naming::pin(&self.paths.bpffs, id);
            if is_there(&pin)? {
                return Err(Failure::conflict(format!(
                    "{} is pinned already, and no record says by whom",
                    pin.display()
                ))
                .hint("`netloom doctor` tells what it is"));
            }
        }
        Ok(())
    }
}

/// A device whose index we chose, and wrote down before it was made, is ours by its alias. The kernel gives a device
/// its alias just after its birth: one without was born as the daemon was killed. Where no index was written down, its
/// name and alias have to do.
fn is_ours(device: &Device, name: &str, alias: &str, index_known: bool) -> bool {
    match &device.alias {
        Some(found) => found == alias,
        None => index_known && device.name == name && device.mode.is_some(),
    }
}

fn is_there(pin: &Path) -> Result<bool, Failure> {
    pin.try_exists().map_err(|error| anyhow::anyhow!("{} cannot be looked at: {error}", pin.display()).into())
}

#[cfg(test)]
mod tests {
    use netloom_core::model::DeviceMode;

    use super::*;

    fn device(name: &str, alias: Option<&str>) -> Device {
        Device {
            name: name.into(),
            alias: alias.map(Into::into),
            mode: Some(DeviceMode::Veth),
            ..Device::default()
        }
    }

    #[test]
    fn an_alias_of_another_or_a_missing_one_is_no_proof() {
        assert!(is_ours(&device("up0", Some("ours")), "up0", "ours", true));
        assert!(is_ours(&device("renamed", Some("ours")), "up0", "ours", true));
        assert!(!is_ours(&device("up0", Some("theirs")), "up0", "ours", true));
        assert!(is_ours(&device("up0", None), "up0", "ours", true), "killed between birth and alias");
        assert!(!is_ours(&device("other", None), "up0", "ours", true));
        assert!(!is_ours(&device("up0", None), "up0", "ours", false), "a name alone");
    }
}
