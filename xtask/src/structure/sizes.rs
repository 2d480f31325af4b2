//! Files that are to stay small, as they would otherwise take in what belongs elsewhere.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::exceptions::{self, AllowedSize};

/// A file has fewer lines than this.
struct Limit {
    file: &'static str,
    lines: usize,
}

/// The node builds its parts and has no operations of its own.
const LIMITS: [Limit; 1] = [Limit { file: "host/daemon/src/node.rs", lines: 150 }];

/// What is too large, and what the list says without need.
pub(super) fn check(workspace: &Path, allowed: &[AllowedSize]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for Limit { file, lines: limit } in LIMITS {
        let text = fs::read_to_string(workspace.join(file))
            .with_context(|| format!("{file} is to stay small, and cannot be read"))?;
        let allowed = allowed.iter().find(|allowed| allowed.file == file);
        findings.extend(judge(file, text.lines().count(), limit, allowed));
    }
    let unlimited = allowed.iter().filter(|allowed| LIMITS.iter().all(|limit| limit.file != allowed.file));
    findings.extend(unlimited.map(|allowed| exceptions::stale(&format!("{} has no limit", allowed.file))));
    Ok(findings)
}

fn judge(file: &str, lines: usize, limit: usize, allowed: Option<&AllowedSize>) -> Option<String> {
    match allowed {
        Some(_) if lines < limit => Some(exceptions::stale(&format!("{file} has fewer than {limit} lines"))),
        Some(allowed) if lines <= allowed.lines => None,
        _ if lines < limit => None,
        Some(AllowedSize { lines: known, .. }) => {
            Some(format!("{file} has {lines} lines, and {} allows it {known}", exceptions::FILE))
        }
        None => Some(format!("{file} has {lines} lines, and is to have fewer than {limit}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_at_its_limit_is_reported() {
        assert_eq!(judge("a.rs", 149, 150, None), None);
        assert!(judge("a.rs", 150, 150, None).unwrap().contains("fewer than 150"));
    }

    #[test]
    fn a_file_that_is_known_to_be_large_may_not_grow_and_is_taken_from_the_list_when_it_is_small() {
        let allowed = AllowedSize { file: "a.rs".into(), lines: 300, _why: String::new() };
        assert_eq!(judge("a.rs", 300, 150, Some(&allowed)), None);
        assert!(judge("a.rs", 301, 150, Some(&allowed)).unwrap().contains("allows it 300"));
        assert!(judge("a.rs", 149, 150, Some(&allowed)).unwrap().contains("delete"));
    }
}
