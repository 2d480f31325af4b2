//! Which tests are expected not to run, in which tier, and why: for want of a feature that the tier's kernel has not
//! (`tests/kernels.toml`), or because `tests/skips.toml` says so.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::{
    libtest::{Report, Skip},
    tier::Tier,
};
use crate::{
    kernels::{self, Column, Table},
    workspace,
};

/// Where those are listed.
const FILE: &str = "tests/skips.toml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    skip: Vec<Listed>,
}

/// A test that is expected not to run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    tiers: Vec<String>,
    program: String,
    test: String,
    needs: String,
    /// For those who read the file.
    why: String,
}

/// What is expected of a tier's tests.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    features: BTreeSet<String>,
    /// What its kernel has; none if nobody has said, and then it may have what it likes.
    column: Option<Column>,
    listed: Vec<Listed>,
}

impl Expected {
    /// Of a tier, on this machine.
    ///
    /// # Errors
    /// If the files cannot be read, and in CI if the table has no such kernel.
    pub(crate) fn of(tier: Tier, ci: bool) -> Result<Self> {
        let (table, release) = (Table::read()?, kernels::running()?);
        let path = workspace::root().join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let file = parse(&text).with_context(|| path.display().to_string())?;
        let column = match tier.kernel() {
            Some(_) => table.column(tier.as_str(), &release),
            // On a machine of a user's, tests take the kernel as it is.
            None if !ci => None,
            None => table.column(Tier::Netns.as_str(), &release),
        };
        if column.is_none() && (ci || tier.kernel().is_some()) {
            bail!(
                "tests/kernels.toml does not say what Linux {release} has, which {tier} runs on: add a column"
            );
        }
        let listed =
            file.into_iter().filter(|listed| listed.tiers.iter().any(|name| name == tier.as_str())).collect();
        Ok(Self { features: table.features(), column, listed })
    }

    /// The variables that tell the tests what must be there, and what must not.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let lists = self.column.iter().flat_map(|column| {
            [("NETLOOM_REQUIRE", column.list(true)), ("NETLOOM_MISSING", column.list(false))]
        });
        lists.map(|(name, list)| (name.to_owned(), list)).collect()
    }

    /// Whether it is expected that a test does not run; if not, why.
    pub(crate) fn judge(&self, program: &str, skip: &Skip) -> Result<(), String> {
        let (feature, wanted) = match skip.needs.strip_prefix("no ") {
            Some(feature) => (feature, false),
            None => (skip.needs.as_str(), true),
        };
        if self.features.contains(feature) {
            return match self.column.as_ref().and_then(|column| column.has(feature)) {
                Some(has) if has == wanted => Err(format!(
                    "the kernel {} {feature} by tests/kernels.toml: mend that, or the kernel",
                    if has { "has" } else { "has no" }
                )),
                _ => Ok(()),
            };
        }
        if self.listed.iter().any(|listed| listed.is(program, &skip.test) && listed.needs == skip.needs) {
            return Ok(());
        }
        Err(format!("{}; or, where it cannot be had, list the test in {FILE}", skip.way_out))
    }

    /// What is listed of a program and had no effect: its test ran, or, where every test was asked for, is not there.
    /// Nothing is known of those that the tier leaves out.
    pub(crate) fn stale(
        &self,
        program: &str,
        report: &Report,
        complete: bool,
        left_out: &BTreeSet<String>,
    ) -> Vec<String> {
        let skipped = |listed: &Listed| {
            report.skips.iter().any(|skip| skip.test == listed.test && skip.needs == listed.needs)
        };
        let of_program = self.listed.iter().filter(|listed| listed.program == program && !skipped(listed));
        of_program
            .filter(|listed| !left_out.contains(&listed.test))
            .filter(|listed| complete || report.ran.contains(&listed.test))
            .map(|listed| {
                format!(
                    "{FILE} lists {program} {} for want of {}, and it was not skipped for that: remove the entry",
                    listed.test, listed.needs
                )
            })
            .collect()
    }

    /// With nothing listed, and any kernel.
    #[cfg(test)]
    pub(crate) fn nothing() -> Self {
        Self { features: BTreeSet::new(), column: None, listed: Vec::new() }
    }
}

impl Listed {
    fn is(&self, program: &str, test: &str) -> bool {
        self.program == program && self.test == test
    }
}

fn parse(text: &str) -> Result<Vec<Listed>> {
    let file: File = toml::from_str(text)?;
    for listed in &file.skip {
        for tier in &listed.tiers {
            ensure!(
                Tier::ALL.iter().any(|known| known.as_str() == tier),
                "{}: {tier} is no tier",
                listed.test
            );
        }
        ensure!(
            !listed.tiers.is_empty() && !listed.why.is_empty(),
            "{}: in which tiers, and why?",
            listed.test
        );
    }
    Ok(file.skip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Expected {
        let listed = r#"
            [[skip]]
            tiers = ["vm-6.1"]
            program = "x"
            test = "with::unicorns"
            needs = "a unicorn"
            why = "there is none"
        "#;
        Expected {
            features: ["tcx", "netkit"].map(str::to_owned).into(),
            column: Some(Column::of(&["tcx"], &["netkit"])),
            listed: parse(listed).unwrap(),
        }
    }

    fn skip(test: &str, needs: &str) -> Skip {
        Skip { test: test.into(), needs: needs.into(), way_out: "catch one".into() }
    }

    #[test]
    fn what_the_kernel_lacks_is_a_reason_and_what_it_has_is_none() {
        let expected = expected();
        assert_eq!(expected.judge("x", &skip("a", "netkit")), Ok(()));
        assert_eq!(expected.judge("x", &skip("a", "no tcx")), Ok(()));
        let error = expected.judge("x", &skip("a", "tcx")).unwrap_err();
        assert!(error.contains("the kernel has tcx by tests/kernels.toml"), "{error}");
        let error = expected.judge("x", &skip("a", "no netkit")).unwrap_err();
        assert!(error.contains("the kernel has no netkit"), "{error}");
        let environment = expected.environment();
        assert_eq!(
            environment,
            [("NETLOOM_REQUIRE", "tcx"), ("NETLOOM_MISSING", "netkit")].map(|(a, b)| (a.into(), b.into()))
        );
    }

    #[test]
    fn on_a_kernel_that_nobody_knows_any_feature_is_a_reason_and_nothing_else() {
        let expected = Expected { column: None, ..expected() };
        for needs in ["netkit", "tcx", "no netkit", "no tcx"] {
            assert_eq!(expected.judge("x", &skip("a", needs)), Ok(()));
        }
        assert!(expected.judge("x", &skip("a", "python3")).is_err());
        assert_eq!(expected.environment(), []);
    }

    #[test]
    fn anything_else_is_listed_by_program_test_and_reason() {
        let expected = expected();
        assert_eq!(expected.judge("x", &skip("with::unicorns", "a unicorn")), Ok(()));
        for (program, test, needs) in [
            ("y", "with::unicorns", "a unicorn"),
            ("x", "with", "a unicorn"),
            ("x", "with::unicorns", "a horse"),
        ] {
            let error = expected.judge(program, &skip(test, needs)).unwrap_err();
            assert!(error.contains("catch one") && error.contains("tests/skips.toml"), "{error}");
        }
    }

    #[test]
    fn what_is_listed_and_ran_is_stale_and_so_is_what_is_not_there() {
        let (expected, report) = (expected(), Report::default());
        let skipped = Report { skips: vec![skip("with::unicorns", "a unicorn")], ..Report::default() };
        let ran = Report { ran: ["with::unicorns".to_owned()].into(), ..Report::default() };
        for complete in [true, false] {
            assert!(expected.stale("x", &skipped, complete, &BTreeSet::new()).is_empty());
            assert!(expected.stale("y", &ran, complete, &BTreeSet::new()).is_empty());
            assert_eq!(expected.stale("x", &ran, complete, &BTreeSet::new()).len(), 1);
            assert_eq!(expected.stale("x", &report, complete, &BTreeSet::new()).len(), usize::from(complete));
            let left_out = BTreeSet::from(["with::unicorns".to_owned()]);
            assert!(expected.stale("x", &report, complete, &left_out).is_empty());
        }
    }

    #[test]
    fn the_list_is_of_tiers_that_there_are() {
        for tier in Tier::ALL {
            Expected::of(tier, false).unwrap();
        }
        let error = parse("[[skip]]\ntiers = ['vm-1']\nprogram = 'x'\ntest = 'y'\nneeds = 'z'\nwhy = 'w'")
            .unwrap_err();
        assert!(error.to_string().contains("vm-1 is no tier"), "{error}");
    }
}
