//! How a test says that it cannot run: as a whole, before it does anything, in a line that `cargo xtask test` counts.

use std::{cell::Cell, env, thread};

use netloom_core::model::Feature;

use crate::kernel_has;

thread_local! {
    /// Whether the test on this thread has said that it does not run. Each test has a thread of its own.
    static SKIPPED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a test that needs this can run. If not, the test is to return:
///
/// ```no_run
/// # use netloom_core::model::Feature;
/// # use netloom_test_support::require;
/// if !require(Feature::Netkit) {
///     return;
/// }
/// ```
///
/// What the kernel has is found without the code under test, which could hide its own failure otherwise.
///
/// # Panics
/// If `NETLOOM_REQUIRE`, a list of features with commas between, names it: on the kernel that this is set for, a
/// missing feature is a failure. Also if the list names something that is no feature, and if the test has said already
/// that it does not run: a test runs as a whole or not at all.
#[must_use]
pub fn require(feature: Feature) -> bool {
    begin();
    if kernel_has(feature) {
        return true;
    }
    assert!(
        !listed("NETLOOM_REQUIRE").contains(&feature),
        "NETLOOM_REQUIRE names {feature}, which this kernel does not have"
    );
    skip(feature.as_str(), "tests/kernels.toml says which kernels have it")
}

/// The same for several at once.
///
/// # Panics
/// As [`require`].
#[must_use]
pub fn require_all(features: &[Feature]) -> bool {
    features.iter().all(|feature| require(*feature))
}

/// The same for a test that needs a kernel without this.
///
/// # Panics
/// As [`require`]; `NETLOOM_MISSING` lists what must not be there.
#[must_use]
pub fn require_without(feature: Feature) -> bool {
    begin();
    if !kernel_has(feature) {
        return true;
    }
    assert!(
        !listed("NETLOOM_MISSING").contains(&feature),
        "NETLOOM_MISSING names {feature}, which this kernel has"
    );
    skip(&format!("no {feature}"), "tests/kernels.toml says which kernels have it")
}

/// The same for a program that is looked for in `PATH`, and where only root's `PATH` looks.
///
/// # Panics
/// If the test has said already that it does not run.
#[must_use]
pub fn require_tool(program: &str, way_out: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(Into::into);
    let there = env::split_paths(&path).chain(more).any(|dir| dir.join(program).is_file());
    require_condition(there, program, way_out)
}

/// The same for anything else, which a few words name, always the same: `root`, `wasi-libc`. The way out says how
/// whoever reads it comes by that.
///
/// # Panics
/// If the test has said already that it does not run.
#[must_use]
pub fn require_condition(there: bool, what: &str, way_out: &str) -> bool {
    begin();
    there || skip(what, way_out)
}

/// The same for the rights to do everything.
///
/// # Panics
/// If the test has said already that it does not run.
#[must_use]
pub fn require_root() -> bool {
    require_condition(rustix::process::geteuid().is_root(), "root", "run it as root")
}

/// One test a way: each of these functions becomes a module of tests, one for each way, which is skipped as a whole where
/// a feature is missing. A loop over ways would hide the second failure behind the first, and would run in part.
///
/// ```
/// # use netloom_core::model::Feature;
/// # use netloom_test_support::each_way;
/// fn a_program_is_attached(mode: &str) {
///     assert!(mode.starts_with("tc"));
/// }
///
/// each_way!(a_program_is_attached; {
///     tcx: [Feature::Tcx] => "tcx",
///     tc: [Feature::LegacyTc] => "tc",
/// });
/// ```
///
/// That makes the tests `a_program_is_attached::tcx` and `a_program_is_attached::tc`. With `async` in front, the
/// functions are so, and run on tokio.
#[macro_export]
macro_rules! each_way {
    (@one $test:ident { $($way:ident: [$($feature:expr),*] => $value:expr),+ $(,)? }) => {
        mod $test {
            #[allow(unused_imports, reason = "what the features and the value are made of")]
            use super::*;
            $(
                #[test]
                fn $way() {
                    if $crate::require_all(&[$($feature),*]) {
                        super::$test($value);
                    }
                }
            )+
        }
    };
    (@one_async $test:ident { $($way:ident: [$($feature:expr),*] => $value:expr),+ $(,)? }) => {
        mod $test {
            #[allow(unused_imports, reason = "what the features and the value are made of")]
            use super::*;
            $(
                #[tokio::test]
                async fn $way() {
                    if $crate::require_all(&[$($feature),*]) {
                        super::$test($value).await;
                    }
                }
            )+
        }
    };
    (async $($test:ident),+ $(,)?; $ways:tt) => { $($crate::each_way!(@one_async $test $ways);)+ };
    ($($test:ident),+ $(,)?; $ways:tt) => { $($crate::each_way!(@one $test $ways);)+ };
}

/// What the variables say of a feature, which is what `tests/kernels.toml` says of this kernel: whether it is there.
/// None if they are not set.
///
/// # Panics
/// If one of them names something that is no feature.
#[must_use]
pub fn expected(feature: Feature) -> Option<bool> {
    let lists = |variable| listed(variable).contains(&feature);
    if lists("NETLOOM_REQUIRE") { Some(true) } else { lists("NETLOOM_MISSING").then_some(false) }
}

/// The features that a variable lists, with commas between.
fn listed(variable: &str) -> Vec<Feature> {
    let list = env::var(variable).unwrap_or_default();
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(|name| parse(variable, name)).collect()
}

fn parse(variable: &str, name: &str) -> Feature {
    let found = Feature::ALL.into_iter().find(|feature| feature.as_str() == name);
    found.unwrap_or_else(|| panic!("{variable} names {name:?}, which is no feature"))
}

fn begin() {
    assert!(
        !SKIPPED.get(),
        "the test has said that it does not run, and goes on: a test runs as a whole or not at all, so let each way \
         be a test of its own"
    );
}

/// Says that the test does not run. Read by `xtask/src/test/libtest.rs`.
fn skip(what: &str, way_out: &str) -> bool {
    SKIPPED.set(true);
    println!("skipped: {}: needs {what}; {way_out}", thread::current().name().unwrap_or("a test"));
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_can_be_named() {
        for feature in Feature::ALL {
            assert_eq!(parse("X", feature.as_str()), feature);
        }
    }

    #[test]
    #[should_panic(expected = "which is no feature")]
    fn another_name_is_refused() {
        parse("X", "netkitt");
    }

    #[test]
    fn a_tool_is_looked_for() {
        assert!(require_tool("sh", "there is always one"));
    }

    /// On a thread of its own: a test that says so is counted as skipped.
    fn on_another_thread(test: impl FnOnce() + Send + 'static) -> thread::Result<()> {
        thread::Builder::new().name("another".to_owned()).spawn(test).expect("a thread").join()
    }

    #[test]
    fn a_test_that_does_not_run_says_so_once_and_does_nothing_more() {
        let ended = on_another_thread(|| assert!(!require_condition(false, "a unicorn", "catch one")));
        assert!(ended.is_ok());
        for more in [true, false] {
            let ended = on_another_thread(move || {
                assert!(!require_condition(false, "a unicorn", "catch one"));
                let _ = require_condition(more, "a horse", "buy one");
            });
            let panic = ended.expect_err("it went on");
            let text = panic.downcast_ref::<&str>().copied().unwrap_or_default();
            assert!(text.contains("each way"), "{text}");
        }
    }
}
