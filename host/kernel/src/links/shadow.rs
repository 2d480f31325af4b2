//! Programs and filters that no packet reaches, because one in front of them always decides.

use netloom_core::model::{ChainEntry, Hook, HookPoint};

use super::{LinkError, Verdict, query, tc, verdict};
use crate::netns::Netns;

/// Something that no packet reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// Where it is.
    pub hook: Hook,
    /// What it is: a program's name and id, or a filter's kind and priority.
    pub what: String,
    /// What is in front of it.
    pub by: String,
    /// Where that is.
    pub at: HookPoint,
    /// Whether it is certain. Otherwise the one in front decides, and what it decides cannot be told from outside.
    pub certain: bool,
}

/// What no packet reaches on a side of a device: `point` and, where it is one of tcx, the same side's legacy tc.
/// What the kernel or the device does not have is not looked at.
///
/// # Errors
/// [`LinkError::DeviceGone`] and its like.
pub fn shadows(hook: &Hook, netns: &Netns) -> Result<Vec<Shadow>, LinkError> {
    let mut shadows = Vec::new();
    let mut ahead: Option<(String, bool)> = None;
    if !hook.point.is_legacy() {
        let entries = match query(hook, netns) {
            Ok(chain) => chain.entries,
            // Legacy tc of the same side is there all the same.
            Err(LinkError::Unsupported { .. } | LinkError::NotNetkit { .. } | LinkError::ViaPeer { .. }) => {
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let mut ends: Option<String> = None;
        for entry in &entries {
            if let Some(by) = &ends {
                shadows.push(Shadow {
                    hook: hook.clone(),
                    what: name(entry),
                    by: by.clone(),
                    at: hook.point,
                    certain: true,
                });
                continue;
            }
            let verdict = verdict(entry.program);
            if verdict.ends_chain() {
                ends = Some(name(entry));
            }
            match (&ahead, verdict.ends_tcx(), &verdict) {
                (None | Some((_, false)), true, _) => ahead = Some((name(entry), true)),
                (None, false, Verdict::Unknown) => ahead = Some((name(entry), false)),
                _ => {}
            }
        }
    }
    let Some(point) = hook.point.on(true) else { return Ok(shadows) };
    let legacy = Hook { point, ..hook.clone() };
    let mut ends = ahead.map(|(by, certain)| (by, hook.point, certain));
    for filter in tc::filters(&legacy, netns)? {
        if let Some((by, at, certain)) = &ends {
            shadows.push(Shadow {
                hook: legacy.clone(),
                what: filter.name.clone(),
                by: by.clone(),
                at: *at,
                certain: *certain,
            });
        }
        let is_final = match filter.program {
            Some(program) => filter.direct_action && verdict(program).ends_legacy(),
            None => filter.ends_for_all,
        };
        if is_final && ends.as_ref().is_none_or(|(_, _, certain)| !certain) {
            ends = Some((filter.name, point, true));
        }
    }
    Ok(shadows)
}

fn name(entry: &ChainEntry) -> String {
    format!("program {} (id {})", entry.name, entry.program)
}
