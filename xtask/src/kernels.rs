//! `cargo xtask kernels`, and the table it shows: which kernel has what (`tests/kernels.toml`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::PathBuf,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::workspace;

/// Writes the table of kernels from tests/kernels.toml into docs/kernels.md
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// `cargo xtask kernels`.
pub(crate) fn main(_: &Args) -> Result<()> {
    let page = fs::read_to_string(page()).context("reading docs/kernels.md")?;
    fs::write(self::page(), with_table(&page, &Table::read()?)?).context("writing docs/kernels.md")
}

/// What stands around the table in the page.
const BEGIN: &str = "<!-- `cargo xtask kernels` writes what follows, from tests/kernels.toml -->\n";
const END: &str = "<!-- until here -->\n";

fn page() -> PathBuf {
    workspace::root().join("docs/kernels.md")
}

/// The page with the table in its place.
fn with_table(page: &str, table: &Table) -> Result<String> {
    let place =
        place(page).with_context(|| format!("docs/kernels.md has no place between {BEGIN}and {END}"))?;
    let (before, after) = (page.get(..place.start), page.get(place.end..));
    Ok(format!("{}\n{}\n{}", before.unwrap_or_default(), table.markdown(), after.unwrap_or_default()))
}

fn place(page: &str) -> Option<Range<usize>> {
    let start = page.find(BEGIN)? + BEGIN.len();
    Some(start..page.find(END).filter(|end| *end >= start)?)
}

/// Which kernel has what.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    kernels: Vec<Kernel>,
    /// By feature, a cell for each kernel.
    features: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kernel {
    name: String,
    /// `tested`, or `read` in the sources.
    seen: String,
    tier: Option<String>,
    release: Option<String>,
}

/// What one kernel has, and has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Column {
    /// Of each feature whether it is there; none where that varies.
    features: BTreeMap<String, Option<bool>>,
}

impl Column {
    /// Whether the kernel has a feature; none if that varies, or if that is no feature.
    pub(crate) fn has(&self, feature: &str) -> Option<bool> {
        self.features.get(feature).copied().flatten()
    }

    /// The features that it has, or that it has not, with commas between.
    pub(crate) fn list(&self, there: bool) -> String {
        let features = self.features.iter().filter(|(_, has)| **has == Some(there));
        features.map(|(feature, _)| feature.as_str()).collect::<Vec<_>>().join(",")
    }

    /// One with these features, and these not.
    #[cfg(test)]
    pub(crate) fn of(there: &[&str], missing: &[&str]) -> Self {
        let all = there.iter().map(|name| (name, true)).chain(missing.iter().map(|name| (name, false)));
        Self { features: all.map(|(name, has)| ((*name).to_owned(), Some(has))).collect() }
    }
}

impl Table {
    /// The one in the repository.
    pub(crate) fn read() -> Result<Self> {
        let path = workspace::root().join("tests/kernels.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let table: Self = toml::from_str(text)?;
        for (feature, cells) in &table.features {
            let (cells, kernels) = (cells.len(), table.kernels.len());
            ensure!(cells == kernels, "{feature} has {cells} cells for {kernels} kernels");
        }
        for (feature, cell) in
            table.features.iter().flat_map(|(name, cells)| cells.iter().map(move |cell| (name, cell)))
        {
            ensure!(has(cell).is_some(), "{feature}: {cell:?} begins with none of yes, no and varies");
        }
        for kernel in &table.kernels {
            ensure!(
                ["tested", "read"].contains(&kernel.seen.as_str()),
                "{} is {:?}",
                kernel.name,
                kernel.seen
            );
            ensure!(
                kernel.tier.is_none() || kernel.seen == "tested",
                "{} has a tier, and was not tested",
                kernel.name
            );
        }
        Ok(table)
    }

    /// What a tier's kernel has, if it is in the table. Of a tier that takes the machine's own kernel, the release is
    /// compared as well.
    pub(crate) fn column(&self, tier: &str, release: &str) -> Option<Column> {
        let of_tier = |kernel: &Kernel| {
            kernel.tier.as_deref() == Some(tier)
                && kernel.release.as_ref().is_none_or(|known| release_is(release, known))
        };
        let number = self.kernels.iter().position(of_tier)?;
        let cell = |cells: &Vec<String>| cells.get(number).and_then(|cell| has(cell)).flatten();
        Some(Column {
            features: self.features.iter().map(|(name, cells)| (name.clone(), cell(cells))).collect(),
        })
    }

    /// The features that it speaks of.
    pub(crate) fn features(&self) -> BTreeSet<String> {
        self.features.keys().cloned().collect()
    }

    /// As the page has it.
    fn markdown(&self) -> String {
        let mut text = String::from("| capability |");
        for kernel in &self.kernels {
            text.push_str(&format!(" {}, {} |", kernel.name, kernel.seen));
        }
        text.push_str(&format!("\n|---|{}\n", "---|".repeat(self.kernels.len())));
        for (feature, cells) in &self.features {
            text.push_str(&format!("| `{feature}` | {} |\n", cells.join(" | ")));
        }
        text
    }
}

/// Whether `6.18.44-cloud` is a release of `6.18`.
fn release_is(release: &str, known: &str) -> bool {
    release.strip_prefix(known).is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

/// Whether a cell begins with `yes` or `no`; none of those if with `varies`, from one build of the kernel to another.
fn has(cell: &str) -> Option<Option<bool>> {
    match cell.split([':', ',', ' ', ';']).next() {
        Some("yes") => Some(Some(true)),
        Some("no") => Some(Some(false)),
        Some("varies") => Some(None),
        _ => None,
    }
}

/// The release of the kernel that runs here.
pub(crate) fn running() -> Result<String> {
    let release =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("asking for the kernel's release")?;
    match release.trim() {
        "" => bail!("the kernel has no release"),
        release => Ok(release.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use netloom_core::model::Feature;

    use super::*;
    use crate::test::Tier;

    const TABLE: &str = r#"
        [[kernels]]
        name = "6.1 (Debian)"
        seen = "tested"
        tier = "vm-6.1"
        [[kernels]]
        name = "6.18"
        seen = "tested"
        tier = "netns"
        release = "6.18"
        [features]
        tcx = ["no", "yes"]
        netkit = ["no", "no: not configured"]
        af-xdp = ["yes", "varies: some builds refuse it"]
    "#;

    #[test]
    fn a_tier_has_the_column_of_its_kernel() {
        let table = Table::parse(TABLE).unwrap();
        let old = table.column("vm-6.1", "7.0").unwrap();
        assert_eq!((old.has("tcx"), old.has("netkit"), old.has("nothing")), (Some(false), Some(false), None));
        assert_eq!((old.list(true), old.list(false)), ("af-xdp".into(), "netkit,tcx".into()));
        let here = table.column("netns", "6.18.3-cloud").unwrap();
        assert_eq!((here.list(true), here.list(false)), ("tcx".into(), "netkit".into()));
        assert_eq!(here.has("af-xdp"), None);
        for release in ["6.180.1", "6.1", "7.0"] {
            assert_eq!(table.column("netns", release), None, "{release}");
        }
        assert!(table.column("unit", "6.18.3").is_none());
    }

    #[test]
    fn a_table_with_holes_is_refused() {
        for (from, to, why) in [
            (r#"["no", "yes"]"#, r#"["no"]"#, "1 cells for 2 kernels"),
            (r#"["no", "yes"]"#, r#"["no", "not sure"]"#, "none of yes, no and varies"),
            (r#"seen = "tested""#, r#"seen = "dreamt""#, "dreamt"),
            (r#"seen = "tested""#, r#"seen = "read""#, "was not tested"),
        ] {
            let error = Table::parse(&TABLE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_table_speaks_of_every_feature_and_of_every_tier_with_a_kernel() {
        let table = Table::read().unwrap();
        let mut features: Vec<_> = Feature::ALL.iter().map(|feature| feature.as_str()).collect();
        features.sort_unstable();
        assert_eq!(table.features.keys().collect::<Vec<_>>(), features);
        for tier in Tier::ALL.into_iter().filter(|tier| tier.kernel().is_some()) {
            assert!(table.column(tier.as_str(), "").is_some(), "{tier}");
        }
        for tier in table.kernels.iter().filter_map(|kernel| kernel.tier.as_ref()) {
            assert!(Tier::ALL.iter().any(|known| known.as_str() == tier), "{tier}");
        }
    }

    #[test]
    fn the_page_has_the_table() {
        let page = fs::read_to_string(page()).unwrap();
        let written = with_table(&page, &Table::read().unwrap()).unwrap();
        assert!(
            page == written,
            "docs/kernels.md is not as tests/kernels.toml says: run `cargo xtask kernels`"
        );
        assert!(with_table("a page without a place", &Table::read().unwrap()).is_err());
    }
}
