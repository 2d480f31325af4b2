//! Sysctls of a namespace and its devices: `/proc/sys/net` shows those of the thread that looks.

use std::{fmt, fs, io, path::Path};

use super::{DeviceError, Devices};

/// An address family, as `/proc/sys/net` calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamily {
    /// `ipv4`.
    V4,
    /// `ipv6`.
    V6,
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        })
    }
}

/// A sysctl of one device, and the value to give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    path: String,
    value: String,
    optional: bool,
}

impl Sysctl {
    /// For a device: `net.FAMILY.conf.DEVICE.KEY = VALUE`.
    #[must_use]
    pub fn new(family: IpFamily, device: &str, key: &str, value: u32) -> Self {
        Self { path: path(family, device, key), value: value.to_string(), optional: false }
    }

    /// The value to give it.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Let a kernel without it go on without it.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

impl fmt::Display for Sysctl {
    /// As `sysctl` has it, with slashes where a device's name may have dots.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.path.trim_start_matches("/proc/sys/"))
    }
}

fn path(family: IpFamily, device: &str, key: &str) -> String {
    format!("/proc/sys/net/{family}/conf/{device}/{key}")
}

impl Devices {
    /// Sets sysctls in the namespace, in order. Blocks for some tens of microseconds.
    ///
    /// # Errors
    /// [`DeviceError::Sysctl`] names the first one that failed.
    pub fn set_sysctls(&self, sysctls: &[Sysctl]) -> Result<(), DeviceError> {
        let failed = self.netns().run(|| {
            for sysctl in sysctls {
                match write(Path::new(&sysctl.path), &sysctl.value) {
                    Err(error) if sysctl.optional && error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Some((sysctl.path.clone(), error)),
                    Ok(()) => {}
                }
            }
            None
        })?;
        match failed {
            None => Ok(()),
            Some((path, source)) => Err(DeviceError::Sysctl { path, netns: self.netns().id(), source }),
        }
    }

    /// Of these sysctls those that have another value, each with the one that it has; none where the kernel has no such
    /// sysctl and it is not optional. Blocks for some tens of microseconds.
    ///
    /// # Errors
    /// [`DeviceError::Sysctl`] names the first one that cannot be read.
    pub fn other_sysctls(&self, wanted: &[Sysctl]) -> Result<Vec<(Sysctl, Option<String>)>, DeviceError> {
        let read = self.netns().run(|| {
            let mut others = Vec::new();
            for sysctl in wanted {
                match fs::read_to_string(&sysctl.path) {
                    Ok(value) if value.trim() == sysctl.value => {}
                    Ok(value) => others.push((sysctl.clone(), Some(value.trim().to_owned()))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        others.extend((!sysctl.optional).then(|| (sysctl.clone(), None)));
                    }
                    Err(error) => return Err((sysctl.path.clone(), error)),
                }
            }
            Ok(others)
        })?;
        read.map_err(|(path, source)| DeviceError::Sysctl { path, netns: self.netns().id(), source })
    }

    /// The value of a sysctl of a device (or of `all` or `default`); none if the kernel has no such sysctl.
    ///
    /// # Errors
    /// [`DeviceError::Sysctl`].
    pub fn sysctl(&self, family: IpFamily, device: &str, key: &str) -> Result<Option<String>, DeviceError> {
        let path = path(family, device, key);
        match self.netns().run(|| fs::read_to_string(&path))? {
            Ok(value) => Ok(Some(value.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DeviceError::Sysctl { path, netns: self.netns().id(), source }),
        }
    }
}

/// Writes where the value differs: containers often have `/proc/sys` read-only and right already.
fn write(path: &Path, value: &str) -> io::Result<()> {
    if fs::read_to_string(path)?.trim() == value { Ok(()) } else { fs::write(path, value) }
}
